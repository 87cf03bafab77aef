"""What is written as a table is read as that table, wherever its chunks, quotes and lines end."""

from __future__ import annotations

import csv
import io
import random
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.contacts import columns, reading
from antiphon.contacts.columns import attribute_of, key_of
from antiphon.contacts.records import Broken, Row
from antiphon.core.errors import Invalid

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)


def records_of(content: bytes, separator: str | None = None) -> list[Row | Broken]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(content)
        layout = reading.inspect(path, separator=separator)
        return [record for chunk in reading.read(path, layout) for record in chunk.records]


@settings(max_examples=60)
@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=20),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_reads_back_what_a_program_wrote(
    rows: list[list[str]],
    separator: str,
    quoting: Literal[0, 1],
    line_end: str,
    encoding: str,
) -> None:
    written = io.StringIO()
    writer = csv.writer(written, delimiter=separator, quoting=quoting, lineterminator=line_end)
    writer.writerows([["phone", "b", "c"], *rows])
    found = records_of(written.getvalue().encode(encoding), separator)
    wanted = [row for row in rows if any(row)]
    assert [record.cells for record in found if isinstance(record, Row) and any(record.cells)] == wanted
    assert not [record for record in found if isinstance(record, Broken)]


def test_reads_records_over_the_edges_of_chunks() -> None:
    chance = random.Random(3)
    rows = [
        [str(i), "".join(chance.choice('ab"\n,é') for _ in range(chance.randint(0, 60))), "x"]
        for i in range(30_000)
    ]
    written = io.StringIO()
    csv.writer(written).writerows([["phone", "b", "c"], *rows])
    found = records_of(written.getvalue().encode())
    assert [record.cells for record in found if isinstance(record, Row)] == rows
    assert len(found) == len(rows)
    # the number of a record is that of the line on which it begins
    line = 2
    for record, row in zip(found, rows, strict=True):
        assert record.line == line
        line += 1 + row[1].count("\n")


def test_a_line_end_over_the_edge_of_a_chunk_is_one_line_end() -> None:
    for pad in range(5):  # with one of these, a chunk ends between CR and LF
        content = b"phone,b" + b" " * pad + b"\r\n" + b"a,1\r\n" * 60_000
        assert [record.line for record in records_of(content)] == list(range(2, 60_002))


def rest_is_read(bad: bytes) -> tuple[list[tuple[int, str]], list[str]]:
    content = b"name,phone\nfirst,1\n" + bad + b"\n" + b"".join(b"after %d,2\n" % i for i in range(3))
    found = records_of(content)
    broken = [(record.line, record.code) for record in found if isinstance(record, Broken)]
    return broken, [record.cells[0] for record in found if isinstance(record, Row)]


AFTER = ["first", "after 0", "after 1", "after 2"]
BAD_LINES: list[tuple[str, bytes, list[tuple[int, str]]]] = [
    ("a cell of 10 MB", b"x," + b"9" * 10_000_000, [(3, "line_too_long")]),
    ("a cell of 40 kB", b"x," + b"9" * 40_000, [(3, "cell_too_long")]),
    ("a quoted cell of 40 kB", b'x,"' + b"9" * 40_000 + b'"', [(3, "cell_too_long")]),
    ("a quoted cell of 10 MB in many lines", b'x,"' + b"9\n" * 5_000_000 + b'"', [(3, "cell_too_long")]),
    (
        "a quoted cell of 10 MB with doubled quotes",
        b'x,"' + b'9 ""a""\n' * 1_200_000 + b'"',
        [(3, "cell_too_long")],
    ),
    ("a quote that is never closed", b'"x,1', [(3, "quote_not_closed")]),
    ("two of them", b'"x,1\n"y,2', [(3, "quote_not_closed"), (4, "quote_not_closed")]),
    ("one before a proper one", b'"x,1\n"first",2', [(3, "quote_not_closed")]),
    ("a NUL", b"x\0,1", [(3, "nul")]),
    ("text behind a quoted cell", b'"x" y,1', [(3, "quote")]),
]


