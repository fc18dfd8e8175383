"""What verification finds: files that are not as committed, units that are lost, ids that name nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from engine_case import GOOD, go
from toy import filled, write_sources

from curation import Dataset, dataset
from curation.dataset import FORMAT_VERSION
from curation.pack.splits import WITHHELD
from curation.storage import compaction, digests
from curation.storage.commits import Commit, write_commit
from curation.storage.store import Store, parquet_bytes, table_file
from curation.verify import joins, verify
from curation.verify.few import NAMED, Few
from curation.verify.files import changed
from curation.verify.root import Root
from schemas import tables as t
from schemas.table import Table

HERE, ELSEWHERE = "00" * 8, "ff" * 8
SOURCES = NAMED + 2


def new(root: Path) -> Store:
    """Return the store of a dataset that holds nothing."""
    store = Store(str(root))
    store.write_json("dataset.json", {"format": FORMAT_VERSION})
    return store


# ------------------------------------------------------------------------------------------------ files


def committed(store: Store) -> list[str]:
    """Write tracks, and empty shots, of sources that share a bucket, with a clip each; return the tables' names."""
    names = []
    for i in range(4):
        source = f"00{i:014d}"
        commit = Commit("tracks", source, "")
        tracks = [filled(t.TRACKS, track_id=f"{source}-t{k}", source_id=source) for k in range(3)]
        for table, rows in ((t.TRACKS, tracks), (t.SHOTS, [])):
            file = table_file(table, source)
            digest = store.write_table(file, table, table.from_rows(rows))
            commit.tables[table.name] = {"file": file, "sha256": digest, "rows": len(rows)}
            names.append(file)
        clip = f"clips/bucket=00/{source}.tar"
        commit.files[clip] = store.write(clip, source.encode())
        write_commit(store, f"commits/tracks/bucket=00/{source}.json", commit)
    return names


@pytest.mark.parametrize("gathered", [False, True])
def test_files_that_are_gone_or_changed_are_named(tmp_path: Path, gathered: bool) -> None:
    store = new(tmp_path)
    tracks, shots = (names := committed(store))[0], names[1]
    if gathered:
        assert compaction.tidy(store, min_files=2).written == 2 and not (tmp_path / tracks).exists()
    assert dict(digests.digests(store, names)) == {n: digests.sha256(store, n) for n in names}
    assert [f.what for f in changed(Dataset(str(tmp_path)), Root())] == []
    if gathered:
        _rewrite(store, tracks)
    else:
        store.write(tracks, parquet_bytes(store.read_table(tracks, t.TRACKS).slice(1)))
    store.delete(shots)
    store.write("clips/bucket=00/0000000000000001.tar", b"others")
    (tmp_path / "clips/bucket=00/0000000000000002.tar").unlink()
    assert [f.what for f in changed(Dataset(str(tmp_path)), Root())] == [
        "clips/bucket=00/0000000000000001.tar changed since stage tracks wrote it; delete it and run `lpm run` again",
        "clips/bucket=00/0000000000000002.tar is gone; run `lpm run` again to make it",
        f"{shots} is gone; run `lpm run` again to make it",
        f"{tracks} changed since stage tracks wrote it; delete it and run `lpm run` again",
    ]


def _rewrite(store: Store, name: str) -> None:
    """Change one part's rows in its compact file, which goes on saying that they are what they were."""
    part = store.compacted.find(name)
    assert part is not None
    parts = store.compacted.parts(part.file)
    rows = [store.compacted.read(p, t.TRACKS.schema) for p in parts]
    rows = [r.slice(1) if p.name == name else r for p, r in zip(parts, rows, strict=True)]
    (where, _, _) = part.file.rpartition("/compact/")
    content = [(p.name, p.sha256) for p in parts]
    compaction._write(store, where, ((*c, r) for c, r in zip(content, rows, strict=True)), content)


# ------------------------------------------------------------------------------------------------ decisions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verify")
    go(write_sources(root / "in", **{f"s{i}": {**GOOD, "duration_s": 10.0 + i} for i in range(SOURCES)}), root / "out")
    return root / "out"


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    out = Path(shutil.copytree(made, tmp_path / "out"))
    kept = decided(out).filter((pc.field("unit") == "segments") & (pc.field("outcome") == "kept"))
    rows = [filled(t.MANIFEST, segment_id=r["unit_id"], source_id=r["source_id"]) for r in kept.to_pylist()]
    Store(str(out)).write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows(rows))
    return out


def decided(out: Path) -> pa.Table:
    return Dataset(str(out)).table(t.DECISIONS)


def conservation(out: Path) -> list[str]:
    return [p.what for p in verify(Dataset(str(out)), shards=False) if p.check == "conservation"]


def rewrite(out: Path, table: Table[Any], change: Callable[[pa.Table], pa.Table]) -> None:
    store, name = Store(str(out)), table_file(table)
    store.write(name, parquet_bytes(change(store.read_table(name, table))))


