"""What lies in a folder or under a prefix: the videos, and a count of all else, so that nothing is left out unsaid."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
        ".ts", ".webm", ".wmv",
    }
)  # fmt: skip
"""Suffixes taken from folders and prefixes; a file named outright is taken whatever it is called."""
BROKEN = "broken links"
FOLDERS = "folders that a pattern names (name the folder itself)"
LINKED = "links to folders (name the folder itself)"
LOCKED = "files without permission to read"
SHUT = "folders without permission to read"
SPECIAL = "special files"
_KINDS = 8


def left_out(skipped: Counter[str]) -> str:
    """Return in words what was left out: `14 left out: 9 .txt, 3 .srt, 2 broken links`; nothing where nothing was."""
    if not skipped:
        return ""
    most = sorted(skipped.items(), key=lambda found: (-found[1], found[0]))
    named = [f"{n} {kind}" for kind, n in most[:_KINDS]]
    more = f" and {len(skipped) - _KINDS} other kinds" if len(skipped) > _KINDS else ""
    return f"{skipped.total()} left out: {', '.join(named)}{more}"


def in_folder(folder: Path, exclude: str | None, skipped: Counter[str]) -> list[Path]:
    """Return the videos in a folder and the folders in it, sorted; links to folders are not followed.

    `exclude` is a folder that is passed over, `skipped` counts what is no video, or cannot be read, by its kind.
    """
    outside = None if exclude is None else Path(exclude)
    if outside is not None and folder.is_relative_to(outside):
        return []
    found = []
    for path in _files(folder, outside, skipped):
        suffix = path.suffix.lower()
        if suffix not in VIDEO_SUFFIXES:
            if not path.name.endswith(".rights.json"):
                skipped[suffix or path.name] += 1
        elif not os.access(path, os.R_OK):
            skipped[LOCKED] += 1
        else:
            found.append(path)
    return sorted(found)


def _files(folder: Path, outside: Path | None, skipped: Counter[str]) -> Iterator[Path]:
    todo = [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                held = list(entries)
        except OSError:
            skipped[SHUT] += 1
            continue
        for entry in held:
            path = Path(entry.path)
            if path == outside:
                continue
            if entry.is_dir(follow_symlinks=False):
                todo.append(path)
            elif (kind := not_a_file(path)) is not None:
                skipped[kind] += 1
            else:
                yield path


def not_a_file(path: Path) -> str | None:
    """Return what something is that is no file, in words; None where it is one, or a link to one."""
    try:
        if path.is_file():
            return None
        if path.is_dir():
            return LINKED if path.is_symlink() else FOLDERS
    except OSError:  # a link in a circle, or through a folder that cannot be read
        return BROKEN
    return BROKEN if path.is_symlink() else SPECIAL


def under_prefix(entries: list[pafs.FileInfo], exclude: str | None, skipped: Counter[str]) -> list[pafs.FileInfo]:
    """Return the videos among what lies under a prefix of an object store, sorted by path, as `in_folder` does.

    `exclude` is the path of a dataset there, which is passed over where it is one.
    """
    inside = None if exclude is None else exclude.rstrip("/") + "/"
    if not any(inside is not None and e.path == f"{inside}dataset.json" for e in entries):
        inside = None
    found = []
    for entry in entries:
        if entry.type != pafs.FileType.File or (inside is not None and entry.path.startswith(inside)):
            continue
        path = PurePosixPath(entry.path)
        suffix = path.suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            found.append(entry)
        else:
            skipped[suffix or path.name] += 1
    return sorted(found, key=lambda e: str(e.path))
