"""When a failed job is tried again, and what its rows are called."""

from __future__ import annotations

import pytest
from msgspec import Struct

from antiphon.jobs import model


class ExpandAudience(Struct):
    """A name of several words."""


class Import2Contacts(Struct):
    """A name with a number."""


NAMES = [(ExpandAudience, "expand_audience"), (Import2Contacts, "import2_contacts")]


@pytest.mark.parametrize(("job", "kind"), NAMES)
def test_a_kind_is_the_structs_name(job: type[Struct], kind: str) -> None:
    assert model.kind_of(job) == kind


WAITS = [
    ("the first, shortest", 1, 0.0, 1.0),
    ("the first, longest", 1, 1.0, 2.0),
    ("the second doubles", 2, 1.0, 4.0),
    ("the third doubles again", 3, 0.0, 4.0),
    ("never longer than ten minutes", 30, 1.0, 600.0),
]


@pytest.mark.parametrize(("what", "failures", "chance", "seconds"), WAITS, ids=[case[0] for case in WAITS])
def test_a_failed_job_waits(what: str, failures: int, chance: float, seconds: float) -> None:
    assert model.wait_after(failures, chance).total_seconds() == seconds, what


def test_two_failures_do_not_wait_the_same() -> None:
    assert len({model.wait_after(3) for _ in range(20)}) > 10


def test_an_error_is_told_in_at_most_two_thousand_letters() -> None:
    text = model.error_text(ValueError("x" * 5000))
    assert text.startswith("ValueError: x")
    assert len(text) == model.LONGEST_ERROR