@pytest.mark.parametrize(("bad", "broken"), [c[1:] for c in BAD_LINES], ids=[c[0] for c in BAD_LINES])
def test_a_bad_line_is_told_and_its_neighbours_are_read(bad: bytes, broken: list[tuple[int, str]]) -> None:
    found, names = rest_is_read(bad)
    assert found == broken
    assert names in (AFTER, ["first", *AFTER])


def test_a_quote_never_closed_in_a_long_file_costs_one_line() -> None:
    found = records_of(b'name,phone\n"x,1\n' + b"y,2\n" * 100_000)
    assert [(record.line, record.code) for record in found if isinstance(record, Broken)] == [
        (2, "quote_not_closed")
    ]
    assert len(found) == 100_001


def test_honours_the_separator_that_excel_writes_down() -> None:
    assert [r.line for r in records_of(b'sep=|\nname|phone\n"a|b"|1\n')] == [3]


HEADERS: list[tuple[str, list[str], dict[str, str], list[str]]] = [
    (
        "English",
        ["First Name", "Surname", "Mobile No.", "E-Mail Address"],
        {},
        ["first_name", "last_name", "phone", "email"],
    ),
    (
        "German",
        ["Vorname", "Nachname", "Handy-Nr.", "E-Mail"],
        {},
        ["first_name", "last_name", "phone", "email"],
    ),
    ("Malay", ["Nama Penuh", "No. Tel", "Emel", "Syarikat"], {}, ["name", "phone", "email", "company"]),
    ("Indonesian", ["nama_lengkap", "no_hp", "bahasa"], {}, ["name", "phone", "language"]),
    ("Spanish with last names", ["Nombre", "Apellidos", "Móvil"], {}, ["first_name", "last_name", "phone"]),
    ("French", ["Nom", "Prénom", "Téléphone"], {}, ["last_name", "first_name", "phone"]),
    ("Chinese", ["姓名", "手机号"], {}, ["name", "phone"]),
    ("two numbers", ["Phone", "WhatsApp", "Name"], {}, ["phone", "phone", "name"]),
    (
        "two texts of one field: the first counts",
        ["phone", "company", "Firma"],
        {},
        ["phone", "company", "-"],
    ),
    ("what is said counts more", ["Name", "Nr"], {"nr": "phone", "Name": "company"}, ["company", "phone"]),
    ("left out on purpose", ["phone", "email"], {"email": "-"}, ["phone", "-"]),
    ("an attribute by name", ["phone", "Order No"], {"Order No": "attr:orderNo"}, ["phone", "attr:orderNo"]),
]


@pytest.mark.parametrize(("header", "said", "fields"), [c[1:] for c in HEADERS], ids=[c[0] for c in HEADERS])
def test_knows_columns_by_their_names(header: list[str], said: dict[str, str], fields: list[str]) -> None:
    assert columns.map_columns(header, said, keep_unknown=False).fields == fields


def test_unknown_columns_become_attributes_that_templates_can_show() -> None:
    mapped = columns.map_columns(["Tel", "Kunden-Nr.", "Größe", "2nd", "金额", "备注"], {}, keep_unknown=True)
    assert mapped.fields == [
        "phone",
        "attr:kunden_nr",
        "attr:grosse",
        "attr:column_2nd",
        "attr:column",
        "attr:column_2",
    ]
    assert mapped.unknown == ["Kunden-Nr.", "Größe", "2nd", "金额", "备注"]


def test_every_name_of_a_column_is_written_as_names_are_compared() -> None:
    assert [name for name in columns.BY_NAME if key_of(name) != name] == []


@given(st.text(max_size=80))
def test_any_header_makes_an_attribute(header: str) -> None:
    name = attribute_of(header)
    mapped = columns.map_columns(["x", "y"], {"x": "phone", "y": f"attr:{name}"}, keep_unknown=False)
    assert mapped.fields[1] == f"attr:{name}"


def test_says_what_to_do_when_nobody_can_be_reached() -> None:
    with pytest.raises(Invalid) as refused:
        columns.map_columns(["Kunde", "Ort"], {}, keep_unknown=True)
    assert "Kunde=phone" in refused.value.detail
