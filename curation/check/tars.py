"""Clips of a WebDataset tar: members of one key are one sample. They are taken out, as decoders need files."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from curation.check.declared import Fact, flat
from curation.check.samples import SOUNDS, Sample, place, role_of
from curation.listing import VIDEO_SUFFIXES

_MAX_JSON = 16 << 20


def samples_of_tar(tar: Path, shown: str, folder: Path) -> Iterator[Sample]:
    """Yield the samples of a tar, whose members go to files in `folder`.

    A tar that breaks off gives the samples before the break, and one that says so.
    """
    changed = tar.stat().st_mtime_ns
    last = ""
    try:
        with tarfile.open(tar, "r:*") as archive:
            members = (m for m in archive if m.isfile())
            for n, (key, group) in enumerate(groupby(members, key=lambda m: _key(m.name))):
                yield from _sample(archive, list(group), f"{shown}::{key}", folder / f"{n:06d}", changed)
                last = key
    except (tarfile.TarError, OSError, EOFError) as e:
        where = f"after {last!r}" if last else "at its beginning"
        yield Sample(shown, reason=f"the tar cannot be read further {where}: {e}")


def _key(name: str) -> str:
    """Return a member's key as WebDataset has it: its path up to the first dot of its last part."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0]).removeprefix("./")


def _sample(
    archive: tarfile.TarFile, members: list[tarfile.TarInfo], name: str, target: Path, changed: int
) -> Iterator[Sample]:
    pictures: dict[str, Path] = {}
    sounds: dict[str, Path] = {}
    facts: dict[str, Fact] = {}
    why: str | None = None
    for member in members:
        tail = PurePosixPath(member.name).name.partition(".")[2].lower()
        suffix = "." + tail.rpartition(".")[2]
        data = archive.extractfile(member)
        if data is None:
            continue
        if suffix in VIDEO_SUFFIXES:
            pictures[tail] = place(
                data, member.size, target.with_name(f"{target.name}-{len(pictures)}{suffix}"), changed
            )
        elif suffix in SOUNDS:
            role = role_of(tail)
            sounds[role] = place(data, member.size, target.with_name(f"{target.name}-{role}{suffix}"), changed)
        elif suffix == ".json" and member.size <= _MAX_JSON:
            try:
                said = json.loads(data.read())
            except ValueError as e:
                why = f"{tail}: {e}"
                continue
            facts |= flat(said) if isinstance(said, dict) else {}
    if not pictures:
        tails = ", ".join(sorted(PurePosixPath(m.name).name.partition(".")[2] for m in members))
        yield Sample(name, reason=f"no video among its members ({tails})", facts_error=why)
    for tail, picture in pictures.items():
        # Two videos under one key are two clips, and it is not known whose the sounds are.
        alone = len(pictures) == 1
        yield Sample(name if alone else f"{name}.{tail}", picture, sounds if alone else {}, facts, facts_error=why)
