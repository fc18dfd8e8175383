"""A command is stopped (SIGSTOP) while it works, another one takes the dataset over, and the first one goes on.

It ends with a sentence, and what the other one made stays as it is: on a disk, and on object storage.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT, SUPPORT
from engine_case import GOOD, policy
from toy import WORKFLOW, ToyTracks, write_sources

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.storage import digests
from curation.storage.store import Store
from curation.storage.writers import lease
from curation.storage.writers.lock import FILE as LOCK
from curation.verify import certify
from schemas import tables as t
from workflows.commands.jobs import EXPECTED

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(300),
]
TTL_S = 1.5


def made(out: str, folders: list[str], tweak: float, *, wait: bool = False) -> None:
    """Run the toy workflow with a setting of its own, so that tables have other bytes than with another one."""
    stages = {k: v for k, v in WORKFLOW.stages.items() if k != "toy_packing"}
    pipeline = resolve(WORKFLOW.model_copy(update={"stages": stages}), (f"toy_tracks.tweak={tweak}",))
    run(Job(out, pipeline, policy(), in_process=True), LocalEngine(), expand(folders), wait=wait)


def first(out: str, folder: str, begun: str, go_on: str) -> int:
    """Run it, waiting inside a stage for a file; the exit code is that of `lpm`."""
    lease.TTL_S, measure = TTL_S, ToyTracks.run

    def slowly(self: ToyTracks, item: Any, inputs: Any) -> Any:
        Path(begun).touch()
        while not Path(go_on).exists():
            time.sleep(0.01)
        return measure(self, item, inputs)

    ToyTracks.run = slowly  # type: ignore[method-assign]
    try:
        made(out, [folder], 1.0)
    except EXPECTED as e:
        print(e)
        return 1
    return 0


@pytest.fixture(params=["disk", "bucket"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "out") if request.param == "disk" else f"s3://{request.getfixturevalue('bucket')}/out"


def test_who_was_stopped_and_overtaken_writes_nothing_more(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    folders = [str(write_sources(tmp_path / n, **{n: {**GOOD, "faces": [f]}})) for n, f in (("a", 120), ("b", 130))]
    begun, go_on = tmp_path / "begun", tmp_path / "go_on"
    here = Path(__file__)
    script = f"import sys; from {here.stem} import first; sys.exit(first(*sys.argv[1:]))"
    env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{here.parent}:{ROOT}"}
    command = [sys.executable, "-c", script, out, folders[0], str(begun), str(go_on)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            while not begun.exists():
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.01)
            process.send_signal(signal.SIGSTOP)
            if "://" not in out:
                (Path(out) / LOCK).unlink()  # as somebody does who takes the other one for dead
            made(out, folders, 2.0, wait=True)
            before = held(out)
            go_on.touch()
            process.send_signal(signal.SIGCONT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1 and "is written no more: " in said and "run the same command again" in said
    assert held(out) == before
    assert sorted(r.name for r in t.INPUTS.rows(Dataset(out).table(t.INPUTS))) == ["a.mp4", "b.mp4"]
    wrong = [p for p in certify(Dataset(out), media=False, packed=False).problems if p.check in ("hashes", "keys")]
    assert not wrong


def held(out: str) -> dict[str, str]:
    """Return the hash of every file but logs."""
    store = Store(out)
    return {n: digests.file_digest(store, n) for n in store.names("") if n.partition("/")[0] != "runs" and n != LOCK}