def test_every_kept_segment_is_packed_and_no_other(out: Path) -> None:
    assert conservation(out) == []
    packed = sorted(Dataset(str(out)).table(t.MANIFEST)["segment_id"].to_pylist())
    assert len(packed) == SOURCES
    rewrite(out, t.MANIFEST, lambda rows: rows.slice(0, 0))
    lines = [f"kept segment {i} is in no shard; run `lpm pack`" for i in packed[:NAMED]]
    assert conservation(out) == [*lines, "2 more: kept segment ... is in no shard; run `lpm pack`"]
    (out / table_file(t.DECISIONS)).unlink()
    assert conservation(out) == ["there are no decisions; run `lpm run` or `lpm decide`"]


def test_a_lost_unit_and_a_lost_reason_are_found(out: Path) -> None:
    whole = decided(out)
    sample = Dataset(str(out)).table(t.MANIFEST)["segment_id"][0].as_py()
    rewrite(out, t.DECISIONS, lambda rows: rows.filter(pc.field("unit_id") != sample))
    assert conservation(out) == [
        "unaccounted for: 1 segments", f"sample {sample} is in a shard but not kept; run `lpm pack`",
    ]  # fmt: skip
    rewrite(out, t.DECISIONS, lambda _: _without(whole, "reason"))
    (said,) = conservation(out)
    assert said.startswith("no reason is recorded for ")


def _without(rows: pa.Table, name: str) -> pa.Table:
    at = rows.column_names.index(name)
    return rows.set_column(at, rows.schema.field(at), pa.nulls(rows.num_rows, rows.schema.field(at).type))


def test_of_many_like_problems_a_few_are_named() -> None:
    few = Few("{} is lost")
    few.add(str(i) for i in range(NAMED))
    assert list(few.said()) == [f"{i} is lost" for i in range(NAMED)]
    few.add(["x", "y"])
    assert list(few.said())[NAMED:] == ["2 more: ... is lost"]


# ------------------------------------------------------------------------------------------------ ids


def named(store: Store, ids: str, *, known: bool) -> set[str]:
    """Write a row into every table that names others, and where `known` those that it names; return what is lacking.

    Columns that may name what is of another source name what is of one far away.
    """
    rows: dict[Table[Any], dict[str, str]] = {}
    lacking = set()
    for (other, key), places in joins._NAMED_BY:
        for table, column in places:
            i = f"{ELSEWHERE}-{ids}" if column in joins._ACROSS else f"{HERE}-{ids}"
            rows.setdefault(table, {})[column.name] = i
            lacking.add(f"{table.name}.{column.name} {i} has no row in {other.name}")
        if known:
            rows.setdefault(other, {})[key.name] = f"{HERE}-{ids}"
    for table, values in rows.items():
        if "source_id" in table.column_names:
            values.setdefault("source_id", HERE)
        store.write_table(table_file(table, HERE), table, table.from_rows([filled(table, **values)]))
    if known:
        far = filled(t.TRACKS, track_id=f"{ELSEWHERE}-{ids}")
        store.write_table(table_file(t.TRACKS, ELSEWHERE), t.TRACKS, t.TRACKS.from_rows([far]))
    return lacking


@pytest.mark.parametrize("slice_bytes", [1, dataset.SLICE_BYTES])
def test_every_id_names_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_bytes: int) -> None:
    monkeypatch.setattr(dataset, "SLICE_BYTES", slice_bytes)
    lost = named(new(tmp_path / "lost"), "x", known=False)
    said = list(joins.orphans(Dataset(str(tmp_path / "lost"))))
    assert set(said) == lost and len(said) == len(lost)
    named(new(tmp_path / "whole"), "x", known=True)
    assert list(joins.orphans(Dataset(str(tmp_path / "whole")))) == []


def test_a_person_is_in_one_split_or_withheld(tmp_path: Path) -> None:
    store = new(tmp_path)
    store.write_table(table_file(t.INPUTS), t.INPUTS, t.INPUTS.from_rows([filled(t.INPUTS, source_id=HERE)]))
    people = {"both": ("train", "val"), "kept_out": ("train", WITHHELD), "one": ("val", "val")}
    store.write_table(
        table_file(t.IDENTITIES), t.IDENTITIES,
        t.IDENTITIES.from_rows([filled(t.IDENTITIES, identity_id=p) for p in people]),
    )  # fmt: skip
    ids = [f"{HERE}-{i}" for i in range(6)]
    rows = [
        filled(t.MANIFEST, segment_id=i, source_id=HERE, identity_id=p, split=s)
        for i, (p, s) in zip(ids, ((p, s) for p, both in people.items() for s in both), strict=True)
    ]
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows(rows))
    segments = t.SEGMENTS.from_rows([filled(t.SEGMENTS, segment_id=i) for i in ids])
    store.write_table(table_file(t.SEGMENTS, HERE), t.SEGMENTS, segments)
    assert list(joins.orphans(Dataset(str(tmp_path)))) == ["identity both is in two splits"]
