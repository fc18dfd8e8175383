"""Read frames in a window of time, exactly: adjacent windows give every frame once.

A window starts at the keyframe before it; frames decoded on the way are dropped. If a demuxer lands too late (open
groups of pictures, containers without an index), the reader starts again further back, so the result never depends on
where it seeked to. What was recorded in fields comes deinterlaced. Cost: decoding, plus at most one group of pictures
for each window. One thread by default, so that the result and the CPU time do not depend on the machine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from curation.media.container import (
    has_no_presentation_times,
    open_media,
    origin_s,
    read_only,
    require_video,
    timestamp,
    video_stamp,
)
from curation.media.errors import MediaError
from curation.media.frame import Display, Frame, orientation_of
from curation.media.packets import decode_packets
from curation.media.picture.damage import Damage
from curation.media.picture.deinterlace import deinterlaced

_MAX_PIXELS = 8192 * 8192
"""Largest coded picture that is decoded; larger ones are a mistake or an attack."""

_BLOCK_PX = 16
"""Side of a macroblock, to which coded pictures are padded."""

_LEADS_S: tuple[float, ...] = (0.0, 2.0, 10.0, 60.0, math.inf)
"""How far before the window seeking is tried, one after the other, until it lands early enough."""


@dataclass(slots=True)
class DecodeReport:
    """What went wrong while decoding a window; filled as frames are read, summed if used for several windows.

    Attributes:
        n_frames: frames given.
        n_corrupt: frames given that the decoder marked as damaged.
        n_errors: packets of the window that the decoder refused, and reads that failed.
        n_disordered: frames left out because their time lies before that of a frame shown before them.
        first_error_s: time of the first such packet on the source's clock, where known.
        first_error: what the decoder said.
        readings: what each window's reading knows of damage.
    """

    n_frames: int = 0
    n_corrupt: int = 0
    n_errors: int = 0
    n_disordered: int = 0
    first_error_s: float | None = None
    first_error: str = ""
    readings: list[Damage] = field(default_factory=list)

    @property
    def damaged(self) -> list[tuple[float, float]]:
        """Stretches (start, end) in which pictures may be wrong, in seconds; they may overlap, and leave the window."""
        return [stretch for reading in self.readings for stretch in reading.stretches()]


@dataclass(frozen=True, slots=True)
class _Errors:
    """Counts the decoding errors of one window, so that adjacent windows count each once; raises if strict."""

    path: Path
    start_s: float
    end_s: float
    strict: bool
    report: DecodeReport

    def disordered(self, time_s: float) -> None:
        self.report.n_disordered += self.start_s <= time_s < self.end_s

    def add(self, time_s: float | None, error: Exception) -> None:
        if time_s is not None and not self.start_s <= time_s < self.end_s:
            return
        if self.report.n_errors == 0:
            self.report.first_error_s, self.report.first_error = time_s, str(error)
        self.report.n_errors += 1
        if self.strict:
            where = "an unknown time" if time_s is None else f"{time_s:.3f} s"
            raise MediaError(
                "decode_failed",
                f"{self.path.name} cannot be decoded at {where} ({error}); re-encode it or leave it out",
            ) from error


def iter_frames(
    path: Path,
    start_s: float = -math.inf,
    end_s: float = math.inf,
    *,
    max_side: int | None = None,
    strict: bool = False,
    report: DecodeReport | None = None,
    threads: int = 1,
) -> Iterator[Frame]:
    """Yield the frames with start_s <= pts_s < end_s in order of presentation.

    All have the size that the stream declares at its start: where a recorder changed it midway they are scaled, as
    players do, so that a place in the picture stays the same. In a damaged file a frame may come after one that is
    shown later: it is left out and counted. The file is closed when the iterator is exhausted, closed or dropped.

    Args:
        path: a video file.
        start_s: start of the window on the source's clock, inclusive.
        end_s: end of the window, exclusive.
        max_side: default limit of `Frame.rgb` and `Frame.gray` for the longer side, in pixels.
        strict: raise at the first packet that cannot be decoded instead of counting it.
        report: filled with what went wrong.
        threads: decoder threads; 0 lets the decoder choose.

    Raises:
        MediaError: the file cannot be opened, or has no video; `decode_failed` if `strict`; `too_large`.
    """
    report = report if report is not None else DecodeReport()
    errors = _Errors(path, start_s, end_s, strict, report)
    for frame in _decode_from(path, start_s, Display(max_side=max_side), errors, threads):
        if frame.pts_s >= end_s:
            return
        if frame.pts_s >= start_s:
            report.n_frames += 1
            report.n_corrupt += frame.is_corrupt
            yield frame


def read_frame_at(path: Path, t_s: float, *, max_side: int | None = None) -> Frame:
    """Return the frame on display at `t_s`: the last that starts at or before it; before the first, the first.

    Raises:
        MediaError: `no_frames` if nothing can be decoded; otherwise as `iter_frames`.
    """
    return _pick(path, [t_s], max_side)[0]


def read_frames_at(path: Path, times_s: Sequence[float], *, max_side: int | None = None) -> list[Frame]:
    """Return the frames on display at ascending times, as `read_frame_at`; each group of pictures is decoded once."""
    if list(times_s) != sorted(times_s):
        raise ValueError(f"times are not in ascending order: {list(times_s)}")
    keys_s = frame_times(path, keyframes=True)
    return [
        frame
        for _, group in itertools.groupby(times_s, key=lambda t: int(np.searchsorted(keys_s, t, side="right")))
        for frame in _pick(path, list(group), max_side)
    ]


def _pick(path: Path, times_s: Sequence[float], max_side: int | None) -> list[Frame]:
    """Decode once from before the first of ascending times to the last and return the frames on display at them."""
    out: list[Frame] = []
    shown: Frame | None = None
    errors = _Errors(path, times_s[0], times_s[0], False, DecodeReport())
    for frame in _decode_from(path, times_s[0], Display(max_side=max_side), errors, 1):
        while len(out) < len(times_s) and frame.pts_s > times_s[len(out)]:
            out.append(shown or frame)
        if len(out) == len(times_s):
            break
        shown = frame
    if shown is None and not out:
        raise MediaError("no_frames", f"no frame of {path.name} can be decoded; re-encode it or leave it out")
    return out + [shown or out[-1]] * (len(times_s) - len(out))


def frame_times(path: Path, *, keyframes: bool = False) -> NDArray[np.float64]:
    """Return the presentation time of every frame (or `keyframes` only) [N], without decoding.

    In seconds on the source's clock, sorted.
    """
    with open_media(path) as container:
        stream = require_video(container, path)
        origin = origin_s(container, path)
        read_only(container, stream)
        packets = (p for p in container.demux(stream) if not p.is_discard and (p.is_keyframe or not keyframes))
        ordered = has_no_presentation_times(container, stream)
        stamps = [video_stamp(p, ordered) for p in packets]
        base = Fraction(stream.time_base)
    return np.array([float(t * base - origin) for t in sorted(t for t in stamps if t is not None)])


def _decode_from(path: Path, start_s: float, display: Display, errors: _Errors, threads: int) -> Iterator[Frame]:
    """Yield frames from one at or before `start_s` on (or from the first of the file)."""
    for lead_s in _LEADS_S:
        target_s, damage = start_s - lead_s, Damage()
        frames = _decode(path, target_s, display, errors, damage, threads)
        first = next(frames, None)
        if target_s > 0 and (first is None or first.pts_s > start_s):
            frames.close()
            continue
        errors.report.readings.append(damage)
        if first is not None:
            yield first
            yield from frames
        return


def _decode(
    path: Path, target_s: float, display: Display, errors: _Errors, damage: Damage, threads: int
) -> Generator[Frame, None, None]:
    """Yield every frame from the keyframe before `target_s` on; from the file's first where that is not after 0."""
    with open_media(path) as container:
        stream = require_video(container, path)
        _check_size(stream, path)
        origin = origin_s(container, path)
        read_only(container, stream)
        stream.codec_context.thread_type = "NONE" if threads == 1 else "AUTO"
        stream.codec_context.thread_count = threads
        display.aspect = Fraction(stream.sample_aspect_ratio or 1)
        sought = target_s > 0
        if sought and not _seek(container, stream, origin + Fraction(target_s)):
            return
        interval_s = 1 / float(stream.average_rate) if stream.average_rate else 0.0
        declared, size, scaler = (int(stream.width), int(stream.height)), (0, 0), VideoReformatter()
        last_s, latest_s = -interval_s, -math.inf
        ordered = has_no_presentation_times(container, stream)
        delay = _delay_ticks(path) if ordered else 0
        damage.begin("" if ordered else stream.codec_context.name)
        frames = deinterlaced(_raw_frames(container, stream, origin, errors, damage, sought), sought)
        for index, (raw, picture) in enumerate(frames):
            if index == 0:
                display.orientation = orientation_of(raw)
                size = _size(declared, (raw.width, raw.height))
            stamp, base = video_stamp(raw, ordered), Fraction(raw.time_base or stream.time_base)
            pts_s = last_s + interval_s if stamp is None else float((stamp - delay) * base - origin)
            duration_s = float(raw.duration * base) if raw.duration else interval_s
            last_s = pts_s
            damage.frame(pts_s, bool(raw.key_frame), raw.is_corrupt, raw.pict_type == PictureType.B)
            if pts_s < latest_s:
                errors.disordered(pts_s)
                continue
            latest_s = pts_s
            shown = picture if (raw.width, raw.height) == size else _scaled(scaler, picture, size)
            number = None if sought else index
            yield Frame(pts_s, duration_s, number, raw.is_corrupt, shown, display, picture is not raw)


