"""Columns that a machine's processes share: the same as held ones, made once, whole or not at all, never another's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from manifest_case import packed, table

from lpm_train.data.make import cut
from lpm_train.data.shards import Shards
from lpm_train.data.table import samples, shared
from lpm_train.data.table.spilled import TextsWriter
from lpm_train.storage import DataError

SIZES = [(16, 32, 32), (32, 32, 48)]
WHERE = [None, "state = 'listen'", "width > 40 OR caption LIKE '%1%'"]


def made(n: int = 60, mixed: bool = False, caption: str = "a caption of") -> pa.Table:
    rng = np.random.default_rng(n)
    rows = [
        {
            "segment_id": f"s-{'x' * (i % 3)}{i:04d}", "state": ["speak", "listen", "idle"][i % 3], "width": 30 + i,
            "height": int(rng.integers(30, 300)), "n_frames": 9 + i, "n_audio_samples": 2**33 + i,
            "caption": f"{caption} {i}", "shard": "abc"[i * 3 // n] + ".tar", "at": 512 * i,
            "suffixes": ["mp4", "json", "speak.flac"][: 1 + i % 3],
        }
        for i in range(n)
    ]  # fmt: skip
    rows.sort(key=lambda row: row["segment_id"])
    return table([rows[i] for i in rng.permutation(n)] if mixed else rows)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENLPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shared, "WORTH", 1)
    monkeypatch.setattr(samples, "BATCH", 7)
    return tmp_path / "cache" / "manifests"


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One more for each pass over a manifest."""
    out: list[int] = []
    batches = samples.Gathering.batches

    def counted(self: samples.Gathering) -> Iterator[pa.RecordBatch]:
        out.append(1)
        return batches(self)

    monkeypatch.setattr(samples.Gathering, "batches", counted)
    return out


def entries(cache: Path) -> list[Path]:
    return [p for p in cache.iterdir() if p.is_dir()]


def contents(shards: Shards) -> list[Any]:
    columns = [shards.numbers(n).tolist() for n in ("width", "height", "n_frames", "n_audio_samples")]
    parts = dict(cut(shards, SIZES))
    return [list(shards), [shards[i] for i in shards.ids], columns, list(shards.column("state")), parts,
            shards.shapes(), list(shards.sightings()), shards.fingerprint]  # fmt: skip


@pytest.mark.parametrize("mixed", [False, True])
def test_what_is_mapped_is_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gathered: list[int], mixed: bool
) -> None:
    root = packed(tmp_path / "d", made(mixed=mixed))
    first = [contents(Shards(root, where)) for where in WHERE]
    assert len(gathered) == len(WHERE)
    again = [contents(Shards(root, where)) for where in WHERE]
    assert len(gathered) == len(WHERE)
    monkeypatch.setattr(shared, "WORTH", 1000)
    assert first == again == [contents(Shards(root, where)) for where in WHERE]
    with pytest.raises(DataError, match="holds for none"):
        Shards(root, "width > 10000")


def test_the_hash_of_the_rows_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = packed(tmp_path / "d", made())
    found = Shards(root).fingerprint
    monkeypatch.setattr(Shards, "_hash", lambda self: pytest.fail("was hashed again"))
    assert Shards(root).fingerprint == found
    (root / "shards" / "a.tar").write_bytes(b"longer")
    assert Shards(root).fingerprint != found


def test_another_dataset_or_condition_has_other_files(tmp_path: Path, cache: Path, gathered: list[int]) -> None:
    """Same length and shape, another content: one letter of one caption."""
    one, other = packed(tmp_path / "one", made()), packed(tmp_path / "two", made(caption="A caption of"))
    assert Shards(one)["s-0000"].caption != Shards(other)["s-0000"].caption
    assert len(Shards(one, "state = 'idle'")) == 20 and len(Shards(one, "state <> 'idle'")) == 40
    assert len(entries(cache)) == len(gathered) == 4
    copy = packed(tmp_path / "copy", made())  # elsewhere, but the same
    assert list(Shards(copy)) == list(Shards(one)) and len(gathered) == 4


def test_processes_that_ask_at_once_wait_for_one(tmp_path: Path, gathered: list[int]) -> None:
    root = packed(tmp_path / "d", made())
    with ThreadPoolExecutor(6) as pool:  # a lock is a descriptor's: threads stand for processes
        found = list(pool.map(lambda _: list(Shards(root)), range(6)))
    assert len(gathered) == 1 and all(f == found[0] for f in found)


HOLDS = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True)"


def test_a_builder_that_dies_leaves_nothing_in_the_way(tmp_path: Path, cache: Path) -> None:
    """Killed with its lock and half of its files."""
    root = packed(tmp_path / "d", made())
    wanted = list(Shards(root))
    (entry,) = entries(cache)
    part = entry.rename(entry.with_suffix(".part"))
    (part / "meta.json").unlink()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS + "; time.sleep(60)", entry.with_suffix(".lock")], stdout=subprocess.PIPE
    ) as dying, ThreadPoolExecutor(1) as pool:  # fmt: skip
        assert dying.stdout is not None and dying.stdout.readline()
        waiting = pool.submit(lambda: list(Shards(root)))
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        dying.kill()
        assert waiting.result(60) == wanted
    assert entries(cache) == [entry]


@pytest.mark.parametrize("name", ["rows.arrow", "captions", "blocks.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_files_are_made_again(tmp_path: Path, cache: Path, name: str, damage: str) -> None:
    root = packed(tmp_path / "d", made())
    wanted = list(Shards(root))
    file = entries(cache)[0] / name
    os.truncate(file, file.stat().st_size // 2) if damage == "cut" else file.unlink()
    assert list(Shards(root)) == wanted == list(Shards(root))


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_that_takes_nothing_is_said_and_done_without(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = packed(tmp_path / "d", made())
    monkeypatch.setattr(shared, "WORTH", 1000)
    wanted = contents(Shards(root))
    monkeypatch.setattr(shared, "WORTH", 1)
    for target, broken in ((shared.pa.ipc, "new_file"), (shared.np, "save"), (shared.os, "fsync")):
        with monkeypatch.context() as patch:
            patch.setattr(target, broken, full)
            caplog.clear()
            assert contents(Shards(root)) == wanted
        assert "No space left" in caplog.text and "OPENLPM_CACHE" in caplog.text
        assert not entries(cache)
    monkeypatch.setenv("OPENLPM_CACHE", str(root / "manifest.parquet"))
    caplog.clear()
    assert contents(Shards(root)) == wanted and "each process holds its own" in caplog.text


def test_no_room_for_captions_is_no_room_for_the_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TextsWriter(tmp_path / "captions")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        writer.add(pa.array(["some text"] * 100))


def test_what_nobody_opened_for_long_is_removed(tmp_path: Path, cache: Path) -> None:
    root = packed(tmp_path / "d", made())
    Shards(root, WHERE[0])
    (used,) = entries(cache)
    Shards(root, WHERE[1])
    for entry in entries(cache):
        os.utime(entry, (0, 0))
    Shards(root, WHERE[0])  # opening is use
    Shards(root, WHERE[2])
    assert used in entries(cache) and len(entries(cache)) == 2
