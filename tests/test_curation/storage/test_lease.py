"""Two commands never write one dataset on object storage: against a real S3-speaking server on this machine."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_case import GOOD, policy
from toy import WORKFLOW, ToyTracks, write_sources

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, locked, run
from curation.engine.workflow import resolve
from curation.storage.commits import Attempts, Commit, read_commit, write_commit
from curation.storage.store import Store, StoreError
from curation.storage.writers import lease, written
from curation.storage.writers.lease import FILE, HeldError, leased
from schemas import tables as t

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_one_holds_it_and_the_token_grows(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"s3://{bucket}/held")
    with leased(store):
        with pytest.raises(HeldError, match=r"another run is writing s3://lpm/held: process \d+ on "), leased(store):
            pass
        assert json.loads(store.read(FILE))["token"] == 1
    with leased(store):
        assert json.loads(store.read(FILE))["token"] == 2
    assert json.loads(store.read(FILE))["released"]
    monkeypatch.setattr(lease, "POLL_S", 0.01)
    held = leased(store)
    held.__enter__()
    threading.Timer(0.3, held.__exit__, (None, None, None)).start()
    with leased(store, wait=True):
        assert json.loads(store.read(FILE))["token"] == 4


def test_who_was_taken_over_writes_nothing_more(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"s3://{bucket}/lost")
    monkeypatch.setattr(lease, "TTL_S", 0.3)
    with leased(store):
        store.write("a", b"1")
        store.write(FILE, json.dumps({"token": 7, "owner": "another"}).encode())
        with pytest.raises(StoreError, match="is written no more: another command took the dataset over"):
            for _ in range(100):
                time.sleep(0.05)
                store.write("b", b"2")
    store.write("b", b"3")
    assert json.loads(store.read(FILE))["token"] == 7


def test_who_slept_looks_before_the_next_write(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread has told the holder yet that its lease is gone."""
    monkeypatch.setattr(lease, "TTL_S", 0.0)
    monkeypatch.setattr(threading.Event, "wait", lambda self, timeout=None: True)  # nor will it
    store = Store(f"s3://{bucket}/slept")
    with leased(store):
        store.write("a", b"1")
        Store(store.uri).conditional().write(FILE, json.dumps({"token": 7, "owner": "another"}).encode())
        with pytest.raises(StoreError, match="is written no more: another command took the dataset over"):
            store.write("a", b"2")
        with pytest.raises(StoreError, match="is written no more"):
            store.delete("a")
        with pytest.raises(StoreError, match="is written no more"), store.open_output("a"):
            pass
    assert store.read("a") == b"1"


def test_the_store_refuses_the_commit_of_who_was_overtaken(bucket: str) -> None:
    """Between an attempt and its commit another command began on the same: even a write under way comes too late."""
    one, other = Store(f"s3://{bucket}/overtaken"), Store(f"s3://{bucket}/overtaken")
    begun = Commit("stage", "a" * 16, "", "begun", attempts=Attempts(key="k", runs=["1"], ended=[""]))
    write_commit(one, "commits/x.json", begun)
    write_commit(other, "commits/x.json", replace(begun, attempts=Attempts(key="k", runs=["2"], ended=[""])))
    with pytest.raises(StoreError, match=r"another process has written commits/x\.json meanwhile; run the same"):
        write_commit(one, "commits/x.json", Commit("stage", "a" * 16, "of one"))
    with pytest.raises(StoreError, match="is written no more"):
        one.write("tables/a", b"")
    written.allow(one.root)
    write_commit(other, "commits/x.json", Commit("stage", "a" * 16, "of the other"))
    found = read_commit(one, "commits/x.json")
    assert found is not None and found.fingerprint == "of the other"


def test_a_lease_that_nobody_renews_is_taken(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"s3://{bucket}/dead")
    store.write(FILE, json.dumps({"token": 3, "owner": "killed", "ttl_s": 0}).encode())
    time.sleep(1.1)  # the store's clock counts seconds
    with leased(store):
        assert json.loads(store.read(FILE))["token"] == 4


@pytest.mark.slow
def test_of_two_runs_started_together_nothing_is_lost(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused, or waits; both inputs are in the registry in the end."""
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    spec = WORKFLOW.model_copy(update={"stages": {k: v for k, v in WORKFLOW.stages.items() if k != "toy_packing"}})
    out = f"s3://{bucket}/two"
    job = Job(out, resolve(spec), policy(), in_process=True)
    inside, measure = threading.Event(), ToyTracks.run

    def slowly(self: ToyTracks, item: Any, inputs: Any) -> Any:
        inside.set()
        time.sleep(0.3)
        return measure(self, item, inputs)

    monkeypatch.setattr(ToyTracks, "run", slowly)
    named = [
        expand([str(write_sources(tmp_path / n, **{n: {**GOOD, "faces": [f]}}))]) for n, f in (("a", 120), ("b", 130))
    ]
    failed: list[BaseException] = []

    def first() -> None:
        try:
            run(job, LocalEngine(), named[0])
        except BaseException as e:
            failed.append(e)

    one = threading.Thread(target=first)
    one.start()
    assert inside.wait(60)
    with pytest.raises(HeldError), locked(Store(out)):
        pass
    run(job, LocalEngine(), named[1], wait=True)
    one.join()
    assert not failed
    dataset = Dataset(out)
    assert sorted(r.name for r in t.INPUTS.rows(dataset.table(t.INPUTS))) == ["a.mp4", "b.mp4"]
    rows = dataset.query("SELECT outcome, count(*) FROM decisions WHERE unit = 'sources' GROUP BY 1").fetchall()
    assert rows == [("kept", 2)]