def _delay_ticks(path: Path) -> int:
    """Return how much later than its packet a decoder gives a frame, in ticks of decoding time.

    A frame's decoding time is that of the packet after which it came out. The first to come out is a keyframe, shown in
    the place where it is coded: what it is later by than its own packet is the delay. It is the same all along, for
    opening a file settles the reorder depth.
    """
    with open_media(path) as container:
        stream = require_video(container, path)
        read_only(container, stream)
        coded: dict[int, int] = {}
        for packet in container.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                coded[packet.pts] = int(packet.dts)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            if frames:
                first = frames[0]
                return 0 if first.dts is None else int(first.dts) - coded.get(first.pts, int(first.dts))
    return 0


def _size(declared: tuple[int, int], first: tuple[int, int]) -> tuple[int, int]:
    """Return the size that all frames get: the declared one, which every window of the file knows.

    Some headers count the padding to whole blocks; then, and where nothing is declared, it is the first frame's.
    """
    padded = all(abs(a - b) < _BLOCK_PX for a, b in zip(declared, first, strict=True))
    return first if padded or 0 in declared else declared


def _scaled(scaler: VideoReformatter, raw: Any, size: tuple[int, int]) -> Any:
    return scaler.reformat(raw, *size, interpolation=Interpolation.AREA, threads=1)


