"""What `lpm status` says of a run that works, or that was stopped or killed: from commits, attempts and logs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deadly
import pytest
from command_line import ROOT, SUPPORT, lpm
from engine_case import GOOD, by_name, go, policy
from toy import write_sources

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.pythons.worker import close_all
from curation.runs.newest import newest_run
from curation.storage.store import Store
from curation.storage.writers.lease import holder
from workflows.commands.jobs import stopped

SCRIPT = """
import sys
import deadly
from engine_case import policy
from curation.cluster.engine_ray import RayEngine
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
engine, videos, out = sys.argv[1:]
made = {"ray": RayEngine, "local": LocalEngine}[engine]()
run(Job(out, resolve(deadly.workflow()), policy()), made, expand([videos]))
"""


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    close_all()


def begun(engine: str, folder: Path, out: str) -> subprocess.Popen[bytes]:
    """Begin a run whose source `b` takes for ever in the stage `deadly`, and wait until it does."""
    env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, engine, str(folder), out], env=env)
    while not (folder / "b.mp4.tries").exists() and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, "it still works"
    return process


def sources(folder: Path) -> Path:
    """Two sources, of which the second to be worked on hangs once."""
    return write_sources(
        folder, a={**GOOD, "long": "x" * 99}, b={**GOOD, "die": "hang", "times": 1}, c={**GOOD, "fail": "toy_probe"}
    )


def said(out: str) -> str:
    done = lpm("status", out)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def check_both(out: str, process: subprocess.Popen[bytes], engine: str) -> None:
    """Hold what is told of a run that works, and that is then killed, against what is known of it."""
    works = newest_run(Store(out))
    while works is not None and len(works.under_way) > 1:  # another worker may not be done with `c` yet
        time.sleep(0.05)
        works = newest_run(Store(out))
    assert works is not None and works.state == "works" and works.phase == "sources"
    assert str(process.pid) in works.said and works.engine == engine
    assert [(u.stage, u.attempt) for u in works.under_way] == [("deadly", 1)]
    told = said(out)
    assert "a run works on it" in told and "go on with" not in told
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
@pytest.mark.timeout(240)
def test_a_run_that_works_and_is_then_killed(tmp_path: Path, engine: str) -> None:
    folder, out = sources(tmp_path / "in"), str(tmp_path / "out")
    check_both(out, begun(engine, folder, out), engine)
    killed = newest_run(Store(out))
    assert killed is not None and killed.state == "killed" and not holder(Store(out))
    counts = {s.stage: (s.done, s.ran, s.failed) for s in killed.stages}
    assert counts["toy_probe"][0] == sum(counts["toy_probe"][1:]) >= 2
    assert counts["deadly"][0] == counts["deadly"][1] <= 1, "what was only begun is not done"
    told = said(out)
    names = {Path(r["path"]).name: r["source_id"] for r in Dataset(out).query(
        "SELECT path, source_id FROM inputs").to_arrow_table().to_pylist()}  # fmt: skip
    assert f"deadly │ {names['b.mp4']} │ b.mp4" in told and "was killed at phase 'sources'" in told
    assert f"go on with: lpm run --out {out}" in told and ("--engine local" in told) == (engine == "local")
    job = Job(out, resolve(deadly.workflow()), policy())
    run(job, LocalEngine(), [])
    assert {n: o for n, (o, _, _) in by_name(Path(out)).items()} == {
        "a.mp4": "kept", "b.mp4": "kept", "c.mp4": "quarantined",
    }  # fmt: skip
    over = newest_run(Store(out))
    assert over is not None and (over.state, over.stages) == ("done", ())
    assert "a run works" not in said(out) and "go on with" not in said(out)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_so_it_is_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    folder, out = sources(tmp_path / "in"), f"s3://{bucket}/dataset"
    check_both(out, begun("local", folder, out), "local")
    store = Store(out)
    lease = store.read_json("lease.json")
    store.write_json("lease.json", {**lease, "ttl_s": 0.0})  # as when its time is over
    killed = newest_run(store)
    assert killed is not None and killed.state == "killed"
    assert [(u.stage, u.attempt) for u in killed.under_way] == [("deadly", 1)]
    assert f"go on with: lpm run --out {out} --engine local" in said(out)


def go_until(monkeypatch: pytest.MonkeyPatch, called: str, folder: Path, out: Path) -> None:
    """Run on the toy footage, and press Ctrl-C when something is called."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(called, stop)
        with pytest.raises(KeyboardInterrupt):
            go(folder, out)


def test_a_run_that_was_stopped_while_it_registered_is_to_be_named_its_inputs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD), tmp_path / "out"

    go_until(monkeypatch, "curation.engine.run.register", folder, out)
    told = said(str(out))
    assert "at phase 'register'" in told and "lpm run --out" not in told
    assert "its inputs were not registered yet; run the same command again, with its inputs" in told
    at_once = stopped(str(out), "local", None)  # what Ctrl-C is answered with
    assert "run the same command again, with its inputs" in at_once and "lpm run" not in at_once


def test_a_run_that_was_stopped_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "n": 2}), tmp_path / "out"

    go_until(monkeypatch, "toy.ToyTracks.run", folder, out)
    found = newest_run(Store(str(out)))
    assert found is not None and (found.state, found.phase) == ("stopped", "sources")
    assert [(u.stage, u.attempt) for u in found.under_way] == [("toy_tracks", 1)]
    assert {s.stage: s.done for s in found.stages} == {"toy_probe": 1, "toy_scan": 3}
    told = said(str(out))
    assert "was stopped at phase 'sources' by Ctrl-C or SIGTERM" in told
    assert "│ toy_scan  │ 3    │ 3 " in told and "│ toy_probe │ 1    │ 2 " in told


def test_what_an_older_run_left_begun_is_not_taken_for_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD), tmp_path / "out"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    for stage in ("ToyTracks", "ToyProbe"):
        with monkeypatch.context() as m:
            m.setattr(f"toy.{stage}.run", stop)
            if stage == "ToyProbe":
                m.setattr("curation.engine.run.plan", stop)
            with pytest.raises(KeyboardInterrupt):
                go(folder, out)
    found = newest_run(Store(str(out)))
    assert found is not None and (found.phase, found.under_way) == ("plan", [])
    assert {s.stage: s.done for s in found.stages} == {"toy_probe": 1, "toy_scan": 3}
    assert all(s.ran == 0 for s in found.stages)


def test_who_asks_does_not_keep_a_run_from_its_dataset(tmp_path: Path) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD), tmp_path / "out"
    go(folder, out)
    store = Store(str(out))
    assert holder(store) is None
    with (out / ".lock").open() as asking:
        import fcntl

        fcntl.flock(asking, fcntl.LOCK_SH)
        signal.signal(signal.SIGALRM, lambda *_: fcntl.flock(asking, fcntl.LOCK_UN))
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        go(folder, out)
    assert newest_run(Store(str(tmp_path))) is None, "nothing was ever run there"
