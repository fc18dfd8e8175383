"""Files at the edge of a stream: any sound in as 48 kHz mono, any picture in as RGB, frames and sound out as MP4.

Decoding and resampling are FFmpeg's, through PyAV. Costs about 1 ms a second of sound and 1 ms a small frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Self

import av
import cv2
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from lpm_train.data.clip import read_image, to_unit
from lpm_train.storage import DataError
from schemas.files.containers import SELF_CONTAINED
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME
from schemas.time import PACKED_AUDIO_HZ

_BT709 = 1  # primaries, transfer and matrix of ITU-T H.273
_AAC_FRAME = 1024  # samples that FFmpeg's encoder takes at a time


def load_sound(path: str | Path) -> Tensor:
    """Read a sound (or a video's sound) as float32 [N] at 48 kHz, mixed to mono.

    Raises:
        DataError: there is no such file, or no sound in it.
    """
    parts = []
    try:
        with av.open(f"file:{Path(path).absolute()}", options=dict(SELF_CONTAINED)) as container:
            if not container.streams.audio:
                raise DataError(f"{path} has no sound: give an audio file")
            resampler = AudioResampler(format="flt", layout="mono", rate=PACKED_AUDIO_HZ)
            for frame in container.decode(audio=0):
                parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
            parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    except (FileNotFoundError, av.FFmpegError) as e:
        raise DataError(f"{path} is no sound that can be read: {e}") from e
    if not parts:
        raise DataError(f"{path} holds no sample of sound")
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def load_image(path: str | Path, height: int, width: int) -> Tensor:
    """Read a picture, scaled and cropped to cover a size: float32 [3, H, W] in [-1, 1].

    Raises:
        DataError: there is no such file, or it is no JPEG or PNG.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise DataError(f"cannot read the picture {path}: {e.strerror}") from e
    kind = "png_pipe" if data.startswith(b"\x89PNG") else "jpeg_pipe"
    try:
        return to_unit(read_image(data, (height, width), kind))
    except DataError as e:
        raise DataError(f"{path} is no picture that can be read: give a JPEG or PNG") from e


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
