"""Files at the edge of a stream: any sound in as 48 kHz mono, any picture in as RGB, frames and sound out as MP4.

Sound is read as the pipeline reads it for training (`curation.media.audio`, which the trainer does not import): on the
picture's clock, mixed by weights that sum to 1, zeros where there is none. Pictures are turned as their Exif says.
Decoding and resampling are FFmpeg's, through PyAV. Costs about 1 ms a second of sound and 1 ms a small frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Self

import av
import cv2
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from lpm_train.data.clip import read_image, to_unit
from lpm_train.storage import DataError
from schemas.files.containers import SELF_CONTAINED
from schemas.files.sound import F32, LOUDEST, mono_weights, planes, settle_layouts, to_float
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME
from schemas.time import PACKED_AUDIO_HZ

_BT709 = 1  # primaries, transfer and matrix of ITU-T H.273
_AAC_FRAME = 1024  # samples that FFmpeg's encoder takes at a time


_JITTER_S, _COARSE_JITTER_S = 0.0015, 0.010
"""Time stamps this close to a gapless sequence are rounding; the second where a tick is no whole part of a sample."""

_LONGEST_GAP_S = 86_400
"""A time stamp further on than that is wrong, and would ask for more zeros than there is memory."""


def load_sound(path: str | Path) -> Tensor:
    """Read a sound (or a video's sound) as float32 [N] at 48 kHz, mixed to mono, as the pipeline reads recordings.

    Sample 0 stands at a video's first frame, and at a sound's own beginning. Where there is no sound, and where it is
    damaged, there are zeros.

    Raises:
        DataError: there is no such file, or no sound in it.
    """
    name = f"file:{Path(path).absolute()}"
    try:
        with av.open(name, options=dict(SELF_CONTAINED), metadata_errors="replace") as container:
            settle_layouts(container)
            best, known = container.streams.best("audio"), [s for s in container.streams.audio if s.codec_context]
            if not known:
                raise DataError(f"{path} has no sound: give an audio file")
            rate, wave = _laid(container, best if best in known else known[0], path)
    except (FileNotFoundError, av.FFmpegError) as e:
        raise DataError(f"{path} is no sound that can be read: {e}") from e
    if not len(wave):
        raise DataError(f"{path} holds no sample of sound")
    return torch.from_numpy(_at_48k(wave, rate))


def _laid(container: Any, stream: Any, path: str | Path) -> tuple[int, F32]:
    """Return (rate, samples from zero on): each decoded frame where its time stamp says, of two the later one."""
    base, zero, rate, end = Fraction(stream.time_base), _first_picture_s(container), 0, 0
    parts: list[tuple[int, F32]] = []
    for frame in _decoded(container, stream):
        rate = rate or frame.sample_rate
        if frame.sample_rate != rate:
            continue
        at, stamp = end, frame.pts if frame.pts is not None else frame.dts
        if stamp is not None:
            zero = stamp * base - Fraction(end, rate) if zero is None else zero
            at = round((stamp * base - zero) * rate)
            if parts and abs(at - end) <= _tolerance(base, rate, frame.samples):
                at = end
        if at - end > _LONGEST_GAP_S * rate:
            raise DataError(f"{path} has times of sound that cannot be right: convert it to WAV")
        end = at + frame.samples
        parts.append((at, _mono(frame)))
    wave = np.zeros(max((at + len(part) for at, part in parts), default=0) if end > 0 else 0, np.float32)
    for at, part in parts:
        if at + len(part) > 0:
            wave[max(0, at) : at + len(part)] = part[max(0, -at) :]
    return rate, wave


def _first_picture_s(container: Any) -> Fraction | None:
    """Return the time of the first picture, in seconds; None where there is no video (cover art is none)."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.start_time is not None:
            return Fraction(stream.start_time) * Fraction(stream.time_base)
    return None


def _tolerance(base: Fraction, rate: int, samples: int) -> int:
    """Return by how many samples a frame may lie off a gapless sequence; a lost frame is more."""
    least = round(_JITTER_S * rate)
    if (1 / (base * rate)).denominator == 1:
        return least
    return max(least, min(round(_COARSE_JITTER_S * rate), (samples - 1) // 2))


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield what decodes: a damaged packet costs itself, and a container that cannot be read on ends the sound."""
    packets = container.demux(stream)
    while True:
        packet = None
        try:
            packet = next(packets, None)
            if packet is None:
                return
            yield from packet.decode()
        except av.FFmpegError:
            if packet is None:
                return


def _mono(frame: Any) -> F32:
    """Return a decoded frame as float32 [N], full scale +-1, mixed by weights that sum to 1; damaged, zeros."""
    names = [channel.name for channel in frame.layout.channels]
    raw = planes(frame, len(names)) if frame.format.is_planar else frame.to_ndarray().reshape(-1, len(names)).T
    samples = to_float(raw)
    if not np.abs(samples).max(initial=0.0) <= LOUDEST:  # also where one is no number
        return np.zeros(samples.shape[1], np.float32)
    return np.asarray(mono_weights(names) @ samples, np.float32)


def _at_48k(wave: F32, rate: int) -> F32:
    """Bring a sound to 48 kHz, a second at a time."""
    if rate == PACKED_AUDIO_HZ:
        return wave
    resampler, parts = AudioResampler(format="flt", layout="mono", rate=PACKED_AUDIO_HZ), []
    for start in range(0, len(wave), rate):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None, start : start + rate]), "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
    parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    return np.concatenate(parts).astype(np.float32)


def load_image(path: str | Path, height: int, width: int) -> Tensor:
    """Read a picture as it is to be shown, scaled and cropped to cover a size: float32 [3, H, W] in [-1, 1].

    Raises:
        DataError: there is no such file, or it is no JPEG or PNG.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise DataError(f"cannot read the picture {path}: {e.strerror}") from e
    kind = "png_pipe" if data.startswith(b"\x89PNG") else "jpeg_pipe"
    transpose, flipped = _TURNS.get(_orientation(data), (False, ()))
    try:
        picture = read_image(data, (width, height) if transpose else (height, width), kind)
    except DataError as e:
        raise DataError(f"{path} is no picture that can be read: give a JPEG or PNG") from e
    return to_unit((picture.mT if transpose else picture).flip(flipped).contiguous())


_TURNS: dict[int, tuple[bool, tuple[int, ...]]] = {
    2: (False, (2,)), 3: (False, (1, 2)), 4: (False, (1,)),
    5: (True, ()), 6: (True, (2,)), 7: (True, (1, 2)), 8: (True, (1,)),
}  # fmt: skip
"""Exif's orientations but upright: whether rows become columns, and which dimensions are turned over after that."""


def _orientation(data: bytes) -> int:
    """Return the Exif orientation of a JPEG or PNG, 1 (upright) where none is told.

    Read here: PyAV tells of the turn but not of the mirror, and fails to list side data among which there is Exif.
    """
    try:
        tiff = _exif(data)
        order = "<" if tiff.startswith(b"II") else ">"
        (begin,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, begin)
        for n in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, begin + 2 + 12 * n)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:  # it ends too early
        pass
    return 1


_ORIENTATION, _APP1, _SCAN = 0x0112, 0xE1, 0xDA


def _exif(data: bytes) -> bytes:
    """Return a picture's Exif, a small TIFF, empty where there is none. Raises struct.error where the file ends."""
    if data.startswith(b"\x89PNG"):
        at, kind = 8, b""
        while kind != b"IEND":
            length, kind = struct.unpack_from(">I4s", data, at)
            if kind == b"eXIf":
                return data[at + 8 : at + 8 + length]
            at += 12 + length
        return b""
    at, marker = 2, 0
    while marker != _SCAN:
        lead, marker, length = struct.unpack_from(">BBH", data, at)
        if lead != 0xFF:
            return b""
        if marker == _APP1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return data[at + 10 : at + 2 + length]
        at += 1 if marker == 0xFF else 2 + length  # a marker may be led by several bytes 0xFF
    return b""


_SMALL = 128
"""Pictures of fewer pixels a side are coded without x264's macroblock tree, which reads what memory happens to hold
beyond theirs: of equal pictures of 32 or 48 pixels it gave other bytes up to one time in ten, of 64 and more none."""


class Mp4Writer:
    """An MP4 that is written as frames and sound come: uint8 RGB [H, W, 3] at 25 fps, mono at 48 kHz.

    H.264 as the pipeline packs it: yuv420p, BT.709, limited range, no B-frames. Memory is that of a second of both, and
    the file's index (some 40 bytes a frame). What is left by an error is no whole file.
    """

    def __init__(
        self, to: str | Path | IO[bytes], crf: float = 12, tags: Mapping[str, str] | None = None, sound: bool = False
    ) -> None:
        """Open a file; `tags` describe it to players, `sound` says whether there will be any."""
        self.frames, self._crf, self._with_sound, self._to_yuv = 0, crf, sound, VideoReformatter()
        self._container = av.open(str(to) if isinstance(to, Path) else to, "w", format="mp4")
        self._container.metadata.update(tags or {})
        self._video: Any = None
        self._voice: Any = None
        self._waiting, self._heard = np.zeros(0, np.float32), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._container.close()

    def add(self, rgb: NDArray[np.uint8], sound: NDArray[np.float32] | None = None) -> None:
        """Write the next frame, and the next sound [N], as much as there is."""
        if self._video is None:
            self._begin(*rgb.shape[:2])
        frame = self._to_yuv.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24"), format="yuv420p",
            dst_colorspace=Colorspace.ITU709, src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.AREA, threads=1,
        )  # fmt: skip
        frame.pts, frame.time_base = self.frames, Fraction(1, FPS)
        self._container.mux(self._video.encode(frame))
        self.frames += 1
        if sound is not None:
            self.hear(sound)

    def hear(self, sound: NDArray[np.float32], last: bool = False) -> None:
        """Write sound [N] after a frame; `last`: no more follows."""
        waiting = np.concatenate([self._waiting, sound])
        whole = len(waiting) if last else len(waiting) // _AAC_FRAME * _AAC_FRAME
        for start in range(0, whole, _AAC_FRAME):
            samples = np.ascontiguousarray(waiting[None, start : min(whole, start + _AAC_FRAME)])
            part = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            part.sample_rate, part.pts, part.time_base = PACKED_AUDIO_HZ, self._heard, Fraction(1, PACKED_AUDIO_HZ)
            self._container.mux(self._voice.encode(part))
            self._heard += samples.shape[1]
        self._waiting = waiting[whole:]

    def _begin(self, height: int, width: int) -> None:
        options = {"crf": str(self._crf), "preset": "veryfast", "bf": "0", "threads": "1"}
        if min(height, width) < _SMALL:
            options["x264-params"] = "mbtree=0"
        self._video = video = self._container.add_stream("libx264", rate=FPS, options=options)
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        context = video.codec_context
        video.time_base = context.time_base = Fraction(1, FPS)
        context.color_range, context.colorspace = int(ColorRange.MPEG), _BT709
        context.color_primaries = context.color_trc = _BT709
        if self._with_sound:
            self._voice = self._container.add_stream("aac", rate=PACKED_AUDIO_HZ, layout="mono")

    def _finish(self) -> None:
        if self._video is None:
            raise DataError("no frame was generated: nothing to write")
        self._container.mux(self._video.encode(None))
        if self._voice is not None:
            self.hear(np.zeros(0, np.float32), last=True)
            self._container.mux(self._voice.encode(None))


def write_mp4(
    to: str | Path | IO[bytes], frames: Iterable[NDArray[np.uint8]], sound: NDArray[np.float32] | None = None,
    crf: float = 12, tags: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """Write frames [H, W, 3] with the sound [N] where given, as `Mp4Writer` does; return how many frames.

    Raises:
        DataError: there is no frame.
    """
    with Mp4Writer(to, crf, tags, sound is not None) as out:
        for n, rgb in enumerate(frames):
            out.add(rgb, None if sound is None else sound[n * SAMPLES_PER_FRAME : (n + 1) * SAMPLES_PER_FRAME])
        if sound is not None and out.frames:
            out.hear(sound[out.frames * SAMPLES_PER_FRAME :])
    return out.frames


def write_png(path: str | Path, rgb: NDArray[np.uint8]) -> None:
    """Write a picture."""
    if not cv2.imwrite(str(path), rgb[..., ::-1]):
        raise DataError(f"cannot write the picture {path}")
