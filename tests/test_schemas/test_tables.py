"""What a declared table promises: names, types and keys are checked where rows are made, and rows survive the round."""

from __future__ import annotations

import pickle
import string
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import row

from schemas import columns as c
from schemas import tables as t
from schemas.table import Column, Row, Table, TableError

WORDS = st.text(string.ascii_letters, max_size=8)


class NoteRow(Row):
    """A note that somebody
    left.
    """

    name: Column[str] = c.text("who")
    at_s: Column[float] = c.start_s()
    text: Column[str | None] = c.text("what", null=True)
    scores: Column[list[float]] = c.reals("how", "0-1")


NOTES = Table(NoteRow, "notes", (NoteRow.name, NoteRow.at_s))


def note(**values: Any) -> NoteRow:
    return NoteRow(**{"name": "a", "at_s": 1.0, "text": None, "scores": [], **values})


def test_everything_follows_from_the_class() -> None:
    assert NOTES.doc == "A note that somebody left" and NOTES.key == ("name", "at_s")
    assert NOTES.column_names == ("name", "at_s", "text", "scores")
    assert NOTES.schema.field("text").nullable and not NOTES.schema.field("at_s").nullable
    assert NoteRow.at_s.unit == "s" and NoteRow.scores.type == pa.list_(pa.float32())


@settings(deadline=None)
@given(st.dictionaries(st.tuples(WORDS, st.floats(0, 1e6)), st.none() | WORDS, max_size=9))
def test_rows_come_back_in_order_of_their_key(notes: dict[tuple[str, float], str | None]) -> None:
    rows = [note(name=name, at_s=at_s, text=text) for (name, at_s), text in notes.items()]
    table = NOTES.from_rows(rows)
    assert NOTES.rows(table) == sorted(rows, key=lambda r: (r.name, r.at_s))
    assert NOTES.from_rows(NOTES.rows(table)).equals(table)
    assert NoteRow.name.values(table) == NoteRow.name.array(table).tolist() == [r.name for r in NOTES.rows(table)]
    assert NOTES.from_columns({col: col.of(table).combine_chunks() for col in NOTES.columns}).equals(table)


def test_a_wrong_row_is_refused_where_it_is_made() -> None:
    with pytest.raises(TableError, match=r"NoteRow: unknown columns \['txt'\], missing columns \['text'\]"):
        NoteRow(name="a", at_s=1.0, txt="", scores=[])
    with pytest.raises(TableError, match=r"unknown columns \['txt'\]"):
        note().but(txt="")
    with pytest.raises(TableError, match="column name: 1 nulls where none may be"):
        NOTES.from_rows([note(name=None)])
    with pytest.raises(TableError, match="column at_s"):
        NOTES.from_rows([note(at_s="late")])
    with pytest.raises(TableError, match=r"a key .* repeats"):
        NOTES.from_rows([note(), note(text="again")])
    with pytest.raises(TableError, match="missing columns"):
        NOTES.from_columns({NoteRow.name: ["a"]})


def test_a_row_changes_by_a_copy_and_tells_its_names() -> None:
    one = note()
    other = one.but(text="b", at_s=2.0)
    assert (one.text, one.at_s, other.text, other.at_s) == (None, 1.0, "b", 2.0) and one != other
    assert dict(other) == {"name": "a", "at_s": 2.0, "text": "b", "scores": []} and other["text"] == "b"
    assert repr(one) == "NoteRow(name='a', at_s=1.0, text=None, scores=[])"


def test_a_value_that_was_not_read_is_an_error_and_no_column() -> None:
    with pytest.raises(AttributeError, match="read without its column 'text'"):
        _ = NoteRow.of({"name": "a"}).text


def test_declarations_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(TableError, match="declared twice"):
        type("Again", (NoteRow,), {"name": c.text("who"), "__annotations__": {}})
    with pytest.raises(TableError, match=r"key columns \['k'\] are not declared"):
        Table(NoteRow, "notes", (t.FACE_FRAMES.columns[2],))
    with pytest.raises(TableError, match="declare it anew"):
        type("Borrowed", (Row,), {"who": NoteRow.name, "__annotations__": {}})


def test_tables_travel_between_processes() -> None:
    again = pickle.loads(pickle.dumps(t.SEGMENTS))
    assert again == t.SEGMENTS and {again: 1}[t.SEGMENTS] == 1


def test_every_table_takes_a_row_of_empty_values() -> None:
    for table in t.TABLES.values():
        rows = table.rows(table.from_rows([row(table)]))
        assert len(rows) == 1 and type(rows[0]) is table.row
        assert all(isinstance(col.array(table.empty()), np.ndarray) for col in table.columns)
