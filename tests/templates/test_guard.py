"""What a version must stand before it is saved: its variables, its channel, and a trial under limits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import msgspec
import pytest
import uvloop
from msgspec import structs

from antiphon.core.channel import Channel
from antiphon.core.errors import FieldError, Invalid
from antiphon.templates import child, guard
from antiphon.templates.child import Trial, try_out
from antiphon.templates.model import Approved, TemplateVersion, Variable
from antiphon.templates.render import PartFault
from tests.templates.samples import AT, email, version


def errors_of(one: TemplateVersion) -> list[FieldError]:
    with pytest.raises(Invalid) as refused:
        guard.check_text(one)
    return refused.value.errors


def test_an_unknown_variable_is_named_with_the_known_ones_and_the_remedy() -> None:
    [error] = errors_of(version("Hallo\n{{ frstName }}", variables={"tier": Variable("gold")}))
    assert error.field == "text"
    for part in (
        "line 2",
        "frstName is not a known variable",
        "did you mean firstName?",
        "bookingRef",
        "tier",
    ):
        assert part in error.message
    assert '"variables": {"frstName": {"sample": "…"}}' in error.message


def test_every_wrong_part_is_named_at_once() -> None:
    one = email("<p>{{ nobody }}</p><a title={{ firstName }}>x</a>", subject="{{ nothing }}")
    fields = [error.field for error in errors_of(structs.replace(one, text="{{ no }}"))]
    assert fields == ["subject", "text", "html"]


def test_all_eleven_built_in_variables_need_no_declaration() -> None:
    names = "firstName lastName email eventName eventDate eventTime locationName bookingRef daysUntil phone company"
    guard.check_text(version(" ".join(f"{{{{ {name} }}}}" for name in names.split())))


PARTS: list[tuple[str, TemplateVersion, list[str]]] = [
    ("nothing to say", version(), ["text"]),
    ("an SMS with a subject", version("x", subject="y", channel=Channel.SMS), ["subject"]),
    ("an SMS with HTML", structs.replace(version("x", channel=Channel.SMS), html="<p>"), ["html"]),
    ("an email without a subject", version("x", channel=Channel.EMAIL), ["subject"]),
    (
        "an approved template on another channel than WhatsApp",
        version("x", channel=Channel.SMS, approved=Approved(name="n", language="de")),
        ["approved"],
    ),
    (
        "a wrong parameter of an approved template",
        version(approved=Approved(name="n", language="de", body=["{{ firstName }}", "{{ nobody }}"])),
        ["approved.body[1]"],
    ),
]

DECLARATIONS: list[tuple[str, dict[str, Variable], str]] = [
    ("a name with a blank", {"first name": Variable("x")}, "is no name"),
    ("a name with an underscore in front", {"_zone": Variable("x")}, "is no name"),
    ("a word of the language", {"for": Variable("x")}, "is no name"),
    ("a dunder", {"__class__": Variable("x")}, "is no name"),
    ("no sample", {"tier": Variable()}, "has no sample"),
    ("a sample without measure", {"tier": Variable("x" * 20_000)}, "more than 16,384 bytes"),
    ("too many", {f"v{n}": Variable("x") for n in range(101)}, "are too many"),
]


@pytest.mark.parametrize(("what", "one", "fields"), PARTS, ids=[case[0] for case in PARTS])
def test_refuses(what: str, one: TemplateVersion, fields: list[str]) -> None:
    assert [error.field for error in errors_of(one)] == fields, what


@pytest.mark.parametrize(("what", "declared", "why"), DECLARATIONS, ids=[case[0] for case in DECLARATIONS])
def test_refuses_a_declaration_with(what: str, declared: dict[str, Variable], why: str) -> None:
    [error] = errors_of(version("x", variables=declared))
    assert error.field.startswith("variables"), what
    assert why in error.message


# ---- the trial ------------------------------------------------------------------------------------


TRIALS: list[tuple[str, str, dict[str, Variable], str | None]] = [
    (
        "a sample of the wrong kind",
        "{% for i in items %}{{ i }}{% endfor %}",
        {"items": Variable("abc")},
        "with its sample values, items is not a list",
    ),
    (
        "a sample with a hole",
        "{{ order.total }}",
        {"order": Variable({"n": 1})},
        "with its sample values, order.total has no value",
    ),
    (
        "too many steps",
        "{% for i in items %}" + "{% if i %}x{% endif %}" * 490 + "{% endfor %}",
        {"items": Variable(["a"])},
        "with the longest values allowed, the template takes too many steps",
    ),
    ("a text too long", "x" * 5_000 + "{{ firstName }}", {}, "this channel takes at most 4,096"),
    ("a sample to cut", "{{ a }}", {"a": Variable("x" * 5_000)}, None),
    ("a good list", "{% for i in items %}{{ i.n }}{% endfor %}", {"items": Variable([{"n": "x"}])}, None),
]


@pytest.mark.parametrize(("what", "text", "declared", "why"), TRIALS, ids=[case[0] for case in TRIALS])
async def test_the_trial_finds(what: str, text: str, declared: dict[str, Variable], why: str | None) -> None:
    one = version(text, variables=declared)
    if why is None:
        await guard.check(one)
        return
    with pytest.raises(Invalid) as refused:
        await guard.check(one)
    assert why in refused.value.detail, what


async def test_the_trial_is_quick_and_leaves_the_event_loop_free() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    started = time.perf_counter()
    await asyncio.gather(*(guard.check(version(f"{n} {{{{ firstName }}}}")) for n in range(4)))
    took = time.perf_counter() - started
    ticking.cancel()
    assert took < 8
    assert ticks >= 5


def test_the_trial_works_in_another_thread_under_uvloop() -> None:
    seen: list[object] = []

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            seen.append(runner.run(guard.check(version("{{ firstName }}"))).worst)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert seen == [4_096]


def limited(program: str) -> subprocess.CompletedProcess[bytes]:
    """A program under the trial's limits."""
    lines = ["from antiphon.templates.child import limit_this_process", "limit_this_process()", program]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, timeout=60, check=False
    )


