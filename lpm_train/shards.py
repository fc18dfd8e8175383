"""A packed dataset as a table of samples: which there are, where their bytes lie, and what identifies them.

`manifest.parquet` gives every member of every sample by (shard, offset, size), so no tar is ever scanned, order is
free, and a subset is a SQL clause. The fingerprint covers the selected rows and the sizes of their shards: a dataset
that changed under a running experiment is noticed before a batch is made. Costs one Parquet read and one listing.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lpm_train.storage import DataError, Storage
from schemas.members import holders, pictures
from schemas.tables.output import FORMER_KEY, MANIFEST, ManifestRow

_GAP = 1 << 16  # members this close together are read in one request (bytes)


@dataclass(frozen=True)
class Row:
    """One sample of the manifest: identity, shape, and where its members are."""

    segment_id: str
    state: str
    width: int
    height: int
    n_frames: int
    n_audio_samples: int
    shard: str
    caption: str
    members: Mapping[str, tuple[int, int]]  # (offset, size) in the shard, by suffix after the key, e.g. `speak.flac`
    source_id: str = ""
    identity_id: str = ""
    start_s: float = 0.0  # on the source's clock

    @property
    def digest(self) -> str:
        """Hash of what the sample holds, wherever it is stored: packing again does not change it."""
        content = (self.segment_id, self.n_frames, self.width, self.height, self.state, self.caption)
        sizes = sorted((name, size) for name, (_, size) in self.members.items())
        return hashlib.sha256(repr((content, sizes)).encode()).hexdigest()[:16]


class Members:
    """Members of many samples, kept in Arrow: a million samples of ten members are too many Python objects."""

    def __init__(self, lists: Any) -> None:
        flat = lists.flatten()  # of a list array of (name, offset, size)
        self._first, self._names = lists.offsets.to_numpy() - lists.offsets[0].as_py(), flat.field("name")
        self._offset, self._size = (flat.field(n).to_numpy() for n in ("offset", "size"))

    def of(self, i: int, sample_id: str) -> dict[str, tuple[int, int]]:
        """Return (offset, size) by suffix for the sample of row `i`."""
        a, b = int(self._first[i]), int(self._first[i + 1])
        suffixes = (name[len(sample_id) + 1 :] for name in self._names.slice(a, b - a).to_pylist())
        return dict(zip(suffixes, zip(self._offset[a:b].tolist(), self._size[a:b].tolist(), strict=True), strict=True))


class Shards:
    """The selected samples of a dataset, sorted by id, and access to their members."""

    def __init__(self, root: str | Path, where: str | None = None) -> None:
        """Read the manifest of a dataset.

        Args:
            root: dataset directory or s3:// prefix, holding manifest.parquet and shards/.
            where: SQL condition over the manifest's columns, e.g. "state = 'listen' AND duration_s >= 4".

        Raises:
            DataError: there is no manifest, the clause is wrong, or it leaves nothing.
        """
        self.storage = Storage(root)
        try:
            buffer = self.storage.read("manifest.parquet")
        except FileNotFoundError as e:
            raise DataError(f"no manifest.parquet under {root}: pack the dataset first, or name its directory") from e
        table = select(_read(buffer), where)
        self._columns = {n: tuple(table[n].to_pylist()) for n in Row.__dataclass_fields__ if n != "members"}
        self._members, self._table_hash = Members(table["members"].combine_chunks()), _hash(table)
        self.ids: tuple[str, ...] = self.column("segment_id")
        self._at = {sample_id: i for i, sample_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, sample_id: str) -> Row:
        i = self._at[sample_id]
        plain: dict[str, Any] = {n: c[i] for n, c in self._columns.items()}
        return Row(**plain, members=self._members.of(i, sample_id))

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._at

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in self.ids)

    def column(self, name: str) -> tuple[Any, ...]:
        """Return one of the row fields for all samples, in the order of `ids`."""
        return self._columns[name]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the selected rows and of their shards' sizes.

        Raises:
            DataError: a shard is missing.
        """
        sizes = self.storage.sizes(sorted({f"shards/{s}" for s in self.column("shard")}))
        if gone := [n for n, size in sizes.items() if size < 0]:
            raise DataError(f"{len(gone)} shard(s) of {self.storage.uri} are missing, e.g. {gone[0]}")
        text = "\n".join([self._table_hash, *(f"{n} {size}" for n, size in sizes.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def read(self, row: Row, suffixes: Iterable[str]) -> dict[str, bytes]:
        """Read members of a sample; on object stores, members that lie side by side cost one request.

        Raises:
            DataError: the sample has no such member.
        """
        names = list(suffixes)
        if missing := set(names) - row.members.keys():
            raise DataError(f"sample {row.segment_id} has no member {sorted(missing)}; it has {sorted(row.members)}")
        return read_members(self.storage, f"shards/{row.shard}", {n: row.members[n] for n in names})

    def pictures(self, row: Row, names: Sequence[str]) -> list[bytes]:
        """Read reference images of a sample as JPEG, by the names that its record gives them.

        Raises:
            DataError: the sample has no such image.
        """
        members = self.read(row, holders(names, row.members.keys()))
        try:
            found = pictures(members, names)
        except (KeyError, tarfile.TarError) as e:
            raise DataError(f"sample {row.segment_id} does not carry the references {list(names)}: {e}") from e
        return [found[n] for n in names]


def read_members(storage: Storage, file: str, places: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
    """Read named (offset, size) ranges of one file; afar, those within 64 KiB of each other in one request."""
    runs: list[list[tuple[int, int, str]]] = []
    for (offset, size), name in sorted((place, name) for name, place in places.items()):
        # Near at hand, a system call is cheaper than cutting a joined range up again, which copies it.
        if storage.local or not runs or offset - sum(runs[-1][-1][:2]) > _GAP:
            runs.append([])
        runs[-1].append((offset, size, name))
    out: dict[str, bytes] = {}
    for run in runs:
        start = run[0][0]
        data = storage.read(file, start, max(offset + size for offset, size, _ in run) - start)
        out |= {name: data[offset - start :][:size] for offset, size, name in run}
    return out


def _read(manifest: bytes) -> pa.Table:
    """Return a manifest without its vectors, which may be most of it and which nothing here asks for."""
    file = pq.ParquetFile(pa.BufferReader(manifest))
    vectors = (ManifestRow.vector.name, ManifestRow.reference_vectors.name)
    names = [name for name in file.schema_arrow.names if name not in vectors]
    now = [ManifestRow.segment_id.name if name == FORMER_KEY else name for name in names]
    return file.read(names).rename_columns(now)


def select(table: pa.Table, where: str | None) -> pa.Table:
    """Return the manifest rows for which a SQL condition holds, sorted by segment_id.

    Raises:
        DataError: the condition is not valid SQL over the manifest's columns, or holds for no row.
    """
    if missing := set(Row.__dataclass_fields__) - set(table.column_names):
        raise DataError(f"the manifest lacks the columns {sorted(missing)}; it was not written by this project")
    if not table.num_rows:
        raise DataError("the manifest holds no sample: nothing was kept when the dataset was packed")
    if where is not None:
        with duckdb.connect(config={"enable_external_access": "false"}) as connection:
            connection.execute("SET enable_progress_bar = false")
            connection.register("manifest", table.append_column("_i", pa.array(range(table.num_rows))))
            try:
                hits = connection.sql(f"SELECT _i FROM manifest WHERE ({where})").fetchall()
            except duckdb.Error as e:
                columns = ", ".join(table.column_names)
                raise DataError(f"--where {where!r} is not a valid condition: {e}\nThe columns are: {columns}") from e
        if not hits:
            raise DataError(f"--where {where!r} holds for none of the {table.num_rows} samples")
        table = table.take(pa.array([h[0] for h in hits], pa.int64()))
    return table.sort_by("segment_id")


def _hash(table: pa.Table) -> str:
    """Hash all values of the declared columns; chunking does not count."""
    names: Sequence[str] = [c.name for c in MANIFEST.columns if c.name in table.column_names]
    digest, sink = hashlib.sha256("\x1f".join(names).encode()), pa.BufferOutputStream()
    plain = table.select(names).replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain)
    digest.update(sink.getvalue())
    return digest.hexdigest()
