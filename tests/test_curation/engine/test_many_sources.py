"""What is found out of many sources at once is what is found out of each alone, gathered tables or not."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from engine_case import GOOD, go, policy
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import WORKFLOW, write_sources

from curation import Dataset
from curation.decisions import account, progress
from curation.decisions.progress import next_stage, next_stages
from curation.engine.run import Job, drop_orphans, plan
from curation.engine.source_state import SourceState
from curation.engine.step import Stepper
from curation.engine.workflow import resolve
from curation.storage import compaction
from curation.storage.commits import fingerprint, unit_fingerprint
from curation.storage.registry import read_registry
from curation.storage.store import Store, parquet_bytes, table_file
from schemas import tables as t
from schemas.tables.registry import InputRow

N = 14
"""So many sources that some share a bucket."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    specs: dict[str, Any] = {f"s{i}": {**GOOD, "duration_s": 5.0 + i / 10, "faces": [90 + 5 * i]} for i in range(N - 2)}
    specs |= {"bad": {**GOOD, "fail": "toy_tracks"}, "unit": {**GOOD, "faces": [120, 130], "fail_track": 1}}
    go(write_sources(root / "in", **specs), root / "out")
    return root / "out"


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def job(out: Path, *sets: str, retry: bool = False, **rules: str) -> Job:
    return Job(str(out), resolve(WORKFLOW, sets), policy(**rules), retry, in_process=True)


def ids(out: Path) -> list[str]:
    return sorted(set(InputRow.source_id.values(read_registry(Store(str(out))))))


def at_once(stepper: Stepper, source_ids: list[str]) -> dict[str, str | None]:
    with stepper.store.recalling(listing=True):
        return dict(next_stages(stepper, source_ids))


def damage(out: Path) -> None:
    """Take a table away, give one the columns of an older version, and edit a commit: of three sources."""
    store = Store(str(out))
    one, two, three, *_ = ids(out)
    store.delete(table_file(t.TRACKS, one))
    name = table_file(t.TRACKS, two)
    older = store.read_table(name, t.TRACKS).drop_columns(["sharpness"])
    store.delete(name)
    store.write(name, parquet_bytes(older))
    commit = next((out / "commits" / "toy_active").rglob(f"{three}.json"))
    commit.write_text(commit.read_text().replace('"fingerprint": "', '"fingerprint": "0'))


