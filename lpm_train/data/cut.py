"""The samples that are trained on, each with the size that it is cut to and its state: a mapping that fits any number.

Held as numbers beside the names of a dataset, six bytes a sample; a sample is found by binary search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lpm_train.data.table.columns import Coded, Ints, Names, narrow

Size = tuple[int, int, int]


class Cut(Mapping[str, tuple[Size, str]]):
    """Sample id -> ((frames, height, width), state), in order of the ids; the i-th is of size `sizes[size[i]]`."""

    def __init__(self, names: Names, places: Ints | None, sizes: Sequence[Size], size: Ints, state: Coded) -> None:
        """Take the samples at some places of a dataset's names.

        Args:
            names: all ids of the dataset, sorted.
            places: of the samples among them, ascending; None: all.
            sizes: those that occur.
            size: number of the size of each sample.
            state: of each sample.
        """
        self._names, self._places, self.sizes, self.size, self.state = names, places, tuple(sizes), size, state

    @classmethod
    def of(cls, samples: Mapping[str, tuple[Size, str]]) -> Self:
        """Make it of a plain mapping."""
        ids = sorted(samples)
        sizes, states = sorted({size for size, _ in samples.values()}), sorted({state for _, state in samples.values()})
        size, state = [sizes.index(samples[i][0]) for i in ids], [states.index(samples[i][1]) for i in ids]
        names, codes = Names(pa.array(ids, pa.large_string())), narrow(np.array(state, np.int64))
        return cls(names, None, sizes, narrow(np.array(size, np.int64)), Coded(states, codes))

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, sample_id: str) -> tuple[Size, str]:
        if (at := self.find(sample_id)) < 0:
            raise KeyError(sample_id)
        return self.sizes[self.size[at]], self.state[at]

    def __contains__(self, sample_id: object) -> bool:
        return self.find(sample_id) >= 0

    def __iter__(self) -> Iterator[str]:
        return (name for piece in self._names.pieces(self._places) for name in piece.to_pylist())

    def name(self, at: int) -> str:
        """Return the id of the sample at a place of this order."""
        return self._names[self.place(at)]

    def place(self, at: int) -> int:
        """Return where the sample at a place of this order stands among the dataset's."""
        return at if self._places is None else int(self._places[at])

    def of_all(self, values: Ints) -> Ints:
        """Return of a column of the whole dataset what it says of these samples."""
        return values if self._places is None else values[self._places]

    def find(self, sample_id: object) -> int:
        """Return the place of a sample in this order, -1 of one that is not there."""
        among_all = self._names.find(sample_id)
        if self._places is None or among_all < 0:
            return among_all
        at = int(np.searchsorted(self._places, among_all))
        return at if at < len(self) and self._places[at] == among_all else -1

    def texts(self) -> Iterator[str]:
        """Yield `repr(list(self.items()))` in pieces of some thousand samples, without its brackets and commas between.

        An id is put in as it stands where that is how Python writes it; a Python string a sample would take a minute
        for thirty million.
        """
        ends: Any = pa.array([f", ({size!r}, {state!r}))" for size in self.sizes for state in self.state.names])
        start = 0
        for names in self._names.pieces(self._places):
            mine = slice(start, start := start + len(names))
            end = ends.take(pa.array(self.size[mine].astype(np.int64) * len(self.state.names) + self.state.codes[mine]))
            if pc.all(pc.match_substring_regex(names, r"^[ -&(-\[\]-~]*$")).as_py():
                said: Any = pc.binary_join_element_wise("('", names.cast(pa.string()), "'", end, "")
                yield ", ".join(said.to_pylist())
            else:
                both = zip(names.to_pylist(), end.to_pylist(), strict=True)
                yield ", ".join(f"({name!r}{rest}" for name, rest in both)
