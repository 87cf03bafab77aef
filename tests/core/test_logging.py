"""Nothing secret reaches a log, at any level, by any road."""

import io
import logging as stdlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import structlog

from antiphon.core import logging

SECRET = "hunter2-hunter2"
TOKEN = "ak_0123456789ABCDEFGHIJKL_sEcReTsEcReT"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = stdlib.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logging.setup("debug", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("name", ["debug", "info", "warning", "error"])
@pytest.mark.parametrize(
    "facts",
    [
        {"token": SECRET},
        {"Authorization": f"Bearer {SECRET}"},
        {"api_key": SECRET},
        {"credentials": {"user": SECRET}},
        {"account": {"webhook_secret": SECRET, "list": [{"password": SECRET}]}},
        {"url": f"postgresql://app:{SECRET}@db/antiphon"},
        {"url": f"https://example.com/send?access_token={SECRET}"},
        {"note": f"Authorization: Bearer {SECRET}"},
        {"text": SECRET},
        {"body": SECRET.encode()},
        {"variables": {"name": SECRET}},
        {"object": {"a": {"b": {"c": {"d": {"e": {"f": {"g": SECRET}}}}}}}},
    ],
    ids="-".join,
)
def test_a_secret_is_taken_out_wherever_it_stands(
    lines: io.StringIO, name: str, facts: dict[str, Any]
) -> None:
    getattr(logging.get("test"), name)("something_happened", **facts)
    written = lines.getvalue()
    assert "something_happened" in written
    assert SECRET not in written


def test_an_api_key_in_a_sentence_or_a_library_s_log_or_a_traceback_is_taken_out(lines: io.StringIO) -> None:
    logging.get("test").info(f"signed in with {TOKEN}")
    stdlib.getLogger("somebody.else").warning("key %s at %s", TOKEN, f"amqp://u:{SECRET}@h")
    try:
        raise RuntimeError(f"could not use {TOKEN}")
    except RuntimeError:
        logging.get("test").exception("failed")
    written = lines.getvalue()
    assert "sEcReT" not in written
    assert SECRET not in written
    assert written.count("ak_0123456789ABCDEFGHIJKL_***") == 3


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("phone", "+491701234567", "+4917…67"),
        ("address", "anna@example.com", "a…@example.com"),
        ("recipient", ["+49 170 1234567"], ["+49 1…67"]),
        ("phone", 491701234567, "4917…67"),
        ("count", 491701234567, 491701234567),
        ("campaign_id", "0198-1234567890", "0198-1234567890"),
    ],
)
def test_people_stay_recognizable_only_to_who_knows_them(
    lines: io.StringIO, key: str, value: Any, shown: Any
) -> None:
    logging.get("test").info("sent", **{key: value})
    assert msgspec.json.decode(lines.getvalue())[key] == shown


def test_a_line_is_json_with_time_level_and_name(lines: io.StringIO) -> None:
    logging.get("antiphon.test").info("started", port=8400, nothing=None)
    line = msgspec.json.decode(lines.getvalue())
    assert (line["event"], line["level"], line["logger"], line["port"]) == (
        "started",
        "info",
        "antiphon.test",
        8400,
    )
    assert line["timestamp"].endswith("Z")


def test_what_is_below_the_level_is_not_written(lines: io.StringIO) -> None:
    logging.setup("warning", "console", lines)
    logging.get("test").info("quiet")
    logging.get("test").warning("loud")
    assert "quiet" not in lines.getvalue()
    assert "loud" in lines.getvalue()
