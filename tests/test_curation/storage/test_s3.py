"""A dataset on object storage, against a real S3-speaking server on this machine."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import boto3
import pytest
from engine_case import GOOD, policy
from toy import CALLS, WORKFLOW, filled, write_sources

from curation import Dataset
from curation.dataset import FORMAT_VERSION, DatasetError
from curation.engine import register as module
from curation.engine.engine_local import LocalEngine
from curation.engine.fetch import MediaCache
from curation.engine.register import InputError, Named, expand
from curation.engine.run import Job, RunStoppedError, is_there, run
from curation.engine.workflow import resolve
from curation.forget.forget import find, forget
from curation.listing import UNASKED
from curation.plan import survey
from curation.storage.compaction import tidy
from curation.storage.digests import sha256
from curation.storage.store import Store, StoreError, table_file
from curation.verify import verify
from schemas import tables as t
from schemas.files.places import with_endpoint

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


KEYS = (
    "x y.mp4", "x%20y.mp4", "é.mp4", "日本.mp4", "a[1].mp4", "a(1).mp4", "it's.mp4", "what?.mp4", "a?b=c.mp4",
    "a#b.mp4", "a.mp4", "a", "a+b&c=d.mp4", "*.mp4", "c:d.mp4", 'q"<>|\\.mp4', "p q/%23#?/r.mp4",
)  # fmt: skip
"""Of which some are others' beginnings, or others decoded."""


def test_every_key_is_taken_as_it_is(bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=f"v v/{key}", Body=key.encode())
    named = expand([f"s3://{bucket}/v v/"])
    videos = {f"s3://{bucket}/v v/{key}": key for key in KEYS if key.endswith(".mp4")}
    assert {n.path for n in named} == set(videos)
    assert expand(list(videos)) == [Named(path) for path in sorted(videos)], "each is an object by its own name"
    store = Store(f"s3://{bucket}/dataset")
    rows = t.INPUTS.rows(module.register(store, named))
    assert {r.path: r.source_id for r in rows} == {
        path: hashlib.sha256(key.encode()).hexdigest()[:16] for path, key in videos.items()
    }
    cache = MediaCache(store)
    for row in rows:
        assert cache.local(row.path, row.source_id).read_bytes() == videos[row.path].encode()
        with survey._data(row.path) as data:
            assert data.read() == videos[row.path].encode()


def test_a_uri_may_still_say_how_to_reach_its_object(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    boto3.client("s3", endpoint_url=endpoint).put_object(Bucket=bucket, Key="v/a.mp4", Body=b"a")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    uri = f"s3://{bucket}/v/a.mp4?scheme=http&endpoint_override={endpoint.removeprefix('http://')}"
    assert [n.path for n in expand([uri])] == [uri] and module.stat(uri)[0] == 1


def test_what_cannot_be_asked_for_is_left_out_and_named(bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for key in ("a.mp4", "d//b.mp4", "d/../c.mp4", "./e.mp4"):
        client.put_object(Bucket=bucket, Key=f"v/{key}", Body=b"x")
    skipped: Counter[str] = Counter()
    assert [n.path for n in expand([f"s3://{bucket}/v"], None, skipped)] == [f"s3://{bucket}/v/a.mp4"]
    assert skipped == {UNASKED: 3}
    for name in ("d//b.mp4", "d/../c.mp4"):
        with pytest.raises(InputError, match=f"cannot read s3://lpm/v/{name}: its key has nothing, . or .. between"):
            expand([f"s3://{bucket}/v/{name}"])
        with pytest.raises(InputError, match=f"cannot read s3://lpm/v/{name}: its key"):
            module.stat(f"s3://{bucket}/v/{name}")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("s3://lpm/nothing/", "no video under"),
        ("s3://nosuch/v/", "the bucket 'nosuch' of s3://nosuch/v/ does not exist"),
        ("s3://lpm/v/none.mp4", "^no such object: s3://lpm/v/none.mp4$"),
        ("s3://lpm/v/a%20b.mp4", r"^no such object: s3://lpm/v/a%20b.mp4 \(keys are taken as they are"),
        ("s3://lpm/v/*.mp4", "patterns are not read on object stores: name the prefix"),
        ("s3://lpm/v/list.CSV", "the list s3://lpm/v/list.CSV is on an object store; download it first"),
    ],
)
def test_what_is_not_there_is_told_apart(bucket: str, named: str, said: str) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket=bucket, Key="v/list.CSV", Body=b"path")
    with pytest.raises(InputError, match=said) as refused:
        expand([named])
    assert refused.value.__cause__ is None, "who follows the causes comes to an end"


