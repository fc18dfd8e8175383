"""The columns of a manifest that training needs, in batches of one size: gathered piece by piece, looked into anywhere.

A batch is an Arrow record batch in the smallest types that hold its numbers, some hundred bytes a sample. Where the
batches lie, in this process's memory or in a file that a machine's processes map (`shared.py`), makes no difference
here: what is looked at are views of them. Batches are in the manifest's order, ids in their own; where these differ,
`stored` says where a sample stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lpm_train.data.table.columns import Coded, Coding, Ints, Names, joined, narrow
from lpm_train.data.table.manifest import Manifest, Positions, rechunked
from lpm_train.data.table.members import Members, listed
from lpm_train.data.table.spilled import Texts, TextsWriter

BATCH = 65_536
"""Samples of a batch; the last has what is left."""

Number = Literal["width", "height", "n_frames", "n_audio_samples"]
Name = Literal["state", "shard"]
NUMBERS: tuple[Number, ...] = ("width", "height", "n_frames", "n_audio_samples")
NAMES: tuple[Name, ...] = ("state", "shard")
COLUMNS = ("segment_id", *NUMBERS, *NAMES, "members", "caption")
"""What is gathered."""


@dataclass(frozen=True)
class Words:
    """What numbers in the batches stand for."""

    names: Mapping[str, Sequence[str]]  # of the columns of few values
    suffixes: Sequence[str]  # of members


class Gathering:
    """One pass over a manifest, whose batches are taken once; captions go to their writer as they come."""

    def __init__(self, manifest: Manifest, where: str | None, captions: TextsWriter) -> None:
        """Choose the rows. Raises DataError for a condition that is no SQL, or holds for none."""
        self._manifest, self._captions = manifest, captions
        self._rows = None if where is None else manifest.matching(where)
        self._order, self._sorted = _by_id(manifest, self._rows)
        self._names, self._suffixes = {n: Coding() for n in NAMES}, Coding()
        size = pa.from_numpy_dtype
        self._place = (size(manifest.kind("members", "offset")), size(manifest.kind("members", "size")))
        place = [("suffix", pa.int16()), ("offset", self._place[0]), ("size", self._place[1])]
        fields = [("segment_id", pa.string()), *((n, size(manifest.kind(n))) for n in NUMBERS)]
        fields += [*((n, pa.int32()) for n in NAMES), ("members", pa.list_(pa.struct(place)))]
        fields += [("stored", pa.int32())] * (self._order is not None) + [("row", pa.int32())] * (
            self._rows is not None
        )
        self.schema = pa.schema(fields)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all samples."""
        at = 0
        for piece in rechunked(self._manifest.pieces(COLUMNS, self._rows), BATCH):
            columns: dict[str, Any] = {n: piece[n].combine_chunks() for n in COLUMNS}
            ids, here = columns["segment_id"], slice(at, at := at + piece.num_rows)
            self._captions.add(columns.pop("caption"))
            columns["members"] = listed(ids, columns["members"], self._suffixes, *self._place)
            columns |= {n: coding.codes(columns[n]) for n, coding in self._names.items()}
            if self._order is not None:
                columns |= {"segment_id": self._sorted[here], "stored": self._order[here]}
            if self._rows is not None:
                columns["row"] = self._rows[here]
            arrays = [pa.array(columns[f.name]).cast(f.type) for f in self.schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    @property
    def words(self) -> Words:
        """What numbers in the batches so far stand for."""
        return Words({n: coding.names for n, coding in self._names.items()}, self._suffixes.names)


def _by_id(manifest: Manifest, rows: Positions | None) -> tuple[Positions | None, Any]:
    """Return the numbers of the rows sorted by id, and the ids; None where they are, as packing leaves them."""
    if _ascend(piece.column(0) for piece in manifest.pieces(["segment_id"], rows)):
        return None, None
    ids = pa.concat_arrays([
        chunk.cast(pa.large_string()) for p in manifest.pieces(["segment_id"], rows) for chunk in p.column(0).chunks
    ])  # fmt: skip
    order = np.asarray(pc.sort_indices(ids).to_numpy(), np.int64)
    taken: Any = pa.array(order)
    return order, ids.take(taken)


def _ascend(pieces: Iterator[Any]) -> bool:
    last = ""
    for piece in pieces:
        if piece[0].as_py() < last or not pc.all(pc.less_equal(piece[:-1], piece[1:])).as_py():
            return False
        last = piece[-1].as_py()
    return True


class Samples:
    """Columns of samples; those of a number or a name are in the order of `ids`."""

    def __init__(self, batches: Sequence[pa.RecordBatch], words: Words, captions: Texts) -> None:
        """Look into batches that a `Gathering` made; nothing is copied."""
        self.ids, self._captions = Names(*(b.column("segment_id") for b in batches)), captions
        self._named = {n: tuple(words.names[n]) for n in NAMES}
        self._views = {
            f.name: [b.column(f.name).to_numpy() for b in batches]
            for f in batches[0].schema
            if pa.types.is_integer(f.type)
        }
        self._members = Members.of_lists([b.column("members") for b in batches], words.suffixes)

    @classmethod
    def held(cls, manifest: Manifest, where: str | None) -> Samples:
        """Gather into this process's memory. Raises as `Gathering` and `TextsWriter` do."""
        captions = TextsWriter()
        gathering = Gathering(manifest, where, captions)
        batches = list(gathering.batches())
        return cls(batches, gathering.words, captions.done())

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, at: int) -> dict[str, Any]:
        """Return the values of the sample at a place in the order of `ids`, by column."""
        stored = self._at("stored", at) if "stored" in self._views else at
        numbers: dict[str, int] = {n: self._at(n, stored) for n in NUMBERS}
        names: dict[str, str] = {n: self._named[n][self._at(n, stored)] for n in NAMES}
        more = {"caption": self._captions[stored], "members": self._members.of(stored)}
        return {"segment_id": self.ids[at], **names, **numbers, **more}

    def _at(self, name: str, at: int) -> int:
        return int(self._views[name][at // BATCH][at % BATCH])

    def column(self, name: Name) -> Coded:
        """Return a column of few values."""
        return Coded(self._named[name], narrow(self._whole(name)))

    def names(self, name: Name) -> tuple[str, ...]:
        """Return the values of a column of few values, in no order."""
        return self._named[name]

    def numbers(self, name: Number) -> Ints:
        """Return a column of whole numbers."""
        return self._whole(name)

    def _whole(self, name: str) -> Ints:
        values = joined(list(self._views[name]))
        return values if self.order is None else values[self.order]

    @property
    def order(self) -> Positions | None:
        """The numbers of samples (among the selected) sorted by id; None: the manifest has them sorted."""
        return self._positions("stored")

    @property
    def selected(self) -> Positions | None:
        """The rows of the manifest that these samples are; None: all."""
        return self._positions("row")

    def _positions(self, name: str) -> Positions | None:
        if name not in self._views:
            return None
        whole: NDArray[np.int64] = np.concatenate(self._views[name]).astype(np.int64)
        return whole
