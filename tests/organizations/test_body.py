"""Bodies are read strictly, and every wrong field is named where it is."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from antiphon.core.errors import BadRequest, Invalid, Problem
from antiphon.organizations.body import MOST_ERRORS, decode, decoders_for


class Address(Struct, frozen=True, forbid_unknown_fields=True):
    city: Annotated[str, Meta(min_length=1, max_length=5)]
    zip: Annotated[str, Meta(pattern=r"^[0-9]{5}\Z")] = "00000"


class Person(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    name: str
    age: Annotated[int, Meta(ge=0)]
    home_address: Address | UnsetType | None = UNSET
    other_addresses: Annotated[list[Address], Meta(max_length=3)] = []


class Many(Struct, frozen=True, forbid_unknown_fields=True):
    people: Annotated[list[Person], Meta(min_length=1)]


WRONG: dict[str, tuple[str, list[str]]] = {
    "nothing in it": ("{}", ["name", "age"]),
    "no object": ("[]", [""]),
    "null": ("null", [""]),
    "a text for a number": ('{"name":"x","age":"5"}', ["age"]),
    "a truth for a number": ('{"name":"x","age":true}', ["age"]),
    "a number below its least": ('{"name":"x","age":-1}', ["age"]),
    "unknown fields, several": ('{"name":"x","age":1,"nmae":1,"Age":2}', ["nmae", "Age"]),
    "the field's own name instead of the wire's": ('{"name":"x","age":1,"home_address":null}', ["home_address"]),
    "wrong inside of an object": ('{"name":"x","age":1,"homeAddress":{"city":""}}', ["homeAddress.city"]),
    "wrong in two items of a list and beside it": (
        '{"name":1,"age":1,"otherAddresses":[{"city":"ok"},{"city":"toolong"},{"zip":"1"}]}',
        ["name", "otherAddresses[1].city", "otherAddresses[2].city", "otherAddresses[2].zip"],
    ),
    "digits of another script": (
        '{"name":"x","age":1,"homeAddress":{"city":"x","zip":"١٢٣٤٥"}}', ["homeAddress.zip"],
    ),
    "a line break after the digits": (
        '{"name":"x","age":1,"homeAddress":{"city":"x","zip":"12345\\n"}}', ["homeAddress.zip"],
    ),
    "more items than a list may have": (
        '{"name":"x","age":1,"otherAddresses":[{"city":"a"},{"city":"a"},{"city":"a"},{"city":"a"}]}',
        ["otherAddresses"],
    ),
}  # fmt: skip


def fields_of(text: str, kind: Any) -> list[str]:
    with pytest.raises(Invalid) as caught:
        decode(decoders_for(kind), text.encode())
    return [error.field for error in caught.value.errors]


@pytest.mark.parametrize("what", WRONG)
def test_names_every_wrong_field_of(what: str) -> None:
    text, fields = WRONG[what]
    assert fields_of(text, Person) == fields


def test_reads_what_is_right() -> None:
    found = decode(decoders_for(Person), b'{"name":"x","age":1,"homeAddress":null}')
    assert found == Person("x", 1, None)
    assert decode(decoders_for(list[int]), b"[1,2]") == [1, 2]


def test_takes_one_or_many_whichever_it_is() -> None:
    decoders = decoders_for(Person | Many)
    assert decode(decoders, b'{"name":"x","age":1}') == Person("x", 1)
    assert decode(decoders, b'{"people":[{"name":"x","age":1}]}') == Many([Person("x", 1)])


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"name":1,"age":1}', ["name"]),
        ('{"people":[{"name":"x"}]}', ["people[0].age"]),
        ('{"people":[]}', ["people"]),
        ("{}", ["name", "age"]),
    ],
)
def test_judges_by_the_one_that_was_probably_meant(text: str, fields: list[str]) -> None:
    assert fields_of(text, Person | Many) == fields


def test_a_thousand_wrong_items_are_told_as_fifty() -> None:
    many = msgspec.json.encode({"people": [{"name": 1, "age": "x"}] * 1000})
    assert len(fields_of(many.decode(), Many)) == MOST_ERRORS


@pytest.mark.parametrize("text", ["", "{", '{"a":}', "{'a':1}", "\udcff", "[" * 100_000, '{"a":1}{'])
def test_says_that_it_is_no_json(text: str) -> None:
    with pytest.raises(BadRequest):
        decode(decoders_for(Person), text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    "text", ['{"name":"x","age":' + "9" * 5000 + "}", '{"name":"' + "\\u0000" * 9 + '","age":1e999}']
)
def test_odd_numbers_are_a_problem_and_not_a_crash(text: str) -> None:
    with pytest.raises(Problem):
        decode(decoders_for(Person), text.encode())
