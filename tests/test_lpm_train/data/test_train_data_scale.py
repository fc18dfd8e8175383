"""Samples kept in columns are those that plain objects were: same rows, selections, hashes and order, in any number."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import former_shards
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_case import packed, table

from lpm_train.data.cut import Cut
from lpm_train.data.make import cut
from lpm_train.data.order import Order
from lpm_train.data.shards import Shards, holds
from lpm_train.data.sizes import choose_bucket, counted
from lpm_train.data.table import manifest as manifest_file
from lpm_train.data.table import row_hash, spilled
from lpm_train.data.table.columns import Names, distinct
from lpm_train.data.table.spilled import TextsWriter
from lpm_train.storage import DataError

SIZES = [(16, 32, 32), (32, 32, 32), (16, 32, 48)]
WHERE = [
    None, "state = 'listen'", "duration_s >= 2 AND width < 64", "duration_s > (SELECT avg(duration_s) FROM manifest)",
    "manifest.width > 40 OR caption LIKE '%a%'", "text IS NULL OR _i % 2 = 0", "language IS NULL",
]  # fmt: skip

ids = st.text("ab0-_.'\"\\é漢 ", min_size=1, max_size=9)
row = st.fixed_dictionaries({
    "segment_id": ids, "state": st.sampled_from(["speak", "listen", "idle", "both"]), "width": st.integers(1, 90),
    "height": st.integers(1, 90), "n_frames": st.integers(1, 70), "n_audio_samples": st.integers(0, 2**40),
    "shard": st.sampled_from(["a.tar", "b.tar", "c.tar"]), "caption": st.text(max_size=30),
    "duration_s": st.floats(0, 9), "text": st.none() | st.text(max_size=5), "language": st.none() | st.just("en"),
    "confidence": st.floats(0, 1, width=32), "emotions": st.lists(st.sampled_from(["joy", "fear"]), max_size=3),
    "member_sha256": st.none() | st.lists(st.text("0f", max_size=4), max_size=3),
    "suffixes": st.lists(st.sampled_from(["mp4", "json", "speak.flac", "ref_é.jpg"]), max_size=4, unique=True),
    "at": st.integers(0, 2**40), "vector": st.none(),
})  # fmt: skip
tables = st.lists(row, min_size=1, max_size=40, unique_by=lambda r: r["segment_id"])


@settings(max_examples=15, deadline=None)
@given(tables, st.sampled_from(WHERE), st.booleans(), st.integers(9, 50))
def test_rows_selections_and_hashes_are_those_of_plain_objects(made, where: str | None, sort: bool, group: int) -> None:
    if sort:
        made = sorted(made, key=lambda r: r["segment_id"].encode())
    whole = table(made)
    with tempfile.TemporaryDirectory() as folder:
        root = packed(Path(folder) / "d", whole, group)
        former = former_shards.select(former_shards.read(root / "manifest.parquet"), where)
        assert holds(root, where or "true") == bool(former.num_rows)
        if not former.num_rows:
            with pytest.raises(DataError, match="holds for none"):
                Shards(root, where)
            return
        shards, wanted = Shards(root, where), former_shards.rows(former)
        assert list(shards) == wanted and list(shards.ids) == [r.segment_id for r in wanted]
        assert [shards[r.segment_id] for r in wanted] == wanted and len(shards) == len(wanted)
        assert [r.digest for r in shards] == [r.digest for r in wanted]
        assert list(shards.column("shard")) == [r.shard for r in wanted]
        assert shards.numbers("n_audio_samples").tolist() == [r.n_audio_samples for r in wanted]
        assert shards.shapes() == counted(wanted)
        assert dict(shards.column("state").groups()).keys() == {r.state for r in wanted}
        assert "no such" not in shards and 3 not in shards
        found = shards._hash()
        assert found == former_shards.hash_of(former)


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(1, 9), st.integers(0, 99), st.sampled_from([None, {"speak": 0.7, "listen": 0.3}]))
def test_order_is_that_of_a_plain_mapping(made, batch: int, seed: int, balance: dict[str, float] | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(packed(Path(folder) / "d", table(made)))
    pairs = [(r, choose_bucket(r.n_frames, r.width, r.height, SIZES)) for r in shards]
    plain = {r.segment_id: (size, r.state) for r, size in pairs if size is not None}
    samples = cut(shards, SIZES)
    assert dict(samples) == dict(Cut.of(plain)) == plain and list(samples) == sorted(plain, key=str.encode)
    assert [samples.find(i) for i in samples] == list(range(len(plain))) and samples.find("no such") == -1
    former = former_shards.Order(plain, batch, seed, balance)
    if not former.buckets:
        with pytest.raises(DataError):
            Order(samples, batch, seed, balance).normal(0, 0)
        return
    for order in (Order(samples, batch, seed, balance), Order(plain, batch, seed, balance)):
        assert order.fingerprint == former.fingerprint
        for epoch in range(3):
            assert list(order.schedule(epoch)) == former.schedule(epoch) == list(order.schedule(epoch)[:])
            for cursor in range(min(3, len(order.schedule(epoch)))):
                drawn = [(d.sample_id, d.turn, d.bucket) for d in order.batch(epoch, cursor)]
                assert drawn == former.batch(epoch, cursor)


def test_more_letters_than_a_batch_holds_are_hashed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups and the size of what is read at once do not count; every value does."""
    monkeypatch.setattr(row_hash, "_MOST_LETTERS", 40)
    rng = np.random.default_rng(0)
    given = [
        {
            "segment_id": f"s{i:03d}", "state": "speak", "width": 4, "height": 4, "n_frames": 9, "caption": "c" * i,
            "shard": "a.tar", "suffixes": ["mp4"], "at": int(rng.integers(99)), "annotators": "x" * (3 + i // 20),
        }
        for i in range(100)
    ]  # fmt: skip
    whole, found = table(given), []
    for number, (group, piece) in enumerate([(7, 10), (50, 10), (100, 10)]):
        monkeypatch.setattr(row_hash, "PIECE", piece)
        monkeypatch.setattr(manifest_file, "PIECE", 3 * number + 4)
        found.append(Shards(packed(tmp_path / str(number), whole, group)).fingerprint)
    assert len(set(found)) == 1
    for number, change in enumerate(({"caption": "?"}, {"annotators": "?"}, {"at": 1000}, {"text": ""})):
        other = [one | change if i == 50 else one for i, one in enumerate(given)]
        assert Shards(packed(tmp_path / f"other-{number}", table(other))).fingerprint != found[0]
    assert Shards(tmp_path / "0", "_i > 3").fingerprint == Shards(tmp_path / "1", "_i > 3").fingerprint != found[0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=300), st.integers(1, 100))
