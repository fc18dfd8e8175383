"""How much there is to do: files, bytes and hours of the inputs, from the headers of some of them.

A header is opened, not read through: some milliseconds a file, and a few requests where it lies on object storage. That
is done in a process apart, so that a file which ends its reader, or holds it, is named and the others are surveyed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import av
import pyarrow.fs as pafs

from curation.engine.register import Named, stat
from curation.media.container import open_data
from curation.pythons.apart import apart
from curation.pythons.limits import Limits
from curation.pythons.worker import WorkerDiedError
from schemas.files.places import local_path, with_endpoint

LEAST_BYTES_PER_S = 500.0
"""A header that claims more time than this leaves bytes for is not believed (4 kbit/s: no video is so small)."""

HEADER = Limits(seconds=60.0, bytes=2 << 30)
"""What one header may take; some lie on object storage that is slow to answer."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found. `opened` files had their headers read, `unreadable` of these told no duration."""

    files: int
    bytes: int
    opened: int
    unreadable: int
    video_s: float
    """of all files: known of those opened, by their bytes of the others"""
    longest_s: float
    ended: tuple[tuple[str, str], ...] = ()
    """of the unreadable, what ended the process that opened it: path, and how, such as "crashed (signal 11)\""""


def survey(named: Sequence[Named], sample: int = 200, seed: int = 0) -> Survey:
    """Return what the inputs hold, from the headers of at most `sample` files.

    Files are drawn with `seed`; the largest is always opened, since the longest source decides how well many machines
    help. Raises InputError for a file that is not there.
    """
    sizes = [(n.listed or stat(n.path))[0] for n in named]
    largest = max(range(len(named)), key=sizes.__getitem__)
    drawn = set(random.Random(seed).sample(range(len(named)), min(sample, len(named)))) | {largest}
    known: dict[int, float | None] = {}
    ended: list[tuple[str, str]] = []
    for k in sorted(drawn):
        try:
            known[k] = apart(HEADER, duration_s, named[k].path, sizes[k])
        except WorkerDiedError as e:
            known[k] = None
            ended.append((named[k].path, e.how))
    good = {k: v for k, v in known.items() if v is not None}
    unbiased = {k: v for k, v in good.items() if k != largest or len(drawn) == len(named)} or good
    of_bytes = sum(sizes[k] for k in unbiased)
    per_byte = sum(unbiased.values()) / of_bytes if of_bytes else 0.0
    bad_bytes = sum(sizes[k] for k in known.keys() - good.keys() - {largest})
    sampled = sum(sizes[k] for k in known.keys() - {largest}) or 1
    others = sum(size for k, size in enumerate(sizes) if k not in drawn)
    return Survey(
        files=len(named),
        bytes=sum(sizes),
        opened=len(known),
        unreadable=len(known) - len(good),
        video_s=sum(good.values()) + others * (1 - bad_bytes / sampled) * per_byte,
        longest_s=max(good.values(), default=0.0),
        ended=tuple(ended),
    )


def duration_s(path: str, size: int) -> float | None:
    """Return the duration that a file's header tells (seconds); None where it tells none that can be believed."""
    try:
        with _data(path) as data, open_data(data) as container:
            told = [float(container.duration) / av.time_base] if container.duration else []
            told += [float(s.duration * s.time_base) for s in container.streams.video if s.duration and s.time_base]
    except (OSError, ValueError, av.error.FFmpegError):
        return None
    likely = [t for t in told if 0 < t <= size / LEAST_BYTES_PER_S]
    return max(likely) if likely else None


def _data(path: str) -> IO[bytes] | Any:
    file = local_path(path)
    if file is not None:
        return file.open("rb")
    fs, name = pafs.FileSystem.from_uri(with_endpoint(path))
    return fs.open_input_file(name)
