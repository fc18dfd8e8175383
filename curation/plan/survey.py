"""How much there is to do: files, bytes and hours of the inputs, from the headers of some of them.

A header is opened, not read through: some milliseconds a file, and a few requests where it lies on object storage. That
is done in a process apart, so that a file which ends its reader, or holds it, is named and the others are surveyed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import av

from curation.engine.register import Named, stat
from curation.media.container import open_data
from curation.pythons.apart import apart
from curation.pythons.limits import Limits
from curation.pythons.worker import WorkerDiedError
from schemas.files.places import local_path, open_object

LEAST_BYTES_PER_S = 500.0
"""A header that claims more time than this leaves bytes for is not believed (4 kbit/s: no video is so small)."""

HEADER_LIMITS = Limits(seconds=60.0, bytes=2 << 30)
"""What one header may take; some lie on object storage that is slow to answer."""


MOST_FPS = 240.0
"""More pictures a second are not believed: headers of recordings of varying rate tell their clock's instead."""


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says of itself."""

    duration_s: float
    pixels_per_s: float
    """of the first video stream: width x height x pictures a second; 0 where it does not tell"""


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
    pixels: float = 0.0
    """of all their pictures, reckoned as `video_s` is; 0 where no header tells"""
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
    known: dict[int, Header | None] = {}
    ended: list[tuple[str, str]] = []
    for k in sorted(drawn):
        try:
            known[k] = apart(HEADER_LIMITS, read_header, named[k].path, sizes[k])
        except WorkerDiedError as e:
            known[k] = None
            ended.append((named[k].path, e.how))
    good = {k: v for k, v in known.items() if v is not None}
    unbiased = {k: v for k, v in good.items() if k != largest or len(drawn) == len(named)} or good
    of_bytes = sum(sizes[k] for k in unbiased)
    bad_bytes = sum(sizes[k] for k in known.keys() - good.keys() - {largest})
    sampled = sum(sizes[k] for k in known.keys() - {largest}) or 1
    others = sum(size for k, size in enumerate(sizes) if k not in drawn) * (1 - bad_bytes / sampled)

    def of_all(told: Callable[[Header], float]) -> float:
        return sum(map(told, good.values())) + others * sum(map(told, unbiased.values())) / (of_bytes or 1)

    return Survey(
        files=len(named),
        bytes=sum(sizes),
        opened=len(known),
        unreadable=len(known) - len(good),
        video_s=of_all(lambda h: h.duration_s),
        longest_s=max((h.duration_s for h in good.values()), default=0.0),
        pixels=of_all(lambda h: h.duration_s * h.pixels_per_s),
        ended=tuple(ended),
    )


def read_header(path: str, size: int) -> Header | None:
    """Return what a file's header tells; None where it tells no duration that can be believed."""
    try:
        with _data(path) as data, open_data(data) as container:
            told = [float(container.duration) / av.time_base] if container.duration else []
            pictures = container.streams.video
            told += [float(s.duration * s.time_base) for s in pictures if s.duration and s.time_base]
            pixels = [s.width * s.height * min(float(s.average_rate or 0), MOST_FPS) for s in pictures]
    except (OSError, ValueError, av.error.FFmpegError):
        return None
    likely = [t for t in told if 0 < t <= size / LEAST_BYTES_PER_S]
    return Header(max(likely), pixels[0] if pixels else 0.0) if likely else None


def _data(path: str) -> IO[bytes] | Any:
    file = local_path(path)
    if file is not None:
        return file.open("rb")
    fs, name = open_object(path)
    return fs.open_input_file(name)
