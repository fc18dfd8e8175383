"""A packed dataset as a table of samples: which there are, where their bytes lie, and what identifies them.

`manifest.parquet` gives every member of every sample by (shard, offset, size), so no tar is ever scanned, order is
free, and a subset is a SQL clause. The fingerprint covers the selected rows and the sizes of their shards: a dataset
that changed under a running experiment is noticed before a batch is made. Costs one pass over the columns of a `Row`,
and a second one over all columns with a listing for the fingerprint; a sample takes about a hundred bytes of memory,
once for all processes of a machine where there are many (`table/shared.py`), and its caption lies in a file.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from lpm_train.config import Data
from lpm_train.data.table.columns import Coded, Ints, distinct
from lpm_train.data.table.manifest import Manifest
from lpm_train.data.table.row_hash import hash_rows
from lpm_train.data.table.samples import COLUMNS, Name, Number
from lpm_train.data.table.shared import opened
from lpm_train.storage import DataError, Storage
from schemas.samples.members import holders, pictures

_GAP = 1 << 16  # members this close together are read in one request (bytes)
_AT_ONCE = 1 << 20  # rows whose shapes are counted at a time


class Shape(NamedTuple):
    """What decides how a sample is cut, and how often it is drawn."""

    n_frames: int
    width: int
    height: int
    state: str


class Sighting(NamedTuple):
    """Who is seen in a sample, in which source and from when on (seconds of the source's clock)."""

    sample_id: str
    source_id: str
    identity_id: str
    start_s: float
    n_frames: int


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

    @property
    def shape(self) -> Shape:
        """What decides how it is cut."""
        return Shape(self.n_frames, self.width, self.height, self.state)

    @property
    def digest(self) -> str:
        """Hash of what the sample holds, wherever it is stored: packing again does not change it."""
        content = (self.segment_id, self.n_frames, self.width, self.height, self.state, self.caption)
        sizes = sorted((name, size) for name, (_, size) in self.members.items())
        return hashlib.sha256(repr((content, sizes)).encode()).hexdigest()[:16]


class Shards:
    """The selected samples of a dataset, sorted by id, and access to their members."""

    def __init__(self, root: str | Path, where: str | None = None) -> None:
        """Read the manifest of a dataset.

        Args:
            root: dataset directory or s3:// prefix, holding manifest.parquet and shards/.
            where: SQL condition over the manifest's columns, e.g. "state = 'listen' AND duration_s >= 4".

        Raises:
            DataError: there is no manifest, the clause is wrong, or it leaves nothing; or the directory for temporary
                files has no room for the captions.
        """
        self.storage = Storage(root)
        self._manifest = Manifest(self.storage, COLUMNS)
        self._samples, self._entry = opened(self._manifest, where)
        self.ids = self._samples.ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, sample_id: str) -> Row:
        if (at := self.ids.find(sample_id)) < 0:
            raise KeyError(sample_id)
        return self.row(at)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self.ids

    def __iter__(self) -> Iterator[Row]:
        return map(self.row, range(len(self)))

    def row(self, at: int) -> Row:
        """Return the sample at a place in the order of `ids`."""
        return Row(**self._samples.row(at))

    def column(self, name: Name) -> Coded:
        """Return a column of few values for all samples, in the order of `ids`."""
        return self._samples.column(name)

    def numbers(self, name: Number) -> Ints:
        """Return a column of whole numbers for all samples, in the order of `ids`."""
        return self._samples.numbers(name)

    def shapes(self) -> Counter[Shape]:
        """Count the samples of each shape."""
        state, out = self.column("state"), Counter[Shape]()
        columns = [self.numbers("n_frames"), self.numbers("width"), self.numbers("height"), state.codes]
        for start in range(0, len(self), _AT_ONCE):
            found, _, counts = distinct([c[start : start + _AT_ONCE] for c in columns])
            for (n_frames, width, height, code), n in zip(found, counts.tolist(), strict=True):
                out[Shape(n_frames, width, height, state.names[code])] += n
        return out

    def sightings(self) -> Iterator[Sighting]:
        """Yield who is seen in each sample, where and when; read from the manifest each time.

        Raises:
            DataError: the manifest does not tell it.
        """
        names = ["segment_id", *Sighting._fields[1:]]
        if missing := set(names) - set(self._manifest.schema.names):
            raise DataError(f"the manifest lacks the columns {sorted(missing)}: pack the dataset again")
        for piece in self._manifest.pieces(names, self._samples.selected):
            yield from map(Sighting, *(piece[n].to_pylist() for n in names))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the selected rows and of their shards' sizes.

        Raises:
            DataError: a shard is missing.
        """
        sizes = self.storage.sizes(sorted(f"shards/{name}" for name in self._samples.names("shard")))
        if gone := [n for n, size in sizes.items() if size < 0]:
            raise DataError(f"{len(gone)} shard(s) of {self.storage.uri} are missing, e.g. {gone[0]}")
        rows = self._entry.remembered("rows.sha256", self._hash) if self._entry else self._hash()
        text = "\n".join([rows, *(f"{n} {size}" for n, size in sizes.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _hash(self) -> str:
        return hash_rows(self._manifest, self._samples.selected, self._samples.order)

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


def shapes_of(root: str | Path, where: str | None = None) -> Counter[Shape]:
    """Count the samples of each shape, without opening the rest of the manifest. Raises as `Shards` does."""
    out, names = Counter[Shape](), ["n_frames", "width", "height", "state"]
    for piece in _selected(root, where, names):
        for row in piece.group_by(names).aggregate([([], "count_all")]).to_pylist():
            out[Shape(*(row[n] for n in names))] += row["count_all"]
    return out


def licences_of(root: str | Path, where: str | None = None) -> dict[str, tuple[int, float]]:
    """Count samples and their seconds by the licence of their source. Raises as `Shards` does."""
    out: dict[str, tuple[int, float]] = {}
    for piece in _selected(root, where, ["license", "duration_s"]):
        counted = piece.group_by(["license"]).aggregate([("duration_s", "sum"), ([], "count_all")])
        for row in counted.to_pylist():
            name = row["license"] or "unknown"
            n, seconds = out.get(name, (0, 0.0))
            out[name] = (n + row["count_all"], seconds + row["duration_s_sum"])
    return out


def of_shapes(root: str | Path, where: str | None, wanted: Callable[[int, int, int], bool]) -> Iterator[str]:
    """Yield the ids of samples of which (n_frames, width, height) are wanted, in the manifest's order."""
    sides = ["n_frames", "width", "height"]
    for piece in _selected(root, where, [*sides, "segment_id"]):
        known: dict[tuple[int, int, int], bool] = {}
        for *shape, sample_id in zip(*(piece[n].to_pylist() for n in [*sides, "segment_id"]), strict=True):
            n_frames, width, height = shape
            if known.setdefault((n_frames, width, height), wanted(n_frames, width, height)):
                yield sample_id


def _selected(root: str | Path, where: str | None, names: list[str]) -> Iterator[pa.Table]:
    manifest = Manifest(Storage(root), names)
    return manifest.pieces(names, manifest.matching(where) if where else None)


def holds(root: str | Path, where: str) -> bool:
    """Tell whether a dataset has a sample for which a condition holds; False also of one that is not valid SQL."""
    try:
        Manifest(Storage(root), COLUMNS).matching(where, most=1)
    except DataError:
        return False
    return True


def of_split(data: Data, split: str) -> Data | None:
    """Narrow data to a split; None where it has no sample."""
    clause = f"({data.where or 'true'}) AND split = '{split}'"
    return replace(data, where=clause) if holds(data.root, clause) else None


def trained_on(data: Data) -> Data:
    """Narrow data to what a run trains on: the split train, or all where that has no sample."""
    return of_split(data, "train") or data


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
