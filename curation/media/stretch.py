"""Cut a stretch out of a file, or put a packed clip together, as a small file that a browser plays at once.

The picture is copied where the browser knows its codec and a key frame is near; else it is decoded from the key frame
before the stretch, scaled down and encoded quickly. Sound is decoded, mixed to mono and encoded anew, laid on the same
clock to the sample. One seek and the packets of the stretch are read: the cost does not grow with the length of the
file. Copying takes some 50 ms for ten seconds, encoding about a second on one core.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import soundfile
from av.error import FFmpegError

from curation.media.audio import read_audio
from curation.media.container import open_data, open_media, origin_s, read_only, require_video, timestamp
from curation.media.errors import MediaError
from curation.media.frame import UPRIGHT
from curation.media.video import iter_frames
from schemas.files.sound import F32

Form = Literal["mp4", "webm"]
RATE = 48_000
MAX_SIDE = 960
"""Longer side of a picture that is encoded anew, in pixels."""
LEAD_S = 10.0
"""A key frame this long before the stretch is near: what lies between is copied too, and the player skips it."""

_COPIED = {"mp4": ("h264",), "webm": ("vp8", "vp9")}
_PLAYED = ("yuv420p", "yuvj420p")
_ENCODED = {
    "mp4": ("libx264", {"preset": "ultrafast", "crf": "24", "bf": "0"}, "aac"),
    "webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "crf": "18", "b": "3000000"}, "libopus"),
}
_TICK = Fraction(1, 1000)
_BLOCK = 960
"""Samples handed to an encoder at once; every encoder here takes any number."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was written: the file begins at `start_s` of the source's clock, at or before the time asked for."""

    start_s: float
    end_s: float
    copied: bool
    """the picture is the source's own, bit for bit"""


def write_stretch(
    path: Path, start_s: float, end_s: float, out: Path, form: Form, max_side: int | None = None
) -> Stretch:
    """Write the stretch [start_s, end_s) of a source into a file.

    Args:
        path: the source.
        start_s: on its clock.
        end_s: likewise.
        out: the file.
        form: its container.
        max_side: always encode anew, with this longer side in pixels; None = copy the picture where that will do.

    Raises:
        MediaError: the source cannot be read, or holds no frame there.
    """
    if not end_s > start_s:
        raise ValueError(f"a stretch must last: [{start_s}, {end_s})")
    copy = _Copy.find(path, start_s, form) if max_side is None else None
    if copy is None:
        # An odd start would be rounded by a millisecond clock: frames and sound begin on the same tick.
        begin_s = round(start_s / float(_TICK)) * float(_TICK)
        _write(out, form, _encoded(path, begin_s, end_s, max_side or MAX_SIDE), read_audio(path, begin_s, end_s, RATE))
        return Stretch(begin_s, end_s, False)
    sound = read_audio(path, copy.start_s, end_s, RATE)
    with open_media(path) as container:
        _write(out, form, copy.packets(container, path, end_s), sound)
    return Stretch(copy.start_s, end_s, True)


def write_clip(video: bytes, sound: F32 | None, out: Path, form: Form) -> None:
    """Write a packed clip's picture with one sound track, both beginning at 0.

    Raises:
        MediaError: the clip cannot be read.
    """
    if form == "mp4":
        try:
            with open_data(io.BytesIO(video)) as container:
                stream = container.streams.video[0]
                packets = (p for p in container.demux(stream) if p.pts is not None)
                _write(out, form, _Picture.copied(stream, packets), sound)
        except (FFmpegError, IndexError) as e:
            raise MediaError("decode_failed", f"a packed clip cannot be read ({e})") from e
        return
    source = out.with_suffix(".source.mp4")
    try:
        source.write_bytes(video)
        _write(out, form, _encoded(source, 0.0, float("inf")), sound)
    finally:
        source.unlink(missing_ok=True)


def write_packed(video: bytes, tracks: Sequence[bytes], out: Path, form: Form) -> None:
    """Write a packed clip's picture with its sounds (FLAC) mixed to one, both beginning at 0.

    Raises:
        MediaError: the clip, or one of its sounds, cannot be read.
    """
    write_clip(video, mixed(tracks), out, form)


