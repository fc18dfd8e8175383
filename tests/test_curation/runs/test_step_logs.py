"""The log of a step is as durable as its commit, and only the log of the commit that stands is counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT, SUPPORT
from engine_case import GOOD, go, policy
from toy import WORKFLOW, write_sources

from curation import Dataset
from curation.engine import dataset_step, step
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.plan.rates import measured
from curation.runs.steps import StepLog, StepResult, by_run, log_files, logged
from curation.storage.commits import Commit, commit_hash, official, read_record, write_commit
from curation.storage.store import Store

WRITTEN = StepResult("probe", "0" * 16, None, "ran", 1.0, 1.0, 1.0, commit="c")
SKIPPED = StepResult("probe", "1" * 16, None, "skipped", 1.0, 0.0, 0.0)


class StoppedError(BaseException):
    """Ends a run as a kill does: nothing gets to write anything more, but for how the run ended."""


def stop_at(monkeypatch: pytest.MonkeyPatch, nth: int, *, after: bool) -> None:
    """Have the run end right before or after its nth commit."""
    count = Counter[str]()

    def write(store: Store, name: str, commit: Commit) -> None:
        count["commits"] += 1
        if after:
            write_commit(store, name, commit)
        if count["commits"] == nth:
            raise StoppedError
        if not after:
            write_commit(store, name, commit)

    monkeypatch.setattr(step, "write_commit", write)
    monkeypatch.setattr(dataset_step, "write_commit", write)


def commits(store: Store) -> set[str]:
    """Return the hashes of a dataset's commits."""
    records = (read_record(store, name) for name in store.names("commits"))
    return {commit_hash(commit) for record in records if (commit := official(record)) is not None}


def told(store: Store) -> set[str]:
    return {line["commit"] for line in logged(store, log_files(store))}


def begin(folder: Path, out: str, **more: Any) -> None:
    job = Job(out, resolve(WORKFLOW), policy(), in_process=True, **more)
    run(job, LocalEngine(), expand([str(folder)]))


@pytest.mark.parametrize("nth", [1, 2, 6, 7])
def test_a_kill_right_after_a_commit_loses_no_log_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD), tmp_path / "out"
    stop_at(monkeypatch, nth, after=True)
    with pytest.raises(StoppedError):
        begin(folder, str(out))
    store = Store(str(out))
    assert len(commits(store)) == nth and commits(store) <= told(store)


def test_so_it_is_in_an_object_store(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD), f"s3://{bucket}/dataset"
    stop_at(monkeypatch, 5, after=True)
    with pytest.raises(StoppedError):
        begin(folder, out)
    store = Store(out)
    assert len(commits(store)) == 5 and commits(store) <= told(store)
    assert len(log_files(store)) == 1, "a few steps share an object"


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_has_a_line_for_every_commit(tmp_path: Path, engine: str) -> None:
    folder = write_sources(tmp_path / "in", **{f"s{n}": {**GOOD, "n": n} for n in range(30)})
    out = tmp_path / "out"
    made = {
        "local": "from curation.engine.engine_local import LocalEngine as E",
        "ray": "from curation.cluster.engine_ray import RayEngine as E",
    }
    script = (
        f"{made[engine]}\nimport sys\nfrom pathlib import Path\nfrom engine_case import go\n"
        "go(Path(sys.argv[1]), Path(sys.argv[2]), engine=E())"
    )
    env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{ROOT}"}
    with subprocess.Popen([sys.executable, "-c", script, str(folder), str(out)], env=env) as process:
        while len(list(out.glob("commits/toy_tracks/*/*.json"))) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    store = Store(str(out))
    assert commits(store) and commits(store) <= told(store)


def counted(out: Path) -> dict[str, float]:
    rates = measured(Dataset(str(out)), "here")
    return {r.stage: r.cpu_s * rates.video_s for r in rates.stages}


def spent(out: Path, chosen: Callable[[dict[str, Any]], bool]) -> float:
    steps = [dict(s) for _, lines in by_run(Store(str(out))) for s in lines if s["stage"] == "toy_tracks"]
    return float(sum(s["cpu_s"] for s in steps if chosen(s)))


def test_what_a_kill_kept_from_its_commit_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD), tmp_path / "out"
    with monkeypatch.context() as m:
        stop_at(m, 5, after=False)  # probe, three windows, tracks
        with pytest.raises(StoppedError):
            begin(folder, str(out))
    for outcome in out.glob("runs/*/outcome.json"):
        outcome.unlink()  # as a kill leaves it
    lost = spent(out, lambda s: True)
    assert lost and "toy_tracks" not in counted(out)
    begin(folder, str(out))
    assert counted(out)["toy_tracks"] == pytest.approx(spent(out, lambda s: True) - lost, abs=1e-4)


def test_what_was_quarantined_later_does_not_count(tmp_path: Path) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "fail_track": 0}), tmp_path / "out"
    go(folder, out)
    assert counted(out)["toy_active"] > 0, "units that were measured count beside one that was not"
    go(folder, out, sets=("toy_tracks.broken_run=true",))
    assert "toy_tracks" not in counted(out) and counted(out)["toy_scan"] > 0


def test_a_stage_tells_how_much_memory_it_held(tmp_path: Path) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD), tmp_path / "out"
    go(folder, out, in_process=False)
    store = Store(str(out))
    lines = [line for line in logged(store, log_files(store)) if line["status"] == "ran"]
    assert all(10 < line["memory_mb"] < 4000 for line in lines if line["source_id"])


def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    log = StepLog(store, "now")
    log.put([WRITTEN])
    (name,) = log_files(store)
    with Path(tmp_path, name).open("ab") as f:
        f.write(b'{"at": 1.0, "sta')
    log.put([SKIPPED])
    assert [line["stage"] for line in logged(store, [name])] == ["probe"]
    StepLog(store, "now").put([SKIPPED])
    assert len(log_files(store)) == 2, "each process has a file of its own"
    StepLog(store, "").put([WRITTEN])
    assert len(log_files(store)) == 2, "outside of a run nothing is kept"


def test_after_a_line_that_could_not_be_written_another_file_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    log = StepLog(store, "now")
    with monkeypatch.context() as m:

        def half(name: str, data: bytes) -> None:
            Store.append(store, name, data[:9])
            raise StoppedError

        m.setattr(store, "append", half)
        with pytest.raises(StoppedError):
            log.put([WRITTEN])
    log.put([WRITTEN])
    assert [line["stage"] for line in logged(store, log_files(store))] == ["probe"]


def test_logs_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = {"at": 1.0, "stage": "probe", "source_id": "x", "window": None, "status": "ran", "wall_s": 1.0}
    (tmp_path / "runs" / "1").mkdir(parents=True)
    (tmp_path / "runs" / "1" / "log.jsonl").write_text(json.dumps(old) + "\n")
    store = Store(str(tmp_path))
    assert [run_id for run_id, lines in by_run(store) if [s["stage"] for s in lines] == ["probe"]] == ["1"]
