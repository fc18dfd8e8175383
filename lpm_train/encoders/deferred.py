"""Encoders whose weights are read when a text is first encoded; their files are told apart without that.

A run on a precomputed set encodes no text: it knows an encoder's shape by its configuration, and takes the set's word
for its weights where the files are those that the set was made with, or are not here at all.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol, runtime_checkable

_PIECES, _PIECE = 256, 4096  # of a file, spread evenly, and bytes of each


@runtime_checkable
class Deferred(Protocol):
    """An encoder that is not in memory yet."""

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory."""

    def load(self) -> None:
        """Read its weights, if they are not in memory. Raises DataError where they cannot be read."""

    def files(self) -> str | None:
        """Return `files_hash` of what it is read from; None where that does not tell its numbers."""


def files_hash(directory: str) -> str | None:
    """Hash a model's config.json, and size and 256 pieces of 4 KiB of each file of weights: quick at any size.

    Returns:
        64 hex digits; "" where no weights (.safetensors, .bin) are in the directory; None where it is no directory.
    """
    folder = Path(directory)
    if not folder.is_dir():
        return None
    files = sorted(p for p in folder.glob("*") if p.suffix in (".safetensors", ".bin") and p.is_file())
    if not files:
        return ""
    config = folder / "config.json"
    digest = hashlib.sha256(config.read_bytes() if config.is_file() else b"")
    for path in files:
        size = path.stat().st_size
        digest.update(f"\x1f{size} ".encode())
        with path.open("rb") as file:
            for i in range(_PIECES):
                file.seek(i * max(0, size - _PIECE) // (_PIECES - 1))
                digest.update(file.read(_PIECE))
    return digest.hexdigest()