@pytest.mark.parametrize("gathered", [False, True])
def test_the_next_stage_is_the_same_asked_together_or_one_by_one(
    out: Path, gathered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_TOGETHER", 7)
    if gathered:
        compaction.tidy(Store(str(out)), min_files=2)
        damage(out)
    jobs = [job(out), job(out, "toy_active.tweak=2")]
    if gathered:
        jobs += [job(out, "toy_tracks.tweak=1.5", retry=True), job(out, face_size="median_face_px >= 120")]
    seen = set()
    for asked in jobs:
        alone = {i: next_stage(asked.stepper(), i) for i in ids(out)}
        assert at_once(asked.stepper(), ids(out)) == alone
        assert {w.source_id for w in plan(asked, read_registry(Store(str(out))))} == {i for i in alone if alone[i]}
        seen |= set(alone.values())
    assert {None, "toy_active"} <= seen


def test_units_are_decided_the_same_together_or_alone(out: Path) -> None:
    compaction.tidy(Store(str(out)), min_files=2)
    damage(out)
    stepper = job(out, face_size="median_face_px >= 120").stepper()
    with stepper.store.recalling(listing=True), stepper.together(ids(out)):
        together = {i: stepper.decisions(i) for i in ids(out)}
    assert together == {i: stepper.decisions(i) for i in ids(out)}
    assert {d.passes for each in together.values() for d in each["tracks"].values()} == {True, False}


@pytest.mark.parametrize("rows", [1, 40, 10_000])
def test_parts_that_are_read_ahead_are_those_read_one_by_one(
    out: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.storage.compacted._AHEAD_ROWS", rows)
    compaction.tidy(Store(str(out)), min_files=2)
    store = Store(str(out))
    asked = [
        (name, table, columns)
        for table in (t.TRACKS, t.CUTS, t.SEGMENTS)
        for name in store.tables(f"tables/{table.name}")
        for columns in (None, ["source_id"])
    ]
    alone = [store.read_table(*each) for each in asked]
    order = random.Random(rows).sample(range(len(asked)), len(asked))
    with store.recalling(listing=True):
        for n in (*range(len(asked)), *order):
            assert store.read_table(*asked[n]).equals(alone[n])


def test_gathering_has_no_source_looked_into_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account.write(job(out).stepper())  # of the copy: its files are newer than what is kept
    looked: list[str] = []
    examine = progress._examine
    monkeypatch.setattr(progress, "_examine", lambda stepper, s: looked.append(s) or examine(stepper, s))
    before = account.ended(job(out).stepper())
    assert len(before) == N and not looked
    assert compaction.tidy(Store(str(out)), min_files=2).gathered
    assert account.ended(job(out).stepper()) == before
    of_errors = set(Dataset(str(out)).table(t.ERRORS)["source_id"].to_pylist())
    assert len(of_errors) == 2 and set(looked) <= of_errors
    account.write(job(out).stepper())
    one, two, three, *_ = sorted(before - of_errors)
    next((out / "commits" / "toy_active").rglob(f"{one}.json")).unlink()
    store, other = Store(str(out)), table_file(t.TRACKS, three)
    store.delete(table_file(t.TRACKS, two))
    store.write_table(other, t.TRACKS, store.read_table(other, t.TRACKS).slice(0, 0))
    assert account.ended(job(out).stepper()) == before - {one, two, three}
    assert {one, two, three} <= set(looked) <= {one, two, three} | of_errors


def test_what_another_workflow_found_out_is_not_believed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account.write(job(out).stepper())
    for file in (out / "progress").glob("bucket=*.parquet"):
        rows = pq.read_table(file)
        pq.write_table(rows.replace_schema_metadata({"pipeline": "another"}), file)
    compaction.tidy(Store(str(out)), min_files=2)
    monkeypatch.setattr(progress, "_unchanged", lambda *_: pytest.fail("believed"))
    assert len(account.ended(job(out).stepper())) == N


def test_what_belongs_to_no_input_goes_bucket_by_bucket(out: Path) -> None:
    compaction.tidy(Store(str(out)), min_files=2)
    store, (gone, *left) = Store(str(out)), ids(out)
    inputs = read_registry(store)
    drop_orphans(store, inputs.filter([i != gone for i in inputs["source_id"].to_pylist()]))
    named = [*store.names("commits"), *store.tables("tables"), *store.names("clips")]
    assert {n.rsplit("/", 1)[-1][:16] for n in named if "/bucket=" in n} == set(left)


@given(st.text(alphabet="0123456789abcdef", max_size=64), st.text(alphabet="0123456789abcdef", max_size=64))
def test_a_units_fingerprint_is_that_of_its_parts(base: str, unit: str) -> None:
    assert unit_fingerprint(base, unit) == fingerprint(base=base, unit=unit)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(["aa", "ab", "b0", "ff"]), st.sampled_from(["cc-by", None])), max_size=8)
)
def test_the_rights_of_a_source_are_those_of_its_first_path(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str | None]]
) -> None:
    store = Store(str(tmp_path_factory.mktemp("rights")))
    inputs = [
        InputRow(
            path=f"/p{n}", source_id=source_id, name="x", bytes=1, modified_ns=1, license=licence, rights_holder=None,
            consent=None, rights_from=None, session=None,
        )
        for n, (source_id, licence) in enumerate(rows)
    ]  # fmt: skip
    store.write_table(table_file(t.INPUTS), t.INPUTS, t.INPUTS.from_rows(inputs))
    state = SourceState(store, resolve(WORKFLOW), policy())
    for source_id in ("a", "aa", "ab", "b0", "ff", "g"):
        first = [licence for i, licence in rows if i == source_id][:1]
        assert state._rights_of(source_id)["license"].to_pylist() == first
