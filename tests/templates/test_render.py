"""Filling a version: what is said, what is missing, and what can never come out of it."""

from __future__ import annotations

import re
import string
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from antiphon.core.channel import Channel
from antiphon.templates.grammar import MAX_ITEMS, MAX_VALUE
from antiphon.templates.model import (
    LIMITS,
    Approved,
    ApprovedButton,
    ApprovedParameter,
    TemplateVersion,
    Variable,
)
from antiphon.templates.render import PartFault, RenderError, compile_version, render
from tests.templates.samples import AT, BOOKING, email, version

SAID: list[tuple[str, str, dict[str, Any], str]] = [
    ("the queue document's own text", "Hallo {{firstName}}, bis {{eventDate}}", {}, "Hallo Max, bis 15. März 2025"),
    ("a time of day", "um {{ eventTime }}", {}, "um 09:00 Uhr"),
    ("days until, counted from now", "noch {{ daysUntil }} Tage", {}, "noch 7 Tage"),
    ("days until, given", "noch {{ daysUntil }} Tage", {"daysUntil": 3}, "noch 3 Tage"),
    ("a date that is written out already", "{{ eventDate }}", {"eventDate": "Mitte März"}, "Mitte März"),
    ("a date in another style", "{{ eventDate|date('short') }}", {}, "15.03.25"),
    ("money", "{{ price|money('EUR') }}", {"price": "1234.5"}, "1.234,50 €"),
    ("a default for nothing", "Hallo {{ company|default('du') }}", {"company": None}, "Hallo du"),
    ("a default for the empty text", "Hallo {{ company|default('du') }}", {"company": ""}, "Hallo du"),
    ("a default for what was never named", "Hallo {{ company|default('du') }}", {}, "Hallo du"),
    ("a default deep inside", "{{ order.address.city|default('-') }}", {"order": {}}, "-"),
    ("filters in a row", "{{ firstName|default('x')|upper|first }}", {}, "M"),
    ("a short text", "{{ eventName|truncate(12) }}", {}, "SBF Binne..."),
    ("a condition on nothing", "{% if company %}a{% else %}b{% endif %}", {}, "b"),
    ("a comparison by number", "{% if daysUntil < 10 %}bald{% endif %}", {"daysUntil": "9"}, "bald"),
    ("a comparison with nothing", "{% if points < 10 %}a{% else %}b{% endif %}", {}, "b"),
    ("a comparison by text", "{% if tier == 'gold' %}a{% elif tier != 'x' %}b{% endif %}", {"tier": "silver"}, "b"),
    ("and, or, not", "{% if company or not points and firstName %}a{% endif %}", {}, "a"),
    ("is defined", "{% if points is defined %}a{% else %}b{% endif %}", {"points": 0}, "a"),
    ("is not defined", "{% if points is not defined %}a{% endif %}", {}, "a"),
    ("a list", "{% for i in items %}{{ loop.index }}. {{ i }}\n{% endfor %}", {"items": ["a", "b"]}, "1. a\n2. b\n"),
    ("a list's length", "{{ items|length }} {{ items|first }}", {"items": ["a", "b"]}, "2 a"),
    ("a group's own items", "{{ order.items }}", {"order": {"items": "3"}}, "3"),
    ("a list of groups", "{% for i in items %}{{ i.n }}{% endfor %}", {"items": [{"n": 1}, {"n": "x"}]}, "1x"),
    ("an umbrella of blanks", "a {%- if firstName -%} b {%- endif -%} c", {}, "abc"),
    ("a comment", "a{# not said #}b", {}, "ab"),
    ("a value that looks like a template", "{{ firstName }}", {"firstName": "{{ email }}"}, "{{ email }}"),
    ("line ends of every kind", "{{ firstName }}", {"firstName": "a\r\nb\rc\u2028d"}, "a\nb\nc\nd"),
    ("control characters", "{{ firstName }}", {"firstName": "a\x00b\x1bc\x7fd\te"}, "abcd\te"),
    ("a number", "{{ points }}", {"points": 12}, "12"),
    ("a number that is too long for the engine", "{{ points }}", {"points": 10**40}, str(10**40)),
    ("half a character", "{{ firstName }}", {"firstName": "a\ud800b"}, "ab"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "more", "said"), SAID, ids=[case[0] for case in SAID])
def test_says(what: str, text: str, more: dict[str, Any], said: str) -> None:
    assert render(version(text), {**BOOKING, **more}, "de", at=AT).text == said, what


