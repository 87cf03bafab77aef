"""Logs: one line an event, for people or for machines; what is secret or personal is taken out before it is written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal, TextIO, cast

import structlog

_SECRET_KEY = re.compile(
    r"token|authorization|password|passwd|secret|api_?key|credential|cookie|signature|private|^key$|_key$",
    re.IGNORECASE,
)
_PERSONAL_KEY = re.compile(r"phone|address|email|recipient|^to$|^msisdn$", re.IGNORECASE)
_CONTENT_KEY = re.compile(r"^(text|html|body|subject|content|variables)$", re.IGNORECASE)
_DIGITS = re.compile(r"\d[\d ()/.-]{4,}\d")
_EMAIL = re.compile(r"([A-Za-z0-9._%+-]{1,64})@([A-Za-z0-9.-]+)")
_IN_ANY_TEXT = (
    (re.compile(r"(://[^/@\s:]*):[^/@\s]+@"), r"\1:***@"),  # a password in a URL
    (re.compile(r"\b(ak_[A-Za-z0-9]{22})_[A-Za-z0-9_-]+"), r"\1_***"),  # an API key: the organization stays
    (re.compile(r"(?i)\b(bearer|basic) [A-Za-z0-9._~+/=-]{6,}"), r"\1 ***"),
    (re.compile(r"(?i)([?&](?:access_token|token|secret|signature|key)=)[^&\s]+"), r"\1***"),
    (re.compile(r"(?i)\b(password=)[^\s'\"]+"), r"\1***"),
)
_MAX_DEPTH = 6


def setup(
    level: str = "info", form: Literal["console", "json"] = "console", stream: TextIO | None = None
) -> None:
    """Write everything, also what libraries log, through one handler to `stream` (standard error unless said)."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    target = stream or sys.stderr
    last: structlog.types.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=target.isatty())
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("asyncio", "aiohttp", "psycopg.pool", "uvicorn.error"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `log.info("blast_launched", campaign_id=…)`. The event is a name; facts are keywords."""
    return structlog.stdlib.get_logger(name)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor that hides secrets whole, people's addresses in part, and what was said to them altogether."""
    return {key: _clean(key, value, 0) for key, value in event.items()}


def _clean(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if _SECRET_KEY.search(key):
        return "***"
    if _CONTENT_KEY.search(key):
        return f"({len(value)} characters)" if isinstance(value, str | bytes) else "(hidden)"
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        entries = cast(Mapping[Any, Any], value)
        return {str(name): _clean(str(name), inner, depth + 1) for name, inner in entries.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [_clean(key, inner, depth + 1) for inner in cast(Sequence[Any], value)]
    if isinstance(value, int):
        return mask(str(value)) if _PERSONAL_KEY.search(key) else value
    text = scrub(value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else str(value))
    return mask(text) if _PERSONAL_KEY.search(key) else text


def scrub(text: str) -> str:
    """The text without the secrets whose shape is known: passwords in URLs, API keys, bearer tokens."""
    for pattern, replacement in _IN_ANY_TEXT:
        text = pattern.sub(replacement, text)
    return text


def mask(text: str) -> str:
    """Phone numbers and email addresses, recognizable to who knows them: `+4917…67`, `a…@example.com`."""
    text = _EMAIL.sub(lambda found: f"{found[1][0]}…@{found[2]}", text)
    return _DIGITS.sub(lambda found: f"{found[0][:4]}…{found[0][-2:]}", text)
