"""A clip as a dataset holds it: a picture, sounds beside it, what is said of it, or why it cannot be read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from curation.check.declared import Fact

SOUNDS = frozenset({".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
"""Suffixes of sound files that belong to the picture of the same name."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip.

    Attributes:
        name: what the dataset calls it: a path inside the folder, `SHARD.tar::KEY`, or `FILE.parquet::ROW`.
        picture: the video file; None where there is none that could be read.
        sounds: files by role: `speak`, `listen`, or `sound` for one that is neither.
        facts: its metadata, flattened.
        reason: why it cannot be checked; None where it can.
        facts_error: why its metadata cannot be read; None where it can, or where there is none.
    """

    name: str
    picture: Path | None = None
    sounds: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    reason: str | None = None
    facts_error: str | None = None


def role_of(name: str) -> str:
    """Return the role of a sound by its name or column."""
    words = name.lower()
    return "listen" if "listen" in words else "speak" if "speak" in words else "sound"


def place(data: IO[bytes] | bytes, size: int, target: Path, newer_than_ns: int) -> Path:
    """Write what was taken out of a container to a file; one from an earlier time that is as it must be stays."""
    if target.is_file() and target.stat().st_size == size and target.stat().st_mtime_ns > newer_than_ns:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        if isinstance(data, bytes):
            out.write(data)
        else:
            shutil.copyfileobj(data, out, 1 << 20)
    return target