def mixed(tracks: Sequence[bytes]) -> F32 | None:
    """Return the sounds of a packed clip (FLAC) as one, None of none.

    Raises:
        MediaError: one cannot be read.
    """
    if not tracks:
        return None
    try:
        heard = [soundfile.read(io.BytesIO(x), dtype="float32")[0] for x in tracks]
    except soundfile.LibsndfileError as e:
        raise MediaError("decode_failed", f"a packed clip's sound cannot be read ({e.error_string})") from e
    out: F32 = np.sum(heard, axis=0, dtype=np.float32)
    return out


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture to be written: packets of a known stream as they are, or frames to be encoded."""

    template: Any | None
    items: Iterator[Any]
    """packets, shifted to begin at 0; or (seconds, RGB picture)"""

    @classmethod
    def copied(cls, stream: Any, packets: Iterator[Any]) -> _Picture:
        return cls(stream, packets)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A key frame from which packets can be copied: its stamp in ticks, and its time on the source's clock."""

    stamp: int
    start_s: float

    @classmethod
    def find(cls, path: Path, start_s: float, form: Form) -> _Copy | None:
        """Return the key frame at or before a time, None where copying will not do."""
        with open_media(path) as container:
            stream = require_video(container, path)
            codec = stream.codec_context
            if codec.name not in _COPIED[form] or codec.pix_fmt not in _PLAYED:
                return None
            if Fraction(stream.sample_aspect_ratio or 1) != 1:
                return None
            origin, base = origin_s(container, path), Fraction(stream.time_base)
            _seek(container, stream, origin + Fraction(max(0.0, start_s)))
            read_only(container, stream)
            for packet in container.demux(stream):
                stamp = timestamp(packet)
                if packet.is_keyframe and stamp is not None:
                    at_s = float(stamp * base - origin)
                    near = start_s - LEAD_S <= at_s <= max(start_s, 0.0) + 1e-6
                    return cls(stamp, at_s) if near and _upright(path, at_s) else None
        return None

    def packets(self, container: Any, path: Path, end_s: float) -> _Picture:
        stream = require_video(container, path)
        base = Fraction(stream.time_base)
        end = int((Fraction(end_s) + origin_s(container, path)) / base)
        _seek(container, stream, self.stamp * base)
        read_only(container, stream)

        def items() -> Iterator[Any]:
            begun = False
            for packet in container.demux(stream):
                if packet.pts is None:
                    continue
                begun = begun or packet.pts == self.stamp
                if packet.dts is not None and packet.dts >= end:
                    return
                if begun and self.stamp <= packet.pts < end:  # what leads into an open group needs the one before
                    packet.pts -= self.stamp
                    packet.dts = None if packet.dts is None else packet.dts - self.stamp
                    yield packet

        return _Picture.copied(stream, items())


def _upright(path: Path, at_s: float) -> bool:
    """Say whether the picture is shown as it is coded; a player may not know how it is turned."""
    first = next(iter_frames(path, at_s, at_s + 1.0), None)
    return first is not None and first.display.orientation == UPRIGHT


def _seek(container: Any, stream: Any, time_s: Fraction) -> None:
    try:
        container.seek(int(time_s / Fraction(stream.time_base)), stream=stream, backward=True)
    except av.error.FFmpegError:  # a demuxer that cannot: it reads from where it stands, and what is found is judged
        return


def _encoded(path: Path, start_s: float, end_s: float, max_side: int = MAX_SIDE) -> _Picture:
    """Return the frames of a stretch, turned for display and scaled down."""
    frames = iter_frames(path, start_s, end_s, max_side=max_side)
    return _Picture(None, ((f.pts_s - start_s, f.rgb()) for f in frames))


def _write(out: Path, form: Form, picture: _Picture, sound: F32 | None) -> None:
    codec, options, sound_codec = _ENCODED[form]
    first = next(picture.items, None)
    if first is None:
        raise MediaError("no_frames", "no frame lies in this stretch")
    muxing = {"movflags": "faststart"} if form == "mp4" else {}
    with av.open(str(out), "w", format=form, options=muxing) as file:
        if picture.template is not None:
            stream = file.add_stream_from_template(picture.template)
        else:
            stream = file.add_stream(codec, rate=25, options=options)
            height, width = first[1].shape[:2]
            stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
            stream.codec_context.time_base = stream.time_base = _TICK
        tone = None if sound is None else file.add_stream(sound_codec, rate=RATE, layout="mono")
        heard = iter(()) if tone is None or sound is None else _sound(tone, sound)
        ahead = next(heard, None)
        for item in (x for part in ([first], picture.items) for x in part):
            for packet in _video_packets(stream, picture, item):
                while ahead is not None and _time(ahead) <= _time(packet):
                    file.mux_one(ahead)
                    ahead = next(heard, None)
                file.mux_one(packet)
        if picture.template is None:
            file.mux(stream.encode(None))
        while ahead is not None:
            file.mux_one(ahead)
            ahead = next(heard, None)


def _video_packets(stream: Any, picture: _Picture, item: Any) -> Iterator[Any]:
    if picture.template is not None:
        item.stream = stream
        yield item
        return
    at_s, rgb = item
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[: stream.height, : stream.width]), format="rgb24")
    frame.pts, frame.time_base = round(at_s / float(_TICK)), _TICK
    yield from stream.encode(frame)


def _sound(stream: Any, samples: F32) -> Iterator[Any]:
    """Yield a mono sound as packets."""
    for first in range(0, len(samples), _BLOCK):
        block = np.ascontiguousarray(np.clip(samples[None, first : first + _BLOCK], -1, 1), np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _time(packet: Any) -> float:
    return float((packet.dts if packet.dts is not None else packet.pts or 0) * packet.time_base)