def _raw_frames(
    container: Any, stream: Any, origin: Fraction, errors: _Errors, damage: Damage, sought: bool
) -> Iterator[Any]:
    """Decode packet by packet and count failures; after a seek, failures before the first frame mean nothing."""
    base, seen = Fraction(stream.time_base), not sought

    def sent(packet: Any) -> None:
        if packet.pts is not None and packet.size and not packet.is_discard:
            damage.packet(float(packet.pts * base - origin), seen and packet.is_corrupt)

    def failed(packet: Any | None, error: av.error.FFmpegError) -> None:
        stamp = timestamp(packet) if packet is not None else None
        t_s = None if stamp is None else float(stamp * base - origin)
        if seen:
            errors.add(t_s, error)
        if seen and t_s is not None:
            damage.refused(t_s)

    for raw in decode_packets(container, stream, failed, sent):
        seen = True
        yield raw


def _seek(container: Any, stream: Any, time_s: Fraction) -> bool:
    """Seek to the keyframe before a container time; False if the demuxer cannot."""
    try:
        container.seek(int(time_s / Fraction(stream.time_base)), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


def _check_size(stream: Any, path: Path) -> None:
    if stream.width * stream.height > _MAX_PIXELS:
        raise MediaError(
            "too_large",
            f"{path.name} has frames of {stream.width}x{stream.height}, more than {_MAX_PIXELS} pixels; scale it down",
        )
