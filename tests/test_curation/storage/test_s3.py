"""A dataset on object storage, against a real S3-speaking server on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest
from engine_case import GOOD, policy
from toy import CALLS, WORKFLOW, filled, write_sources

from curation import Dataset
from curation.engine import register as module
from curation.engine.engine_local import LocalEngine
from curation.engine.register import InputError, Named, expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.forget.forget import find, forget
from curation.storage.compaction import tidy
from curation.storage.digests import sha256
from curation.storage.store import Store, table_file
from curation.verify import verify
from schemas import tables as t

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_store_reads_what_it_wrote(bucket: str) -> None:
    store = Store(f"s3://{bucket}/some/dataset")
    store.write("a/b.bin", b"0123456789")
    assert store.read("a/b.bin", 3, 4) == b"3456" and store.size("a/b.bin") == 10
    assert list(store.names("a")) == ["a/b.bin"] and store.exists("a/b.bin")
    store.delete("a/b.bin")
    assert not store.exists("a/b.bin") and store.read_json("none.json") is None


def test_what_ends_with_an_error_leaves_nothing_under_its_name(bucket: str) -> None:
    store = Store(f"s3://{bucket}/some/dataset")
    with pytest.raises(ValueError, match="half way"), store.open_output("shards/x.tar") as out:
        out.write(b"begun")
        raise ValueError("half way")
    assert not store.exists("shards/x.tar")
    with store.open_output("shards/x.tar") as out:
        out.write(b"whole")
    assert store.read("shards/x.tar") == b"whole"


@pytest.mark.slow
def test_workflow_from_and_to_object_storage(bucket: str, tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 7.0})
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for file in folder.iterdir():
        client.upload_file(str(file), bucket, f"videos/{file.name}")
    out = f"s3://{bucket}/dataset"
    named = expand([f"s3://{bucket}/videos/"])
    assert [n.path for n in named] == [f"s3://{bucket}/videos/a.mp4", f"s3://{bucket}/videos/b.mp4"]
    spec = WORKFLOW.model_copy(update={"stages": {k: v for k, v in WORKFLOW.stages.items() if k != "toy_packing"}})
    CALLS.clear()
    run(Job(out, resolve(spec), policy()), LocalEngine(), named)
    dataset = Dataset(out)
    rows = dataset.query("SELECT outcome, count(*) FROM decisions WHERE unit = 'sources' GROUP BY 1").fetchall()
    assert rows == [("kept", 2)]
    assert dataset.table(t.TRACKS).num_rows == 4
    CALLS.clear()
    run(Job(out, resolve(spec), policy()), LocalEngine(), [])
    assert not CALLS
    assert [p for p in verify(dataset, media=False) if p.check == "hashes"] == []
    proof = forget(Job(out, resolve(spec), policy()), find(dataset, ["b.mp4"]))
    assert not proof.traces and dataset.table(t.TRACKS).num_rows == 2


def test_a_listing_tells_what_is_registered_already(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run again, no file is asked for by itself; one that changed is read again, and the others are not."""
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for name in ("a", "b"):
        client.put_object(Bucket=bucket, Key=f"videos/{name}.mp4", Body=name.encode())
    store = Store(f"s3://{bucket}/dataset")
    first = module.register(store, expand([f"s3://{bucket}/videos/"]))
    assert module.register(store, [Named(n.path) for n in expand([f"s3://{bucket}/videos/"])]).equals(first)
    asked: list[str] = []
    real = module.stat
    monkeypatch.setattr(module, "stat", lambda path: asked.append(path) or real(path))
    assert module.register(store, expand([f"s3://{bucket}/videos/"])).equals(first) and asked == []
    client.put_object(Bucket=bucket, Key="videos/b.mp4", Body=b"other bytes")
    again = module.register(store, expand([f"s3://{bucket}/videos/"]))
    assert asked == [f"s3://{bucket}/videos/b.mp4"]
    assert again["source_id"][0] == first["source_id"][0] and again["source_id"][1] != first["source_id"][1]


def test_nothing_under_a_prefix_is_refused(bucket: str) -> None:
    with pytest.raises(InputError, match="no video under"):
        expand([f"s3://{bucket}/nothing/"])


def test_small_tables_are_gathered_there_too(bucket: str) -> None:
    store = Store(f"s3://{bucket}/gathered")
    names = [table_file(t.SHOTS, f"ab{n:014d}") for n in range(3)]
    for n, name in enumerate(names):
        rows = [filled(t.SHOTS, shot_id=f"{n}-{i}", source_id=f"ab{n:014d}") for i in range(n)]
        store.write_table(name, t.SHOTS, t.SHOTS.from_rows(rows))
    digests = [sha256(store, name) for name in names]
    assert tidy(store, min_files=2).gathered == 3
    assert next(iter(store.names("tables", ".parquet"))).startswith("tables/shots/bucket=ab/compact/")
    assert [sha256(store, name) for name in names] == digests
    assert [store.read_table(name, t.SHOTS).num_rows for name in names] == [0, 1, 2]
    store.delete(names[1])
    assert not store.exists(names[1]) and list(store.tables("tables/shots")) == [names[0], names[2]]
    assert tidy(store, min_files=2).cleared == 1
    assert list(store.tables("tables/shots")) == [names[0], names[2]]