@pytest.mark.parametrize("uri", ["az://b/x", "hdfs://h/x.mp4", "https://h/x.mp4", "S3://b/x"])
def test_other_stores_are_refused(uri: str) -> None:
    with pytest.raises(StoreError, match=r"no file is read from .*name a file on this machine, an s3:// object"):
        expand([uri])


def test_googles_store_is_not_asked_without_end() -> None:
    assert with_endpoint("gs://b/p") == "gs://b/p?retry_limit_seconds=30"
    assert with_endpoint("gs://b?retry_limit_seconds=5") == "gs://b?retry_limit_seconds=5"


@pytest.mark.parametrize("endpoint", ["127.0.0.1:5777", "http://", "ftp://127.0.0.1:5777"])
def test_an_endpoint_without_its_scheme_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for ask in (lambda: Store("s3://b/d"), lambda: expand(["s3://b/v"])):
        with pytest.raises(StoreError, match=r"AWS_ENDPOINT_URL=.* does not begin with http:// or https://"):
            ask()


def test_what_names_no_place_is_refused(bucket: str) -> None:
    for uri in ("s3://", "s3:///", "s3://?region=eu-west-1"):
        with pytest.raises(StoreError, match="names no bucket"):
            Store(uri)
    with pytest.raises(StoreError, match="names no bucket"):
        expand(["s3://"])
    with pytest.raises(StoreError, match=r"s3:/lpm/zz has one slash where a URI has two; name s3://lpm/zz, or ./s3:"):
        Store("s3:/lpm/zz")
    with pytest.raises(StoreError, match="the bucket 'nosuch' of s3://nosuch/d does not exist; create it"):
        is_there(Store("s3://nosuch/d"))
    for uri in ("s3://nosuch/d", "s3://nosuch", "s3://no_Such/d/e?region=eu-west-1"):
        with pytest.raises(
            DatasetError, match=r"^the bucket 'no_?[sS]uch' of s3://.* does not exist; name the one that"
        ):
            Dataset(uri)
    with pytest.raises(DatasetError, match=r"^s3://lpm/none is not a dataset \(it has no dataset.json\)"):
        Dataset("s3://lpm/none")


@pytest.mark.parametrize("prefix", ["", "/home"])
def test_a_prefix_that_holds_other_things_is_no_dataset(bucket: str, prefix: str) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    store = Store(f"s3://{bucket}{prefix}")
    within = f"{prefix[1:]}/" if prefix else ""
    client.put_object(Bucket=bucket, Key="homes/other.txt" if prefix else "lease.json", Body=b"x")
    if prefix:
        client.put_object(Bucket=bucket, Key=within, Body=b"")  # the folder itself, as browsers make it
    client.put_object(Bucket=bucket, Key=f"{within}lease.json", Body=b"{}")
    assert not is_there(store), "a run begins with its lease"
    client.put_object(Bucket=bucket, Key=f"{within}z/other.txt", Body=b"x")
    with pytest.raises(RunStoppedError, match=f"s3://{bucket}{prefix} exists and is not a dataset; choose an empty"):
        is_there(store)
    store.write_json("dataset.json", {"format": FORMAT_VERSION, "name": "openlpm"})
    assert is_there(store)


def test_a_file_of_the_dataset_is_named_as_its_user_does(bucket: str, tmp_path: Path) -> None:
    assert Store(f"s3://{bucket}/r1/").place("report/index.html") == f"s3://{bucket}/r1/report/index.html"
    assert Store(str(tmp_path)).place("README.md") == f"{tmp_path}/README.md"


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
