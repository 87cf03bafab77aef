"""Every setting: one table, read once from the environment, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from antiphon.core import failpoints


class SettingsError(ValueError):
    """The environment asks what cannot be done; the text names each variable, its value and the remedy."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What this process was told from outside."""

    database_url: str | None = None
    app_database_url: str | None = None
    worker_database_url: str | None = None
    pooler: bool = False
    app_pool_size: int = 10
    worker_pool_size: int = 8
    public_url: str = "http://127.0.0.1:8400"
    host: str = "127.0.0.1"
    port: int = 8400
    trusted_proxies: tuple[str, ...] = ()
    private_hosts: bool = False
    data_dir: Path = Path("~/.local/share/antiphon")
    secret_key: str | None = None
    environment: Literal["development", "production"] = "development"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    lease_seconds: float = 15.0
    provider_connections: int = 512
    organization: str | None = None
    failpoints: str = ""

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def is_embedded(self) -> bool:
        """No database was named, so Antiphon runs its own."""
        return not (self.database_url or self.app_database_url or self.worker_database_url)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read and check all of them. Raises SettingsError, which names every wrong variable, not only the first."""
        given = os.environ if environ is None else environ
        wrong = [_unknown(name) for name in sorted(given) if _is_ours(name) and name not in _BY_VARIABLE]
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            text = given.get(setting.variable, "").strip()
            if not text:
                continue
            try:
                values[setting.name] = setting.parse(text)
            except ValueError as error:
                shown = "***" if setting.is_secret else repr(text)
                wrong.append(f"{setting.variable} is {shown}: {error}")
        settings = cls(**values)
        if settings.is_production and settings.failpoints:
            wrong.append(
                f"ANTIPHON_FAILPOINTS is {settings.failpoints!r}: production does not start with it; unset it"
            )
        if wrong:
            raise SettingsError("\n".join(wrong))
        return msgspec.structs.replace(settings, data_dir=settings.data_dir.expanduser().absolute())


class Setting(msgspec.Struct, frozen=True):
    """One line of docs/settings.md."""

    name: str
    variable: str
    default: str
    meaning: str
    parse: Callable[[str], Any] = str
    is_secret: bool = False


def _is_ours(name: str) -> bool:
    return name.startswith("ANTIPHON_") and not name.startswith(("ANTIPHON_TEST_", "ANTIPHON_BENCH_"))


def _unknown(name: str) -> str:
    return f"{name} is not a setting; unset it, or use one of {', '.join(sorted(_BY_VARIABLE))}"


def _flag(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("must be yes or no")


def _between(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return value

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text.lower()

    return parse


def _postgres(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be like postgresql://user:password@host:5432/database")
    return text


def _web(text: str) -> str:
    if not text.startswith(("http://", "https://")) or " " in text:
        raise ValueError("must be like https://messages.example.com, without a path")
    return text.rstrip("/")


def _secret(text: str) -> str:
    if any(len(key.strip()) < 32 for key in text.split(",")):
        raise ValueError("each key must have at least 32 characters; make one with: openssl rand -base64 32")
    return text


def _failpoints(text: str) -> str:
    failpoints.arm(text)
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


SETTINGS: tuple[Setting, ...] = (
    Setting("database_url", "ANTIPHON_DATABASE_URL", "an embedded PostgreSQL",
            "The owner's database, PostgreSQL 15 or newer; used by `migrate` and to create the two roles",
            _postgres, True),
    Setting("app_database_url", "ANTIPHON_APP_DATABASE_URL", "made from the owner's",
            "How the server signs in: as antiphon_app, under row-level security", _postgres, True),
    Setting("worker_database_url", "ANTIPHON_WORKER_DATABASE_URL", "made from the owner's",
            "How the worker signs in: as antiphon_worker", _postgres, True),
    Setting("pooler", "ANTIPHON_POOLER", "no",
            "The database is behind a pooler in transaction mode: no prepared statements are kept", _flag),
    Setting("app_pool_size", "ANTIPHON_APP_POOL_SIZE", "10", "Most database connections of one server", _whole(1, 500)),
    Setting("worker_pool_size", "ANTIPHON_WORKER_POOL_SIZE", "8", "Most database connections of one worker",
            _whole(2, 500)),
    Setting("public_url", "ANTIPHON_PUBLIC_URL", "http://127.0.0.1:8400",
            "Where providers and people reach us: webhooks, signatures, links in messages", _web),
    Setting("host", "ANTIPHON_HOST", "127.0.0.1", "The address the server listens on"),
    Setting("port", "ANTIPHON_PORT", "8400", "The port the server listens on; 0 takes a free one", _whole(0, 65535)),
    Setting("trusted_proxies", "ANTIPHON_TRUSTED_PROXIES", "none",
            "Addresses of the proxies whose X-Forwarded-For is believed, with commas between", _words),
    Setting("private_hosts", "ANTIPHON_PRIVATE_HOSTS", "no",
            "Customers' URLs may point into private networks; the demo needs it, the internet does not", _flag),
    Setting("data_dir", "ANTIPHON_DATA_DIR", "~/.local/share/antiphon",
            "The folder of the embedded database, of media and of the key file", Path),
    Setting("secret_key", "ANTIPHON_SECRET_KEY", "a key file in the data folder",
            "What providers' credentials are encrypted with, at least 32 characters; several with commas between: "
            "the first encrypts, all decrypt", _secret, True),
    Setting("environment", "ANTIPHON_ENV", "development", "development or production",
            _one_of("development", "production")),
    Setting("log_level", "ANTIPHON_LOG_LEVEL", "info", "debug, info, warning or error",
            _one_of("debug", "info", "warning", "error")),
    Setting("log_format", "ANTIPHON_LOG_FORMAT", "console", "console for people, json for machines",
            _one_of("console", "json")),
    Setting("lease_seconds", "ANTIPHON_LEASE_SECONDS", "15",
            "How long a worker owns a sender without saying so again, in seconds", _between(1, 300)),
    Setting("provider_connections", "ANTIPHON_PROVIDER_CONNECTIONS", "512",
            "Most HTTP connections of one worker to providers; a sender has its own limit of calls at once",
            _whole(1, 4096)),
    Setting("organization", "ANTIPHON_ORGANIZATION", "the only one",
            "The organization that the command line works for: its id or its short name"),
    Setting("failpoints", "ANTIPHON_FAILPOINTS", "none",
            "For tests of crashes only; production refuses to start with it", _failpoints),
)  # fmt: skip

_BY_VARIABLE = {setting.variable: setting for setting in SETTINGS}
