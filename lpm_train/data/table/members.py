"""Where the members of a great many samples lie in their shards: nine bytes a member, no Python object until asked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lpm_train.data.table.columns import Coding, Ints, narrow


class _Piece(NamedTuple):
    """The members of some rows, one after another; those of row i begin at `first[i]`."""

    first: Ints
    suffix: Ints  # number of the suffix of each
    offset: Ints
    size: Ints


class Members:
    """(offset, size) of the members of each row, by suffix: what follows the sample's id and a dot in their names.

    Kept in the pieces in which they came: to join them would take twice the memory for a moment, and leave gaps in it.
    """

    def __init__(self, pieces: list[_Piece], suffixes: tuple[str, ...]) -> None:
        self._pieces, self._suffixes = pieces, suffixes
        self._starts = [0, *accumulate(len(piece.first) - 1 for piece in pieces)]

    def of(self, row: int) -> dict[str, tuple[int, int]]:
        """Return (offset, size) in bytes by suffix."""
        number = bisect_right(self._starts, row) - 1
        piece, at = self._pieces[number], row - self._starts[number]
        mine = slice(int(piece.first[at]), int(piece.first[at + 1]))
        places = zip(piece.offset[mine].tolist(), piece.size[mine].tolist(), strict=True)
        return dict(zip((self._suffixes[i] for i in piece.suffix[mine].tolist()), places, strict=True))

    @classmethod
    def of_lists(cls, pieces: Sequence[Any], suffixes: Sequence[str]) -> Self:
        """Look into arrays that `listed` made; nothing is copied."""
        return cls([_of_list(piece) for piece in pieces], tuple(suffixes))


def listed(ids: Any, lists: Any, suffixes: Coding, kind_offset: pa.DataType, kind_size: pa.DataType) -> Any:
    """Return members of samples as an array of lists of (suffix, offset, size): a suffix by its number.

    Raises:
        pa.ArrowInvalid: a number does not fit its kind.
    """
    piece = _split(ids, lists, suffixes)
    fields = {
        "suffix": (piece.suffix, pa.int16()),
        "offset": (piece.offset, kind_offset),
        "size": (piece.size, kind_size),
    }
    values = [pa.array(numbers).cast(kind) for numbers, kind in fields.values()]
    return pa.ListArray.from_arrays(pa.array(piece.first, pa.int32()), pa.StructArray.from_arrays(values, list(fields)))


def _of_list(lists: Any) -> _Piece:
    return _Piece(lists.offsets.to_numpy(), *(lists.values.field(n).to_numpy() for n in ("suffix", "offset", "size")))


def _split(ids: Any, lists: Any, known: Coding) -> _Piece:
    """Take the members of samples apart: their ids, and of each the list of (name, offset, size)."""
    flat: Any = pc.list_flatten(lists)
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    # Names begin with the id, whose length is the same for nearly all: cut by length, not one by one.
    lengths: Any = pc.utf8_length(ids)
    before = np.repeat(lengths.to_numpy(zero_copy_only=False), counts) + 1
    codes: NDArray[np.int64] = np.empty(len(flat), np.int64)
    for length in np.unique(before).tolist():
        here = np.flatnonzero(before == length)
        suffixes = pc.utf8_slice_codeunits(flat.field("name").take(pa.array(here)), length)
        codes[here] = known.codes(suffixes)
    first = narrow(np.concatenate([[0], np.cumsum(counts)]))
    offset, size = (narrow(flat.field(name).to_numpy()) for name in ("offset", "size"))
    return _Piece(first, narrow(codes), offset, size)


class MembersWriter:
    """Makes `Members` of pieces."""

    def __init__(self) -> None:
        self._pieces, self._suffix = list[_Piece](), Coding()

    def add(self, ids: Any, lists: Any) -> None:
        """Add the members of further samples: their ids, and of each the list of (name, offset, size)."""
        self._pieces.append(_split(ids, lists, self._suffix))

    def done(self) -> Members:
        """Return the members; nothing can be added any more."""
        return Members(self._pieces, self._suffix.names)