REASONS: list[tuple[str, str, dict[str, Any], str]] = [
    ("a variable without a value", "Hallo {{ company }}", {}, "company has no value"),
    ("an empty one", "Hallo {{ firstName }}", {"firstName": ""}, "firstName has no value"),
    ("one behind umlauts", "äöü {{ company|upper }}", {}, "company has no value"),
    ("one with a filter of ours", "{{ company|truncate(3) }}", {}, "company has no value"),
    ("a date", "{{ eventDate }}", {"eventDate": None}, "eventDate has no value"),
    ("a value inside", "{{ order.total }}", {"order": {"n": 1}}, "order.total has no value"),
    ("a value inside nothing", "{{ order.total }}", {}, "order.total has no value"),
    ("a list that is none", "{% for i in items %}x{% endfor %}", {"items": "abc"}, "items is not a list"),
    ("a list without a value", "{% for i in items %}x{% endfor %}", {}, "items has no value"),
    ("a list shown whole", "{{ items }}", {"items": ["a"]}, "cannot be shown as it is"),
    ("a group shown whole", "{{ order|upper }}", {"order": {"a": 1}}, "cannot be shown as it is"),
    ("a group inside a group", "{{ order.a }}", {"order": {"a": {"b": 1}}}, "cannot be shown as it is"),
    (
        "a group in a list",
        "{% for i in items %}{{ i }}{% endfor %}",
        {"items": [{"a": 1}]},
        "cannot be shown",
    ),
    ("the first of groups", "{{ items|first }}", {"items": [{"a": 1}]}, "cannot be shown"),
    ("a method of the variables", "{{ keys }}", {}, "keys has no value"),
    ("a method of a group", "{{ order.items }}", {"order": {"a": 1}}, "order.items has no value"),
    ("a method of a list", "{{ items.append }}", {"items": ["a"]}, "items.append has no value"),
    ("a method of a text", "{{ firstName.upper }}", {}, "firstName.upper has no value"),
    ("a method of a number", "{{ points.real }}", {"points": 3}, "points.real has no value"),
    (
        "a method of an entry",
        "{% for i in items %}{{ i.copy }}{% endfor %}",
        {"items": [{"a": 1}]},
        "i.copy has no",
    ),
    ("a link that would run", "{{ link|url }}", {"link": "javascript:alert(1)"}, "link is not a link"),
    ("a text that is too long", "{{ a }}{{ b }}", {"a": "x" * 4000, "b": "y" * 4000}, "takes at most 4,096"),
]


@pytest.mark.parametrize(("what", "text", "more", "reason"), REASONS, ids=[case[0] for case in REASONS])
def test_fails_with_a_reason_for(what: str, text: str, more: dict[str, Any], reason: str) -> None:
    with pytest.raises(RenderError) as failed:
        render(version(text), {**BOOKING, **more}, "de", at=AT)
    assert reason in failed.value.reason, what


def test_a_declared_default_and_what_is_not_required() -> None:
    declared = {"tier": Variable("x", default="basic"), "note": Variable("x", required=False)}
    one = version("{{ tier }}|{{ note }}", variables=declared)
    assert render(one, {}, "de", at=AT).text == "basic|"


def test_only_the_parts_that_a_message_has_are_filled() -> None:
    said = render(email("<p>{{ firstName }}</p>"), {"firstName": "<Max>"}, None, at=AT)
    assert (said.subject, said.text, said.html) == ("Hallo <Max>", None, "<p>&lt;Max&gt;</p>")


def test_the_same_input_says_the_same_and_another_instant_counts_other_days() -> None:
    one = version("{{ daysUntil }}")
    assert render(one, BOOKING, "de", at=AT) == render(one, BOOKING, "de", at=AT)
    assert render(one, BOOKING, "de", at=AT + timedelta(days=5)).text == "2"


def test_an_instant_in_utc_is_shown_in_the_timezone_of_the_sender() -> None:
    one = version("{{ eventDate }} {{ eventTime }}")
    values = {"eventDate": "2025-03-15T23:30:00Z", "eventTime": "2025-03-15T23:30:00Z"}
    at = AT.astimezone(ZoneInfo("Europe/Berlin"))
    assert render(one, values, "de", at=at).text == "16. März 2025 00:30 Uhr"


def test_values_are_cut_and_lists_too() -> None:
    one = structs.replace(
        version("{{ a|length }} {{ b|length }}", channel=Channel.EMAIL), variables={}, html=None
    )
    said = render(one, {"a": "x" * 10_000, "b": list(range(500))}, "de", at=AT)
    assert said.text == f"{MAX_VALUE} {MAX_ITEMS}"


def test_no_object_reaches_the_engine() -> None:
    class Door:
        def open(self) -> str:
            return "open"

        def __str__(self) -> str:
            return "a door"

    assert render(version("{{ d }}"), {"d": Door()}, "de", at=AT).text == "a door"
    with pytest.raises(RenderError, match=r"d\.open has no value"):
        render(version("{{ d.open }}"), {"d": Door()}, "de", at=AT)


# ---- approved templates ---------------------------------------------------------------------------

APPROVED = Approved(
    name="haff_reminder_7days",
    language="de",
    header=[ApprovedParameter("https://example.com/{{ bookingRef }}.png", kind="image")],
    body=["{{ firstName }}", "{{ eventDate }}", ApprovedParameter("{{ locationName }}", name="place")],
    buttons=[ApprovedButton("{{ bookingRef }}", index=1, sub_type="copy_code"), "{{ bookingRef }}"],
)


