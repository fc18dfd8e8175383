"""Where the members of a great many samples lie in their shards: nine bytes a member, no Python object until asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lpm_train.columns import Coding, Ints, joined, narrow


class Members:
    """(offset, size) of the members of each row, by suffix: what follows the sample's id and a dot in their names."""

    def __init__(self, first: Ints, suffixes: tuple[str, ...], suffix: Ints, offset: Ints, size: Ints) -> None:
        """Keep the members of all rows, one after another; those of row i begin at `first[i]`."""
        self._first, self._suffixes, self._suffix, self._offset, self._size = first, suffixes, suffix, offset, size

    def of(self, row: int) -> dict[str, tuple[int, int]]:
        """Return (offset, size) in bytes by suffix."""
        mine = slice(int(self._first[row]), int(self._first[row + 1]))
        places = zip(self._offset[mine].tolist(), self._size[mine].tolist(), strict=True)
        return dict(zip((self._suffixes[i] for i in self._suffix[mine].tolist()), places, strict=True))


class MembersWriter:
    """Makes `Members` of pieces."""

    def __init__(self) -> None:
        self._counts, self._suffix = list[Ints](), Coding()
        self._codes, self._offset, self._size = list[Ints](), list[Ints](), list[Ints]()

    def add(self, ids: Any, lists: Any) -> None:
        """Add the members of further samples: their ids, and of each the list of (name, offset, size)."""
        flat: Any = pc.list_flatten(lists)
        counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        self._counts.append(narrow(counts))
        # Names begin with the id, whose length is the same for nearly all: cut by length, not one by one.
        lengths: Any = pc.utf8_length(ids)
        before = np.repeat(lengths.to_numpy(zero_copy_only=False), counts) + 1
        codes: NDArray[np.int64] = np.empty(len(flat), np.int64)
        for length in np.unique(before).tolist():
            here = np.flatnonzero(before == length)
            suffixes = pc.utf8_slice_codeunits(flat.field("name").take(pa.array(here)), length)
            codes[here] = self._suffix.codes(suffixes)
        self._codes.append(narrow(codes))
        self._offset.append(narrow(flat.field("offset").to_numpy()))
        self._size.append(narrow(flat.field("size").to_numpy()))

    def done(self) -> Members:
        """Return the members; nothing can be added any more."""
        counts = joined(self._counts)
        first: Ints = np.zeros(len(counts) + 1, np.int64 if counts.sum(dtype=np.int64) >= 2**31 else np.int32)
        np.cumsum(counts, out=first[1:])
        return Members(first, self._suffix.names, joined(self._codes), joined(self._offset), joined(self._size))
