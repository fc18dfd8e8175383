"""Find the clips of a dataset that somebody else made: files in folders, WebDataset tars, rows of Parquet files.

Nothing is left out silently: what is named and not there, and a container that breaks off, is a sample with a reason.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pyarrow as pa

from curation.check.declared import Fact, flat
from curation.check.errors import CheckError
from curation.check.rows import TABLES, has_media, rows_by_file, samples_of_parquet
from curation.check.samples import SOUNDS, Sample, role_of
from curation.check.tars import samples_of_tar
from curation.listing import VIDEO_SUFFIXES
from schemas.files.places import local_path

_TARS = (".tar", ".tar.gz", ".tgz")


def samples(named: str, media: Path, skipped: Counter[str]) -> Iterator[Sample]:
    """Yield every clip of a folder or file, by name.

    Args:
        named: what is to be checked.
        media: where members of tars and rows of Parquet files are put.
        skipped: counts, by suffix, files that are no clips and say nothing of any.

    Raises:
        CheckError: there is nothing that could be checked.
    """
    foreign = _place(named)
    root = foreign if foreign.is_dir() else foreign.parent
    held = sorted(p for p in foreign.rglob("*") if p.is_file()) if foreign.is_dir() else [foreign]
    own = media.parent.resolve()
    held = [p for p in held if not p.parent.resolve().is_relative_to(own)]
    videos = [p for p in held if p.suffix.lower() in VIDEO_SUFFIXES]
    tars = [p for p in held if p.name.lower().endswith(_TARS)]
    tables = [p for p in held if p.suffix.lower() in TABLES]
    found = bool(tars or videos)
    for n, tar in enumerate(tars):
        yield from samples_of_tar(tar, str(tar.relative_to(root)), media / f"tar-{n:04d}")
    said: dict[str, dict[str, Fact]] = {}
    for n, table in enumerate(tables):
        found |= yield from _of_table(table, root, media / f"rows-{n:04d}", said, skipped)
    beside = set(videos)
    for video in videos:
        sounds, sidecar = _beside(video)
        beside |= set(sounds.values()) | ({sidecar} if sidecar else set())
        name = str(video.relative_to(root))
        yield _file_sample(video, name, sounds, sidecar, said.pop(name, {}))
    for name in said:
        if Path(name).suffix.lower() in VIDEO_SUFFIXES:
            found = True
            yield Sample(name, reason="a table names it, and there is no such file in the dataset")
    others = (p for p in held if p not in beside and p not in tars and p not in tables)
    skipped.update(p.suffix.lower() or p.name for p in others)
    if not found:
        kinds = ", ".join(sorted(s for s in skipped)) or "nothing"
        raise CheckError(f"no clip in {named!r}: neither videos, tars nor Parquet with media (it holds {kinds})")


def _of_table(
    table: Path, root: Path, media: Path, said: dict[str, dict[str, Fact]], skipped: Counter[str]
) -> Generator[Sample, None, bool]:
    """Yield the clips whose media are in a table, or add to `said` what it tells of files; return whether it has media.

    A table that cannot be read is a sample with a reason; one that tells of no clip counts as skipped.
    """
    shown = str(table.relative_to(root))
    with_media = False
    try:
        if with_media := has_media(table):
            yield from samples_of_parquet(table, shown, media)
            return True
        rows = rows_by_file(table)
    except (OSError, pa.ArrowInvalid) as e:
        yield Sample(shown, reason=f"the table cannot be read: {e}")
        return with_media
    if rows is None:
        skipped[table.suffix.lower()] += 1
    for name, facts in (rows or {}).items():
        said.setdefault(_relative(table.parent, name, root), facts)
    return False


def _place(named: str) -> Path:
    """Return the folder or file that is to be checked. Raises CheckError where it cannot be."""
    if not named:
        raise CheckError("FOREIGN is empty, as a variable that is not set leaves it; name a folder or file")
    foreign = local_path(named)
    if foreign is None:
        raise CheckError(f"{named} lies elsewhere; copy it to this machine first")
    if not foreign.exists():
        raise CheckError(f"no such file or folder: {named!r}")
    return foreign.absolute()


def _relative(folder: Path, name: str, root: Path) -> str:
    """Return a name that a table in `folder` gives as a path below the root."""
    path = Path(os.path.normpath(folder / name))
    return str(path.relative_to(root)) if path.is_relative_to(root) else name


def _beside(video: Path) -> tuple[dict[str, Path], Path | None]:
    """Return the sounds and the JSON file that belong to a video by their names."""
    sounds = {}
    for file in sorted(video.parent.glob(f"{_escaped(video.stem)}.*")):
        if file.suffix.lower() in SOUNDS and file.name[len(video.stem) + 1 :].count(".") <= 1:
            sounds[role_of(file.name[len(video.stem) :])] = file
    sidecar = video.with_suffix(".json")
    return sounds, sidecar if sidecar.is_file() else None


def _escaped(stem: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in stem)


def _file_sample(
    video: Path, name: str, sounds: dict[str, Path], sidecar: Path | None, facts: dict[str, Fact]
) -> Sample:
    said, why = None, None
    if sidecar is not None:
        try:
            said = json.loads(sidecar.read_text(encoding="utf-8"))
        except (ValueError, OSError) as e:
            why = f"{sidecar.name}: {e}"
    return Sample(name, video, sounds, {**(flat(said) if isinstance(said, dict) else {}), **facts}, facts_error=why)