def test_an_approved_template_gets_its_parameters_in_order() -> None:
    said = render(version("Hallo {{ firstName }}", approved=APPROVED), BOOKING, "de", at=AT)
    assert said.text == "Hallo Max"
    assert said.approved is not None
    assert [p.value for p in said.approved.header] == ["https://example.com/BK-2025-0042.png"]
    assert [(p.kind, p.name, p.value) for p in said.approved.body] == [
        ("text", None, "Max"),
        ("text", None, "15. März 2025"),
        ("text", "place", "Stettiner Haff"),
    ]
    assert [(b.index, b.sub_type, b.parameter.kind) for b in said.approved.buttons] == [
        (1, "copy_code", "coupon_code"),
        (1, "url", "text"),
    ]


def test_a_parameter_is_one_line_without_runs_of_blanks() -> None:
    values = {**BOOKING, "firstName": " Max\n\tund   Moritz\r\n"}
    said = render(version(approved=APPROVED), values, "de", at=AT)
    assert said.approved is not None
    assert said.approved.body[0].value == "Max und Moritz"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (" \n ", "parameter 1 of the body is empty"),
        ("x" * 1025, "takes at most 1,024"),
        (None, "firstName has no"),
    ],
    ids=["blank", "too long", "missing"],
)
def test_a_parameter_that_the_provider_would_refuse_fails_here(value: str | None, reason: str) -> None:
    with pytest.raises(RenderError) as failed:
        render(version(approved=APPROVED), {**BOOKING, "firstName": value}, "de", at=AT)
    assert reason in failed.value.reason


# ---- properties -----------------------------------------------------------------------------------


@given(value=st.text(max_size=200))
@settings(max_examples=2_000)
def test_no_value_ends_a_header_or_begins_another(value: str) -> None:
    said = render(email("x", "Hallo {{ firstName|default('') }}: {{ lastName|default('') }}"),
                  {"firstName": value, "lastName": value[::-1]}, "de", at=AT)  # fmt: skip
    assert said.subject is not None
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", said.subject)
    assert len(said.subject.splitlines()) == 1


class Outline(HTMLParser):
    """The tags and the names of their attributes: what a value must not change."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", ()))


PAGE = email(
    '<p title="{{ firstName|default("x") }}">{{ firstName|default("x") }}</p>'
    "<a href='https://example.com/{{ firstName|default(\"x\") }}' title='{{ firstName|default(\"x\") }}'>y</a>",
    subject="Hallo",
)
HOSTILE = st.text(alphabet=st.sampled_from("<>\"'&/=`!-;() \n\x00scriptonload{}%#"), max_size=60)


@given(value=st.one_of(st.text(max_size=100), HOSTILE))
@settings(max_examples=2_000)
def test_no_value_makes_a_tag_or_an_attribute(value: str) -> None:
    said = render(PAGE, {"firstName": value}, "de", at=AT)
    assert said.html is not None
    assert Outline(said.html).tags == [("p", ("title",)), ("a", ("href", "title"))]


FRAGMENTS = st.sampled_from(
    [
        *(
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            " ",
            "firstName",
            "items",
            "a.b",
            ".",
            "|",
            "upper",
            "default('x')",
        ),
        *("date('short')", "truncate(3)", "money('EUR')", "if ", "elif ", "else", "endif", "for i in items"),
        *(
            "endfor",
            "i",
            "loop.index",
            "and",
            "or",
            "not",
            "is defined",
            "==",
            "<",
            "3",
            "'x'",
            '"y"',
            "-",
            "(",
            ")",
        ),
        *(
            "{{ firstName }}",
            "{% if firstName %}",
            "{% endif %}",
            "{% for i in items %}{{ i }}",
            "{% endfor %}",
        ),
        *string.punctuation,
    ]
)


@given(source=st.lists(FRAGMENTS, max_size=25).map("".join))
@settings(max_examples=3_000)
def test_what_the_grammar_lets_through_the_engine_understands(source: str) -> None:
    one = version(source or "x")
    try:
        compile_version(one)
    except PartFault as fault:
        assert all(error.message.startswith("line ") for error in fault.errors)
        return
    try:
        render(one, {**BOOKING, "items": ["a", {"b": 1}], "a": {"b": "c"}}, "de", at=AT)
    except RenderError as error:
        assert "cannot be filled" not in error.reason


# ---- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", Channel)
def test_every_channel_bounds_what_it_carries(channel: Channel) -> None:
    limit = LIMITS[channel].text
    one = version("x" * limit + "{{ firstName }}", channel=channel)
    with pytest.raises(RenderError, match="Shorten it"):
        render(one, BOOKING, "de", at=AT)


def test_many_versions_are_compiled_and_forgotten() -> None:
    def filled(one: TemplateVersion) -> str | None:
        return render(one, BOOKING, "de", at=AT).text

    versions = [version(f"{number} {{{{ firstName }}}}") for number in range(1_100)]
    assert [filled(one) for one in versions] == [f"{number} Max" for number in range(1_100)]
    assert filled(versions[0]) == "0 Max"
