"""What was decided, or found to be finished, is asked for again only where something of it changed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from engine_case import GOOD, go, policy
from toy import CALLS, WORKFLOW, write_sources

from curation.decisions import account
from curation.decisions.decide import evaluate, read_by, unit_tables
from curation.decisions.progress import next_stage
from curation.engine import source_state
from curation.engine.run import Job, plan
from curation.engine.workflow import resolve
from curation.storage.registry import read_registry
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.units import UNITS

N = 3


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Path]:
    folder = write_sources(tmp_path / "in", **{f"s{i}": {**GOOD, "duration_s": 10.0 + i} for i in range(N)})
    go(folder, tmp_path / "out")
    return folder, tmp_path / "out"


def job(out: Path, **rules: str) -> Job:
    return Job(str(out), resolve(WORKFLOW), policy(**rules), in_process=True)


def left(job: Job) -> set[str]:
    """Return the sources with something to do, asked one by one."""
    ids = read_registry(Store(job.store_uri))["source_id"].to_pylist()
    return {i for i in ids if next_stage(job.stepper(), i) is not None}


def test_a_finished_dataset_is_known_to_be_finished(finished: tuple[Path, Path]) -> None:
    same = job(finished[1])
    assert len(account.ended(same.stepper())) == N and not left(same)
    assert plan(same, read_registry(Store(same.store_uri))) == []


@pytest.mark.parametrize("rules", [{"face_size": "median_face_px >= 30"}, {"face_size": "median_face_px >= 1000"}])
def test_under_another_policy_the_same_is_left_as_source_by_source(
    finished: tuple[Path, Path], rules: dict[str, str]
) -> None:
    other = job(finished[1], **rules)
    everything = set(read_registry(Store(other.store_uri))["source_id"].to_pylist())
    assert everything - account.ended(other.stepper()) == left(other)
    assert {w.source_id for w in plan(other, read_registry(Store(other.store_uri)))} == left(other)


def test_a_lost_file_is_work_again(finished: tuple[Path, Path]) -> None:
    same = job(finished[1])
    store = Store(same.store_uri)
    lost = sorted(read_registry(store)["source_id"].to_pylist())[0]
    store.local_path(table_file(t.SHOTS, lost)).unlink()
    assert lost not in account.ended(same.stepper())
    assert [w.source_id for w in plan(same, read_registry(store))] == [lost]


def test_another_workflow_asks_every_source(finished: tuple[Path, Path]) -> None:
    folder, out = finished
    go(folder, out, sets=("toy_scan.tweak=2",))
    assert CALLS["toy_scan"] > 0


def test_a_source_in_quarantine_is_tried_again_when_asked(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", good=GOOD, bad={**GOOD, "duration_s": 11.0, "fail": "toy_tracks"})
    go(folder, tmp_path / "out")
    go(folder, tmp_path / "out")
    assert CALLS["toy_tracks"] == 0
    go(folder, tmp_path / "out", retry=True)
    assert CALLS["toy_tracks"] == 1


def test_units_are_decided_once_while_their_tables_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    real = source_state.evaluate_kind

    def counting(policy: Any, tables: Any, kind: Any) -> Any:
        asked[kind] += 1
        return real(policy, tables, kind)

    monkeypatch.setattr(source_state, "evaluate_kind", counting)
    folder = write_sources(tmp_path / "in", only=GOOD)
    out = tmp_path / "out"
    go(folder, out)
    in_run = Counter(asked)
    assert in_run["sources"] <= 3, "five stages ask, and the table of sources is written once"
    stepper = job(out).stepper()
    (source_id,) = read_registry(Store(str(out)))["source_id"].to_pylist()
    with stepper.store.recalling():
        before = stepper.decisions(source_id)
        rows = stepper.store.read_table(table_file(t.TRACKS, source_id), t.TRACKS)
        stepper.store.write_table(table_file(t.TRACKS, source_id), t.TRACKS, rows.slice(0, 1))
        after = stepper.decisions(source_id)
    assert len(before["tracks"]) == 2 and len(after["tracks"]) == 1


def test_decisions_depend_on_the_tables_that_are_named_and_on_no_other(finished: tuple[Path, Path]) -> None:
    store = Store(str(finished[1]))
    source_id = read_registry(store)["source_id"].to_pylist()[0]
    tables = {}
    for table in unit_tables():
        if table.grain != "dataset" and store.exists(table_file(table, source_id)):
            tables[table.name] = store.read_table(table_file(table, source_id), table)
    whole = evaluate(policy(), tables)
    for kind in UNITS:
        named = {x.name for x in read_by(policy(), kind)}
        only = evaluate(policy(), {name: rows for name, rows in tables.items() if name in named})
        assert only[kind] == whole[kind] and whole[kind]
