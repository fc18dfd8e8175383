"""Of many problems that are alike a few are named, and all are counted."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console
from toy import filled

from curation import Dataset
from curation.storage.store import Store, parquet_bytes, table_file
from curation.verify import Problem
from curation.verify.few import NAMED, Few
from curation.verify.finding import plain
from curation.verify.keys import doubled
from schemas import tables as t
from workflows.commands.jobs import _say_problems


@pytest.mark.parametrize("count", [0, 1, NAMED, NAMED + 1, NAMED + 4])
def test_findings_count_what_is_not_named(count: int) -> None:
    few = Few("{} is lost")
    few.add(map(str, range(count)))
    found = list(plain(few.said()))
    assert len(found) == min(count, NAMED + 1) and sum(f.things for f in found) == count


@pytest.mark.parametrize("count", [1, NAMED, NAMED + 2])
def test_every_key_that_is_there_twice_is_counted(tmp_path: Path, count: int) -> None:
    store = Store(str(tmp_path))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    rows = [filled(t.MANIFEST, segment_id=f"s{i}", source_id="s") for i in range(count)]
    once = t.MANIFEST.from_rows(rows)
    store.write(table_file(t.MANIFEST), parquet_bytes(pa.concat_tables([once, once])))
    found = list(doubled(Dataset(store.uri)))
    assert sum(f.things for f in found) == count and len(found) == min(count, NAMED + 1)
    assert all(f.mends for f in found)


def test_the_command_counts_all_problems() -> None:
    said = io.StringIO()
    problems = [Problem("joins", "a is lost"), Problem("joins", "4 more: ... is lost", things=4)]
    assert _say_problems(Console(file=said), problems) == 5
    assert said.getvalue() == "joins: a is lost\njoins: 4 more: ... is lost\n"


def test_keys_are_told_apart_whatever_their_columns_are_called(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    for table in (t.REFERENCES, t.MANIFEST):
        rows = [filled(table, **{k: i + 2 if table.schema.field(k).type == pa.int32() else f"{k}{i}"
                for k in table.key}) for i in range(3)]  # fmt: skip
        store.write(table_file(table), parquet_bytes(table.from_rows(rows)))
    assert not list(doubled(Dataset(store.uri)))