BOMBS: list[tuple[str, str]] = [
    ("memory of Python's", "'x' * 200_000_000"),
    (
        "memory of the engine's",
        "from minijinja import Environment\n"
        "Environment().render_str(\"{% set a = 'x' %}\" + '{% set a = a ~ a %}' * 33 + '{{ a|length }}')",
    ),
    ("processor time", "while True: pass"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
@pytest.mark.parametrize(("what", "program"), BOMBS, ids=[what for what, _ in BOMBS])
def test_a_child_that_takes_too_much_ends_and_its_template_is_refused(what: str, program: str) -> None:
    ran = limited(program)
    assert ran.returncode != 0, what
    assert "too much memory or time" in (guard.verdict_of(ran).reason or "")


def test_a_child_that_has_enough_ends_well() -> None:
    assert limited("'x' * 20_000_000").returncode == 0


def test_a_child_that_breaks_for_another_reason_is_our_fault_and_said() -> None:
    with pytest.raises(RuntimeError, match="ended with 1"):
        guard.verdict_of(limited("raise KeyError('x')"))


async def test_the_trial_is_not_told_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_SECRET_KEY", "nobody may know")
    told: dict[str, Any] = guard.child_environment()
    assert not [name for name in told if name.startswith("ANTIPHON")]
    await guard.check(version("{{ firstName }}"))


def test_the_child_says_the_same_in_this_process() -> None:
    trial = Trial(
        version=version("{{ firstName }}"), at=AT, samples={"firstName": "x"}, longest={"firstName": "x"}
    )
    read = msgspec.json.decode(msgspec.json.encode(trial), type=Trial)
    assert try_out(read) == child.Verdict(None)
    assert "has no value" in (try_out(structs.replace(read, samples={})).reason or "")
    assert "longest values" in (try_out(structs.replace(read, longest={})).reason or "")
    with pytest.raises(PartFault):
        try_out(structs.replace(read, version=version("{% set a = 1 %}")))
