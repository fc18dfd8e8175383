"""Columns of a great many samples in few bytes each: names in one buffer, codes for what has few values, small numbers.

A Python object a value costs sixty bytes and more; thirty million samples have room for a hundred bytes in all. What is
kept here is read from several threads at once and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.signedinteger[Any]]

_AT_ONCE = 65_536
"""Values turned into Python objects at a time, where all are gone through."""


def narrow(numbers: NDArray[Any]) -> Ints:
    """Return whole numbers in the smallest signed type that holds them. Joined, pieces widen."""
    low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    kinds = (np.int8, np.int16, np.int32, np.int64)
    return numbers.astype(next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))


def distinct(columns: Sequence[Ints]) -> tuple[list[tuple[int, ...]], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct rows of columns of whole numbers, which one each row is, and how many are of each."""
    key, bases = np.zeros(len(columns[0]), np.int64), []
    for column in columns:
        low, high = (int(column.min()), int(column.max())) if len(column) else (0, 0)
        bases.append((low, high - low + 1))
        key = key * (high - low + 1) + (column.astype(np.int64) - low)
    keys, which, counts = np.unique(key, return_inverse=True, return_counts=True)
    found = []
    for low, base in reversed(bases):
        keys, rest = np.divmod(keys, base)
        found.append((rest + low).tolist())
    return list(zip(*reversed(found), strict=True)), which, counts


class Names(Sequence[str]):
    """Sorted names in buffers, found by binary search: their letters and where they end, microseconds a search."""

    def __init__(self, *chunks: Any) -> None:
        """Keep arrays of strings, which are sorted by their bytes; all but the last are of one length."""
        self._chunks, self._each = chunks, max(1, len(chunks[0]) if chunks else 1)
        self._parts = [_letters(chunk) for chunk in chunks]
        self._len = sum(map(len, chunks))

    def __len__(self) -> int:
        return self._len

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return self._bytes(at % len(self)).decode()

    def __iter__(self) -> Iterator[str]:
        for piece in self.pieces():
            yield from piece.to_pylist()

    def __contains__(self, name: object) -> bool:
        return self.find(name) >= 0

    def find(self, name: object) -> int:
        """Return where a name stands, the last place of one that is there twice; -1 where it is not."""
        if not isinstance(name, str):
            return -1
        key, low, high = name.encode(errors="surrogatepass"), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._bytes(middle) <= key:
                low = middle + 1
            else:
                high = middle
        return low - 1 if low and self._bytes(low - 1) == key else -1

    def _bytes(self, at: int) -> bytes:
        chunk, at = divmod(at, self._each)
        offsets, letters = self._parts[chunk]
        return bytes(letters[offsets[at] : offsets[at + 1]])

    def pieces(self, at: Ints | None = None) -> Iterator[Any]:
        """Yield the names, or those at some places, which ascend, as arrays of some ten thousand; none is empty."""
        first = 0
        for chunk in self._chunks:
            mine = None
            if at is not None:
                mine = at[slice(*np.searchsorted(at, (first, first + len(chunk))))].astype(np.int64) - first
            for start in range(0, len(chunk) if mine is None else len(mine), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                yield chunk.slice(start, _AT_ONCE) if mine is None else chunk.take(pa.array(mine[part]))
            first += len(chunk)


def _letters(array: Any) -> tuple[NDArray[Any], memoryview]:
    """Return where strings end in their letters, and the letters."""
    width: Any = np.int64 if pa.types.is_large_string(array.type) else np.int32
    _, offsets, letters = array.buffers()
    return np.frombuffer(memoryview(offsets or bytes(8)), width)[array.offset :], memoryview(letters or b"")


class Coded(Sequence[str]):
    """A column of few distinct strings: `names`, and of each row the number of its own in `codes`."""

    def __init__(self, names: Sequence[str], codes: Ints) -> None:
        self.names, self.codes = tuple(names), codes

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return Coded(self.names, self.codes[at])
        return self.names[int(self.codes[at])]

    def counts(self) -> dict[str, int]:
        """Return how many rows have each name that any has, in order of the names."""
        found = np.bincount(self.codes, minlength=len(self.names)).tolist()
        return {name: n for name, n in sorted(zip(self.names, found, strict=True)) if n}

    def groups(self) -> Iterator[tuple[str, Ints]]:
        """Yield each name that any row has and the places of its rows, both in order."""
        order = np.argsort(self.codes, kind="stable")
        ends = np.cumsum(np.bincount(self.codes, minlength=len(self.names)))
        for name, code in sorted((name, code) for code, name in enumerate(self.names)):
            if len(places := order[ends[code - 1] if code else 0 : ends[code]]):
                yield name, places


class Coding:
    """Makes a coded column of pieces."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._pieces: list[Ints] = []

    def add(self, values: Any) -> None:
        """Add the strings of further rows."""
        self._pieces.append(narrow(self.codes(values)))

    def codes(self, values: Any) -> NDArray[np.int64]:
        """Return the number of each string; one not seen before gets the next."""
        found: Any = pc.dictionary_encode(values)
        known = self._codes
        mine = [known.setdefault(name, len(known)) for name in found.dictionary.to_pylist()]
        codes: NDArray[np.int64] = np.array(mine, np.int64)[found.indices.to_numpy()]
        return codes

    @property
    def names(self) -> tuple[str, ...]:
        """The strings seen so far, by their numbers."""
        return tuple(self._codes)

    def done(self) -> Coded:
        """Return the column."""
        return Coded(self.names, joined(self._pieces))


def joined(pieces: list[Ints]) -> Ints:
    """Join pieces into one array of the widest of their types; they are let go of."""
    out = np.empty(sum(map(len, pieces)), np.result_type(np.int8, *{p.dtype for p in pieces}))
    at = 0
    for piece in pieces:
        out[at : at + len(piece)] = piece
        at += len(piece)
    pieces.clear()
    return out
