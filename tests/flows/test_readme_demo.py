"""README shows the demo's real output: this plays the day and compares, with times, ids and words of chance masked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.entry.cli.commands import Machine

README = Path(__file__).parents[2] / "README.md"
MASKS = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}": "ID",
    r"\b\d{10,15} is not on WhatsApp": "NUMBER is not on WhatsApp",  # any of them stands for the reason
    r"ANTIPHON_DATA_DIR=\S+": "ANTIPHON_DATA_DIR=FOLDER",
    r"\S*/antiphon ": "antiphon ",
    r"webhook for \d+ messages, only by asking for \d+": "webhook for N messages, only by asking for M",
}


def masked(text: str) -> list[str]:
    """The lines without what differs from run to run. Which reply somebody sends is the turn of the moment."""
    for pattern, word in MASKS.items():
        text = re.sub(pattern, word, text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    start = next(i for i, line in enumerate(lines) if line.endswith("replies, such as")) + 1
    end = next(i for i, line in enumerate(lines) if line.endswith("no blast reaches them again."))
    return [line[:30].rstrip() if start <= i < end else line for i, line in enumerate(lines)]


def shown() -> str:
    """What README shows."""
    found = re.search(
        r"<!-- demo -->\s*```\w*\n(.*?)```\s*<!-- /demo -->", README.read_text("utf-8"), re.DOTALL
    )
    assert found, "README.md has no demo output between <!-- demo --> and <!-- /demo -->"
    return found[1]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_says_what_readme_shows(tmp_path: Path) -> None:
    bare = Machine.without_database(tmp_path)
    done = bare.run("demo", within=200)
    assert done.code == 0, done.out + done.err
    assert done.err == ""
    assert masked(done.out) == masked(shown())


def test_masking_hides_what_differs_and_nothing_else() -> None:
    day = shown()
    other_day = re.sub(r"(-[0-9a-f]{4}-)[0-9a-f]{12}\b", r"\g<1>0123456789ab", day)
    assert other_day != day
    assert masked(other_day) == masked(day)
    assert masked(day.replace("480", "481")) != masked(day)
