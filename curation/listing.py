"""What lies in a folder or under a prefix: the videos, and a count of all else, so that nothing is left out unsaid."""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs

from schemas.files.places import can_be_asked_for

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
        ".ts", ".vob", ".webm", ".wmv",
    }
)  # fmt: skip
"""Suffixes taken from folders and prefixes; a file named outright is taken whatever it is called."""
BROKEN = "broken links"
DATASETS = "datasets that lpm made (name the files themselves)"
FOLDERS = "folders that a pattern names (name the folder itself)"
LINKED = "links to folders (name the folder itself)"
LOCKED = "files without permission to read"
SHUT = "folders without permission to read"
SPECIAL = "special files"
UNASKED = "keys with nothing, . or .. between slashes (copy them to other keys)"
_KINDS = 8
_MARK, _BESIDE = "dataset.json", "workflow.json"
"""What marks a dataset; where only names are known, with what a run writes beside it."""


def left_out(skipped: Counter[str]) -> str:
    """Return in words what was left out: `14 left out: 9 .txt, 3 .srt, 2 broken links`; nothing where nothing was."""
    if not skipped:
        return ""
    most = sorted(skipped.items(), key=lambda found: (-found[1], found[0]))
    named = [f"{n} {kind}" for kind, n in most[:_KINDS]]
    more = f" and {len(skipped) - _KINDS} other kinds" if len(skipped) > _KINDS else ""
    return f"{skipped.total()} left out: {', '.join(named)}{more}"


def holds_dataset(folder: Path) -> bool:
    """Tell whether a folder is a dataset of this program's: others have a dataset.json too."""
    file = folder / _MARK
    try:
        said = json.loads(file.read_bytes()) if file.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("name") == "openlpm"


def in_folder(folder: Path, own: Path | None, skipped: Counter[str]) -> list[Path]:
    """Return the videos in a folder and the folders in it, sorted; links to folders are not followed.

    Datasets are passed over, and all of `own`, the resolved folder of the dataset that is written. `skipped` counts
    them, and what is no video or cannot be read, by its kind.
    """
    if own is not None and folder.resolve().is_relative_to(own):
        skipped[DATASETS] += 1
        return []
    found = []
    for path in _files(folder, skipped):
        suffix = path.suffix.lower()
        if suffix not in VIDEO_SUFFIXES:
            if not path.name.endswith(".rights.json"):
                skipped[suffix or path.name] += 1
        elif not os.access(path, os.R_OK):
            skipped[LOCKED] += 1
        else:
            found.append(path)
    return sorted(found)


def _files(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    todo = [folder]
    while todo:
        here = todo.pop()
        try:
            with os.scandir(here) as entries:
                held = list(entries)
        except OSError:
            skipped[SHUT] += 1
            continue
        if any(entry.name == _MARK for entry in held) and holds_dataset(here):
            skipped[DATASETS] += 1
            continue
        for entry in held:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                todo.append(path)
            elif (kind := not_a_file(path)) is not None:
                skipped[kind] += 1
            else:
                yield path


def outside_datasets(paths: list[Path], begins: Path, own: Path | None, skipped: Counter[str]) -> list[Path]:
    """Return which paths that a pattern names lie in no dataset, and count the datasets; `own` as `in_folder` has it.

    A dataset around `begins`, the folder that the pattern names outright, is not passed over unless it is `own`.
    """
    above = set(begins.resolve().parents) - {own}
    held = functools.cache(lambda folder: folder == own or (folder not in above and holds_dataset(folder)))
    around = {folder: _first_around(folder.resolve(), held) for folder in {path.parent for path in paths}}
    skipped.update(DATASETS for dataset in set(around.values()) if dataset is not None)
    return [path for path in paths if around[path.parent] is None]


def _first_around(folder: Path, held: Callable[[Path], bool]) -> Path | None:
    return next((f for f in (folder, *folder.parents) if held(f)), None)


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


def under_prefix(entries: list[pafs.FileInfo], own: str | None, skipped: Counter[str]) -> list[pafs.FileInfo]:
    """Return the videos among what lies under a prefix of an object store, sorted by path, as `in_folder` does.

    `own` is the path of the dataset that is written. Datasets are passed over, known by the names of their files.
    """
    files = [(PurePosixPath(e.path), e) for e in entries if e.type == pafs.FileType.File]
    folders = {name: {p.parent for p, _ in files if p.name == name} for name in (_MARK, _BESIDE)}
    beside = folders[_BESIDE] | ({PurePosixPath(own)} if own is not None else set())
    datasets = folders[_MARK] & beside
    skipped.update(DATASETS for _ in datasets)
    found = []
    for path, entry in files:
        if datasets and not datasets.isdisjoint(path.parents):
            continue
        suffix = path.suffix.lower()
        if suffix in VIDEO_SUFFIXES and not can_be_asked_for(entry.path):
            skipped[UNASKED] += 1
        elif suffix in VIDEO_SUFFIXES:
            found.append(entry)
        else:
            skipped[suffix or path.name] += 1
    return sorted(found, key=lambda e: str(e.path))
