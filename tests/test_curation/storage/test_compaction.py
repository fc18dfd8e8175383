"""Small files gathered into larger ones: the same rows, the same hashes, the same resume, whatever is killed when."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest
from engine_case import GOOD, go
from toy import CALLS, write_sources

from curation import Dataset
from curation.storage import compaction
from curation.storage.compacted import Part, live_parts
from curation.storage.seal import sealing
from curation.storage.store import Store, parquet_bytes
from curation.verify import verify
from schemas import tables as t

N = 24
"""So many sources that some share a bucket."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Any) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("compaction")
    sources = {f"s{i}": {**GOOD, "duration_s": 5.0 + i / 10} for i in range(N)}
    folder = write_sources(root / "in", **sources)
    go(folder, root / "out")
    return folder, root / "out"


@pytest.fixture
def dataset(whole: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    import shutil

    folder, out = whole
    shutil.copytree(out, tmp_path / "out")
    return folder, tmp_path / "out"


def tidy(store: Store, *, min_files: int) -> compaction.Compaction:
    """Gather as a command does, which seals what it wrote."""
    with sealing(store):
        return compaction.tidy(store, min_files=min_files)


def contents(out: Path) -> dict[str, Any]:
    """Return every table, through Arrow and through DuckDB's views (rows only)."""
    data = Dataset(str(out))
    tables = [x for x in t.TABLES.values() if x.name not in ("decisions", "manifest")]
    arrow: dict[str, Any] = {x.name: data.table(x) for x in tables}
    con = data.connect()
    counts = {x.name: con.execute(f'SELECT count(*) FROM "{x.name}"').fetchone() for x in tables}
    assert {n: (a.num_rows,) for n, a in arrow.items()} == counts
    return arrow


def problems(out: Path) -> list[str]:
    """Return what verification finds in the files; these runs write no shards."""
    return [p.what for p in verify(Dataset(str(out)), media=False) if p.check == "hashes"]


def small_files(out: Path) -> int:
    return sum(1 for p in (out / "tables").rglob("*.parquet") if p.parent.name != "compact")


def compact_files(out: Path) -> list[Path]:
    return sorted((out / "tables").rglob("compact/*.parquet"))


def bucket_of_two(out: Path) -> list[Path]:
    """Return the tracks files of a bucket with several sources."""
    buckets = sorted((out / "tables" / "tracks").iterdir())
    return next(files for b in buckets if len(files := sorted(b.glob("*.parquet"))) >= 2)


def test_same_rows_hashes_and_nothing_to_do_afterwards(dataset: tuple[Path, Path]) -> None:
    folder, out = dataset
    before, n = contents(out), small_files(out)
    done = tidy(Store(str(out)), min_files=2)
    assert done.gathered > 8 and small_files(out) == n - done.gathered and len(compact_files(out)) == done.written
    assert contents(out) == before
    assert problems(out) == []
    go(folder, out)
    assert not CALLS
    assert contents(out) == before
    again = tidy(Store(str(out)), min_files=2)
    assert (again.gathered, again.written, again.cleared) == (0, 0, 0)
    plain = duckdb.sql(f"SELECT count(*) FROM read_parquet('{out}/tables/tracks/**/*.parquet')").fetchall()
    assert plain == [(before["tracks"].num_rows,)]  # any Parquet reader sees the same


def test_a_new_version_hides_the_gathered_one_and_a_run_clears_it_away(dataset: tuple[Path, Path]) -> None:
    folder, out = dataset
    tidy(Store(str(out)), min_files=2)
    go(folder, out, sets=("toy_active.tweak=3",))
    assert CALLS["toy_active"] == N
    after = contents(out)
    assert problems(out) == []
    left = [p.parts[-4] for p in compact_files(out)]
    assert "tracks" in left and "asd_frames" not in left  # all of that table is newer
    fresh = out.parent / "fresh"
    go(folder, fresh, sets=("toy_active.tweak=3",))
    assert contents(fresh) == after


def test_killed_anywhere_between_its_steps_reads_the_same(dataset: tuple[Path, Path], monkeypatch: Any) -> None:
    _, out = dataset
    before = contents(out)
    delete_file = Store.delete_file

    class Killed(BaseException):
        pass

    for at in (1, 2, 5):
        calls = 0

        def killed(self: Store, name: str, at: int = at) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            delete_file(self, name)

        monkeypatch.setattr(Store, "delete_file", killed)
        with pytest.raises(Killed):
            tidy(Store(str(out)), min_files=2)
        monkeypatch.setattr(Store, "delete_file", delete_file)
        assert contents(out) == before
    tidy(Store(str(out)), min_files=2)
    assert contents(out) == before
    assert problems(out) == []


def test_deleted_parts_stay_deleted(dataset: tuple[Path, Path]) -> None:
    _, out = dataset
    gone, kept = (str(p.relative_to(out)) for p in bucket_of_two(out)[:2])
    store = Store(str(out))
    rows = store.read_table(kept, t.TRACKS)
    tidy(store, min_files=2)
    store.delete(gone)
    for _ in range(2):
        assert not store.exists(gone) and store.exists(kept)
        assert store.read_table(kept, t.TRACKS).equals(rows)
        assert gone not in store.tables("tables/tracks")
        with pytest.raises(FileNotFoundError):
            store.read_table(gone, t.TRACKS)
        assert contents(out)["tracks"].num_rows > 0
        tidy(store, min_files=2)
        store = Store(str(out))
    assert not list(out.rglob("*.gone"))


def test_sources_that_are_no_longer_listed_leave_compact_files_too(dataset: tuple[Path, Path]) -> None:
    folder, out = dataset
    tidy(Store(str(out)), min_files=2)
    dropped = next(p for p in sorted(folder.iterdir()))
    old = hashlib.sha256(dropped.read_bytes()).hexdigest()[:16]
    text, stat = dropped.read_text(), dropped.stat()
    dropped.write_text(text.replace('"duration_s": ', '"duration_s": 1'))
    try:
        go(folder, out)
    finally:
        dropped.write_text(text)
        os.utime(dropped, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    ids = set(Dataset(str(out)).table(t.TRACKS)["source_id"].to_pylist())
    assert old not in ids and len(ids) == N


def test_a_run_gathers_by_itself_once_there_are_many(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    import curation.engine.run as module

    monkeypatch.setattr(module, "tidy", lambda store: tidy(store, min_files=2))
    folder, _ = whole
    go(folder, tmp_path / "out")
    assert compact_files(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole[1])


def test_too_few_to_gather_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        tidy(Store(str(tmp_path)), min_files=1)


def test_a_part_counts_once_and_hidden_ones_never() -> None:
    def part(name: str, file: str) -> Part:
        return Part(name, "", 1, file, (0,))

    first, second = (part("a", "1"), part("b", "1")), (part("b", "2"), part("c", "2"))
    assert live_parts([first, second], ["c"]) == [(part("a", "1"), part("b", "1")), ()]


def test_equal_rows_give_equal_bytes_however_they_were_put_together(dataset: tuple[Path, Path]) -> None:
    import pyarrow as pa

    rows = Dataset(str(dataset[1])).table(t.TRACKS)
    pieces = pa.concat_tables([rows.slice(i, 3) for i in range(0, rows.num_rows, 3)])
    assert parquet_bytes(pieces) == parquet_bytes(rows)


def test_tables_of_an_older_version_are_read_with_the_missing_columns_empty(dataset: tuple[Path, Path]) -> None:
    import pyarrow.parquet as pq

    folder, out = dataset
    for file in (out / "tables" / "tracks").rglob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["median_face_px"]), file)
    rows = Dataset(str(out)).query("SELECT count(*), count(median_face_px) FROM tracks").fetchall()
    assert rows[0][0] > 0 and rows[0][1] == 0
    for file in (out / "commits" / "toy_tracks").rglob("*.json"):
        file.write_text(file.read_text().replace('"fingerprint": "', '"fingerprint": "older'))
    go(folder, out)  # and a run makes them again
    assert Dataset(str(out)).query("SELECT count(median_face_px) FROM tracks").fetchall() == [(rows[0][0],)]


def test_files_of_an_older_version_are_not_gathered_with_newer_ones(dataset: tuple[Path, Path]) -> None:
    import pyarrow.parquet as pq

    _, out = dataset
    older = sorted((out / "tables" / "tracks").rglob("*.parquet"))[0]
    older.write_bytes(parquet_bytes(pq.read_table(older, partitioning=None).drop_columns(["median_face_px"])))
    assert tidy(Store(str(out)), min_files=2).gathered > 8 and older.is_file()


def test_a_gathered_part_is_read_and_hashed_without_columns_that_came_later(dataset: tuple[Path, Path]) -> None:
    import pyarrow as pa

    _, out = dataset
    tidy(Store(str(out)), min_files=2)
    store = Store(str(out))
    part = next(p for f in store.folders("tables/tracks").values() for c in f.compact for p in store.compacted.parts(c))
    later = t.TRACKS.schema.append(pa.field("later", pa.int64()))
    assert store.compacted.read(part, later).equals(store.compacted.read(part, t.TRACKS.schema))
    assert store.compacted.read(part, later, ["track_id", "later"]).column_names == ["track_id"]


def test_a_compact_file_holds_a_bounded_number_of_parts(
    dataset: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MAX_PARTS", 2)
    before = contents(dataset[1])
    store = Store(str(dataset[1]))
    tidy(store, min_files=2)
    held = [len(store.compacted.parts(f)) for b in store.folders("tables/sources").values() for f in b.compact]
    assert held and max(held) <= 2
    assert contents(dataset[1]) == before


def test_parts_are_found_by_name_however_few_footers_are_kept(
    dataset: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from curation.storage import compacted

    monkeypatch.setattr(compacted, "_FOOTERS", 1)
    tidy(Store(str(dataset[1])), min_files=2)
    store = Store(str(dataset[1]))
    for name, part in store.tables("tables/tracks").items():
        assert store.compacted.find(name) == part and store.exists(name)