def test_texts_out_of_memory_are_what_was_put_in(texts: list[str], at_once: int) -> None:
    writer = TextsWriter()
    for start in range(0, len(texts), at_once):
        writer.add(pa.array(texts[start : start + at_once], pa.string()))
    kept = writer.done()
    assert [kept[i] for i in range(len(texts))] == texts == [kept[i] for i in reversed(range(len(texts)))][::-1]


def test_the_file_of_texts_is_let_go_of() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    kept = [TextsWriter().done() for _ in range(20)]
    unfinished = [TextsWriter() for _ in range(20)]
    del kept, unfinished
    gc.collect()
    assert len(set(Path("/proc/self/fd").iterdir()) - before) < 5


def test_no_room_for_texts_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    writer = TextsWriter()
    monkeypatch.setattr(spilled.os, "write", full)
    with pytest.raises(DataError, match="TMPDIR"):
        writer.add(pa.array(["some text"] * 100))


@given(st.lists(st.text(max_size=6), max_size=30))
def test_names_are_found_where_they_stand(names: list[str]) -> None:
    names = sorted(names, key=str.encode)
    kept = Names(pa.array(names, pa.string()))
    assert list(kept) == names and kept[:5] == names[:5] and kept[::-1] == names[::-1]
    assert all(names[kept.find(name)] == name for name in names)
    assert kept.find("not there") == -1 and kept.find(None) == -1


@given(st.lists(st.tuples(*[st.integers(-(2**15), 2**15)] * 3), max_size=20))
def test_distinct_rows_are_counted(rows: list[tuple[int, int, int]]) -> None:
    found, which, counts = distinct([np.array([r[i] for r in rows], np.int64) for i in range(3)])
    assert [found[i] for i in which] == rows and sorted(set(rows)) == found
    assert counts.tolist() == [rows.count(r) for r in found]
