"""Decode a stretch of sound and lay every sample where its time stamp says.

Positions are whole samples of the stream's own rate on the source's clock. Containers with coarse clocks (Matroska's
millisecond) round packet times; since codecs' frames have one length, the true position is the nearest one on the
lattice that starts at the first frame. What jitters a little is laid gaplessly until it is off by a real gap; where
frames overlap, the later one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from curation.media.container import find_heard, find_video, open_media, origin_s, read_only, timestamp
from curation.media.packets import decode_packets
from schemas.files.sound import F32, LOUDEST, mono_weights, planes, to_float

_LEADS_S: tuple[int | None, ...] = (1, 10, None)
"""Decoded before a stretch and thrown away: longer than MP3's bit reservoir, Opus' 80 ms pre-roll and the repetition of
SBR headers. Longer leads (None: from the file's start) are tried when seeking lands too late."""

_JITTER_S = 0.0015
"""Packet times this close to a gapless sequence are rounding, possibly by a millisecond clock the file once had."""

_COARSE_JITTER_S = 0.010
"""The same where the clock is coarse: live recorders write times of arrival."""

_SETTLE_S = 0.1
_HOLE_S = (0.005, 2.0)
"""What is missing for less is rounding; for longer no loss on the way, and nobody takes it for speech."""

_WITH_PAUSES = ("opus", "speex", "amrnb", "amrwb", "evrc", "gsm", "g729")
"""Codecs of calls, which send nothing while nobody speaks."""

_UNSEEKABLE = {"aac", "mp3", "ac3", "amr", "h264", "hevc", "m4v", "mpegvideo", "dv"}
"""Raw streams whose times after a seek are estimates; they are decoded from their start."""

Stretch = tuple[float, float]
"""Seconds on the source's clock, (start, end)."""


@dataclass(frozen=True, slots=True)
class AudioClock:
    """How a sound stream's packets map to samples.

    Attributes:
        stream_index: which stream.
        rate_hz: decoded samples per second; twice the declared rate for some HE-AAC.
        channels: names of the decoded channels.
        base: seconds of a tick.
        origin_s: the container's time of zero on the source's clock.
        start: sample position of the first frame.
        lattice: (position of the first frame's end, samples of a frame), where packet times are coarser than samples.
        tolerance: deviation in samples from a gapless sequence that is jitter and not a gap or an overlap.
        seekable: whether times after a seek can be trusted.
        continuous: the codec has no packets that are left out in silence, so what is missing was lost.
    """

    stream_index: int
    rate_hz: int
    channels: tuple[str, ...]
    base: Fraction
    origin_s: Fraction
    start: int
    lattice: tuple[int, int] | None
    tolerance: int
    seekable: bool
    continuous: bool

    def position(self, stamp: int) -> int:
        """Return the sample position of a frame with this time stamp."""
        exact = (stamp * self.base - self.origin_s) * self.rate_hz
        if self.lattice is not None:
            end, length = self.lattice
            snapped = end + round((exact - end) / length) * length
            nearest = min(self.start, snapped, key=lambda at: abs(exact - at))  # the first frame may be a short one
            if abs(exact - nearest) <= self.base * self.rate_hz + 1:
                return nearest
        return round(exact)


def read_clocks(path: Path) -> list[AudioClock]:
    """Return the clocks of the streams that are heard together, none where nothing decodes. Raises MediaError."""
    with open_media(path) as container:
        indices = [s.index for s in find_heard(container)]
    clocks = []
    for index in indices:
        with open_media(path) as container:  # anew: packets of the others were passed over
            clocks.append(read_clock(container, container.streams[index], path))
    found = [c for c in clocks if c is not None]
    return [c for c in found if c.rate_hz == found[0].rate_hz]


def read_clock(container: Any, stream: Any, path: Path) -> AudioClock | None:
    """Decode the first frames of an open container and return their clock; None if nothing decodes."""
    origin, base = origin_s(container, path), Fraction(stream.time_base)
    frames = [f for f in islice(_frames(container, stream, None, []), 4) if timestamp(f) is not None]
    if not frames:
        return None
    first, rate = frames[0], int(frames[0].sample_rate)
    start = round((Fraction(timestamp(first) or 0) * base - origin) * rate)
    lengths = {f.samples for f in frames[1:3]}
    coarse = (1 / (base * rate)).denominator != 1  # a sample is no whole number of ticks
    lattice = (start + first.samples, lengths.pop()) if coarse and len(lengths) == 1 else None
    jitter_s = _COARSE_JITTER_S if coarse else _JITTER_S
    tolerance = round(jitter_s * rate)
    if lattice is not None:  # a lost frame is no jitter
        tolerance = min(tolerance, (lattice[1] - 1) // 2)
    return AudioClock(
        stream_index=stream.index,
        rate_hz=rate,
        channels=tuple(c.name for c in first.layout.channels),
        base=base,
        origin_s=origin,
        start=start,
        lattice=lattice,
        tolerance=tolerance,
        seekable=find_video(container) is not None or container.format.name not in _UNSEEKABLE,
        continuous=stream.codec_context.name not in _WITH_PAUSES,
    )


def decode_samples(path: Path, clock: AudioClock, first: int, n: int) -> tuple[F32, list[Stretch]]:
    """Return float32 [C, n] for the stream's own samples first..first+n-1, and what damaged packets spoil of them.

    What the stream does not cover is zero.
    """
    for lead_s in _LEADS_S:
        out = np.zeros((len(clock.channels), n), dtype=np.float32)
        target = None if lead_s is None or not clock.seekable else first - lead_s * clock.rate_hz
        if target is not None and target <= clock.start:
            target = None
        spoilt: list[Stretch] = []
        with open_media(path) as container:
            stream = container.streams[clock.stream_index]
            read_only(container, stream)
            if target is not None and not _seek(container, stream, clock, target):
                continue
            earliest = _lay(out, first, _frames(container, stream, clock, spoilt), clock, spoilt, target is not None)
        late = earliest is None or earliest > first - _SETTLE_S * clock.rate_hz
        if target is None or not late:
            begin_s, end_s = first / clock.rate_hz, (first + n) / clock.rate_hz
            return out, [(a, b) for a, b in spoilt if b > begin_s and a < end_s]
    raise AssertionError("the last lead decodes from the start")


def _lay(
    out: F32, first: int, frames: Iterator[Any], clock: AudioClock, spoilt: list[Stretch], sought: bool
) -> int | None:
    """Write frames into `out`, whose sample 0 is position `first`; return the position of the earliest frame."""
    n, expected, earliest = out.shape[1], None, None
    for number, frame in enumerate(frames):
        stamp = timestamp(frame)
        if frame.sample_rate != clock.rate_hz and stamp is not None:
            start_s = float(stamp * clock.base - clock.origin_s)
            spoilt.append((start_s, start_s + frame.samples / frame.sample_rate))
        if (stamp is None and expected is None) or frame.sample_rate != clock.rate_hz:
            continue
        if number == 0 and sought and clock.lattice is not None and frame.samples != clock.lattice[1]:
            continue  # after seeking, decoders cut off their delay again, and its time is rounded
        at = expected if stamp is None else clock.position(stamp)
        assert at is not None
        if expected is not None and abs(at - expected) <= clock.tolerance:
            at = expected
        elif expected is not None and clock.continuous and _HOLE_S[0] < (at - expected) / clock.rate_hz <= _HOLE_S[1]:
            spoilt.append((expected / clock.rate_hz, at / clock.rate_hz))
        if earliest is None:
            earliest = at
        if at >= first + n:
            break
        expected = at + frame.samples
        if expected > first:
            a, b = max(at, first), min(expected, first + n)
            samples = _samples(frame, out.shape[0])
            if not np.abs(samples).max(initial=0.0) <= LOUDEST:  # also where one is no number
                spoilt.append((at / clock.rate_hz, expected / clock.rate_hz))
                samples = np.zeros_like(samples)
            out[:, a - first : b - first] = samples[:, a - at : b - at]
    return earliest


def _samples(frame: Any, n_channels: int) -> F32:
    """Return a frame as float32 [C, samples], mixed to mono, [1, samples], where its channels are not the stream's."""
    names = [c.name for c in frame.layout.channels]
    raw = planes(frame, len(names)) if frame.format.is_planar else frame.to_ndarray().reshape(-1, len(names)).T
    samples = to_float(raw)
    if len(names) != n_channels:
        samples = (mono_weights(names) @ samples)[None]
    return samples


def _frames(container: Any, stream: Any, clock: AudioClock | None, spoilt: list[Stretch]) -> Iterator[Any]:
    """Decode, and put down what refused and broken packets spoil; decoders blend each with its neighbours."""
    was_corrupt = False

    def spoil(packet: Any | None) -> None:
        stamp = None if packet is None else timestamp(packet)
        if packet is not None and stamp is not None and clock is not None:
            start_s = float(stamp * clock.base - clock.origin_s)
            length_s = float((packet.duration or 0) * clock.base)
            spoilt.append((start_s - length_s, start_s + 2 * length_s))

    def sent(packet: Any) -> None:
        nonlocal was_corrupt
        if packet.is_corrupt or was_corrupt:  # FFmpeg's parsers may set the mark one packet early
            spoil(packet)
        was_corrupt = packet.is_corrupt

    return decode_packets(container, stream, lambda packet, _: spoil(packet), sent)


def _seek(container: Any, stream: Any, clock: AudioClock, target: int) -> bool:
    time_s = Fraction(target, clock.rate_hz) + clock.origin_s
    try:
        container.seek(int(time_s / clock.base), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True
