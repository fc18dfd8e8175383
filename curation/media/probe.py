"""Measure a media file without decoding it: streams, sizes, times, frame rate, and whether it is whole.

Every packet is read once, and only its header is looked at, so a file costs about as much as copying it; one frame is
decoded for what only a frame tells (turn, pixel format) and as proof that decoding works. Durations are those of the
packets found; what the header declares is kept beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from curation.media.container import (
    describe_missing,
    find_heard,
    has_no_presentation_times,
    open_media,
    origin_s,
    read_only,
    require_video,
    video_stamp,
)
from curation.media.errors import MediaError
from curation.media.frame import Frame, display_size
from curation.media.picture.hdr import TRANSFER_NAMES
from curation.media.structure import missing_bytes, missing_from_index
from curation.media.video import read_frame_at

_MAX_PACKETS = 4_000_000
"""Most packets of one file that are read: about a day of video with sound."""

_VFR_TOLERANCE = 0.1
"""A frame interval is irregular if it differs from the median by more than this part of it (and 1.5 clock ticks)."""

_VFR_SHARE = 0.01
"""A file with more than this share of irregular intervals has a variable frame rate; single drops do not count."""


_STILL_S = 10.0
"""A picture counts as shown for so long at most (s), whatever the file says: nobody performs in a still."""

_STILL_SHARE = 0.5
"""A file of which more than this share is such stills has times that cannot be right."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Facts about a media file. Times are seconds on the source's clock, whose zero is the first video frame.

    Attributes:
        n_bytes: file size.
        container: demuxer name, such as `mov,mp4,m4a,3gp,3g2,mj2`.
        duration_s: end of the last video frame.
        start_s: the container's own time of the first video frame.
        video_codec: such as `h264`.
        width, height: displayed picture in pixels, sample aspect ratio and turn applied.
        rotation_deg: clockwise turn for display, 0, 90, 180 or 270.
        fps: mean frame rate, Hz.
        irregular_ratio: share of frame intervals that differ from the median, see `_VFR_TOLERANCE`.
        is_vfr: whether the frame rate is variable.
        n_video_packets: video packets found, those hidden by an edit list left out.
        video_bit_rate: bit/s over the packets found.
        pixel_format: such as `yuv420p`; `interlaced`, `PQ` or `HLG` after it where the first frame is so.
        has_audio: whether there is a sound stream with packets; the audio fields below are None otherwise.
        audio_codec: such as `aac`.
        audio_rate_hz: samples per second.
        audio_channels: number of channels, of all tracks that are heard together.
        audio_start_s: first audible sample.
        audio_duration_s: from the first sample to the end of the last.
    """

    n_bytes: int
    container: str
    duration_s: float
    start_s: float
    video_codec: str
    width: int
    height: int
    rotation_deg: int
    fps: float
    irregular_ratio: float
    is_vfr: bool
    n_video_packets: int
    video_bit_rate: float
    pixel_format: str
    has_audio: bool
    audio_codec: str | None
    audio_rate_hz: int | None
    audio_channels: int | None
    audio_start_s: float | None
    audio_duration_s: float | None


@dataclass(slots=True)
class _Packets:
    """Times [N] in seconds on the source's clock, durations [N] in seconds, and bytes of one stream's packets."""

    times_s: NDArray[np.float64]
    durations_s: NDArray[np.float64]
    n_bytes: int

    @property
    def end_s(self) -> float:
        """End of the last packet."""
        return float((self.times_s + self.durations_s).max())


def probe(path: Path) -> MediaInfo:
    """Measure a video file.

    Raises:
        MediaError: `missing_file`, `empty_file`, `not_a_video`, `no_video_stream`, `truncated` (the file's own
            structure declares bytes beyond its end), `no_frames`, `wrong_times`, `decode_failed`, `too_large`.
    """
    n_bytes = path.stat().st_size if path.is_file() else 0
    with open_media(path) as container:
        video, tracks = require_video(container, path), find_heard(container)
        missing = max(missing_bytes(path), missing_from_index(container, n_bytes))
        if missing:
            raise MediaError("truncated", f"{path.name} was cut short, {describe_missing(missing)}; copy it again")
        origin = origin_s(container, path)
        streams = [video, *tracks]
        read_only(container, *streams)
        pictures, *sounds = _read_packets(container, streams, origin, path)
        if not len(pictures.times_s):
            raise MediaError("no_frames", f"{path.name} declares video but holds none; leave it out")
        codec = video.codec_context
        times = np.sort(pictures.times_s)
        _refuse_still(times, path)
        ticks_s = float(video.time_base)
        irregular = irregular_ratio(times, ticks_s)
        pictures.durations_s = np.minimum(pictures.durations_s, _STILL_S)
        duration_s = pictures.end_s if len(times) > 1 or pictures.durations_s[0] > 0 else 0.0
        first = read_frame_at(path, float(times[0]))
        turn = first.display.orientation
        aspect = Fraction(video.sample_aspect_ratio or 1)
        width, height = display_size(first.source.width, first.source.height, aspect, turn)
        return MediaInfo(
            n_bytes=n_bytes,
            container=container.format.name,
            duration_s=duration_s,
            start_s=float(origin),
            video_codec=codec.name,
            width=width,
            height=height,
            rotation_deg=turn.rotation_deg,
            fps=mean_rate_hz(times, duration_s),
            irregular_ratio=irregular,
            is_vfr=irregular > _VFR_SHARE,
            n_video_packets=len(times),
            video_bit_rate=8 * pictures.n_bytes / duration_s if duration_s > 0 else 0.0,
            pixel_format=_pixel_format(first),
            **_sound_facts(tracks, sounds),
        )


def _refuse_still(times_s: NDArray[np.float64], path: Path) -> None:
    """Raise MediaError where sorted times [N] leave the picture still for most of the time."""
    still_s, whole_s = still_seconds(times_s), times_s[-1] - times_s[0]
    if still_s > _STILL_SHARE * whole_s:
        raise MediaError(
            "wrong_times",
            f"{path.name} puts {len(times_s)} pictures into {whole_s:.0f} s, with {still_s:.0f} s of "
            "them in which none comes: its times cannot be right; write it anew (`ffmpeg -i IN -c copy OUT`) or "
            "leave it out",
        )


def _pixel_format(frame: Frame) -> str:
    """Name how a frame was recorded; plain where pictures are shown as they were decoded."""
    words = (
        frame.source.format.name,
        "interlaced" if frame.was_interlaced else "",
        TRANSFER_NAMES.get(int(frame.source.color_trc), ""),
    )
    return " ".join(w for w in words if w)


def _sound_facts(tracks: list[Any], packets: list[_Packets]) -> dict[str, Any]:
    """Return the audio fields of `MediaInfo`."""
    full = [(s, p) for s, p in zip(tracks, packets, strict=True) if len(p.times_s)]
    if not full:
        names = ("codec", "rate_hz", "channels", "start_s", "duration_s")
        return {"has_audio": False, **{f"audio_{n}": None for n in names}}
    start_s = min(float(p.times_s.min()) for _, p in full)
    return {
        "has_audio": True,
        "audio_codec": full[0][0].codec_context.name,
        "audio_rate_hz": full[0][0].rate,
        "audio_channels": sum(s.channels for s, _ in full),
        "audio_start_s": start_s,
        "audio_duration_s": max(p.end_s for _, p in full) - start_s,
    }


def mean_rate_hz(times_s: NDArray[np.float64], duration_s: float) -> float:
    """Return the mean frame rate of sorted times [N]; from the duration alone for a single frame."""
    if len(times_s) > 1 and times_s[-1] > times_s[0]:
        return float((len(times_s) - 1) / (times_s[-1] - times_s[0]))
    return len(times_s) / duration_s if duration_s > 0 else 0.0


def still_seconds(times_s: NDArray[np.float64]) -> float:
    """Return how many seconds of sorted times [N] lie in gaps, beyond what one picture may be shown for."""
    return float(np.maximum(np.diff(times_s) - _STILL_S, 0.0).sum())


def irregular_ratio(times_s: NDArray[np.float64], tick_s: float) -> float:
    """Return the share of intervals between sorted times [N] that differ from the median; 0 below three times."""
    if len(times_s) < 3:
        return 0.0
    intervals = np.diff(times_s)
    median = float(np.median(intervals))
    return float(np.mean(np.abs(intervals - median) > max(_VFR_TOLERANCE * median, 1.5 * tick_s)))


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal, reading it in blocks."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _read_packets(container: Any, streams: list[Any], origin: Fraction, path: Path) -> list[_Packets]:
    rows: dict[int, list[tuple[int, int, int]]] = {s.index: [] for s in streams}
    ordered = {s.index: s.type == "video" and has_no_presentation_times(container, s) for s in streams}
    for n, packet in enumerate(_demux(container, streams, path)):
        if n >= _MAX_PACKETS:
            raise MediaError("too_large", f"{path.name} has more than {_MAX_PACKETS} packets; split it")
        stamp = video_stamp(packet, ordered.get(packet.stream_index, False))
        if stamp is not None and packet.size and not packet.is_discard:
            rows[packet.stream_index].append((stamp, packet.duration or 0, packet.size))
    return [_packets(rows[s.index], s, origin) for s in streams]


def _demux(container: Any, streams: list[Any], path: Path) -> Iterable[Any]:
    try:
        yield from container.demux(streams)
    except av.error.FFmpegError as error:
        raise MediaError(
            "decode_failed", f"{path.name} cannot be read to its end ({error}); copy or re-encode it"
        ) from error


def _packets(rows: list[tuple[int, int, int]], stream: Any, origin: Fraction) -> _Packets:
    """Turn ticks into seconds; exact up to float64 since ticks are first taken relative to the origin."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    base = Fraction(stream.time_base)
    times_s: NDArray[np.float64] = (table[:, 0] * float(base) - float(origin)).astype(np.float64)
    durations_s: NDArray[np.float64] = (table[:, 1] * float(base)).astype(np.float64)
    if stream.type == "video" and len(table) > 1 and not durations_s.any():
        durations_s[:] = float(np.median(np.diff(np.sort(times_s))))
    return _Packets(times_s, durations_s, int(table[:, 2].sum()))
