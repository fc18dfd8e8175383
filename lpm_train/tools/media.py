"""Files at the edge of a stream: any sound in as 48 kHz mono, any picture in as RGB, frames and sound out as MP4.

Decoding and resampling are FFmpeg's, through PyAV. Costs about 1 ms a second of sound and 1 ms a small frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import cv2
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from lpm_train.clip import read_image, to_unit
from lpm_train.storage import DataError
from schemas.sample import FPS
from schemas.time import PACKED_AUDIO_HZ

_BT709 = 1  # primaries, transfer and matrix of ITU-T H.273


def load_sound(path: str | Path) -> Tensor:
    """Read a sound (or a video's sound) as float32 [N] at 48 kHz, mixed to mono.

    Raises:
        DataError: there is no such file, or no sound in it.
    """
    parts = []
    try:
        with av.open(str(path)) as container:
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
    return to_unit(read_image(data, (height, width), kind))


def write_mp4(
    to: str | Path | IO[bytes], frames: Iterable[NDArray[np.uint8]], sound: NDArray[np.float32] | None = None,
    crf: float = 12, tags: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """Write uint8 RGB frames [H, W, 3] at 25 fps, with mono sound at 48 kHz where given; return how many frames.

    H.264 as the pipeline packs it: yuv420p, BT.709, limited range, no B-frames. `tags` describe the file to players.

    Raises:
        DataError: there is no frame.
    """
    n, video, voice, to_yuv = 0, None, None, VideoReformatter()
    with av.open(str(to) if isinstance(to, Path) else to, "w", format="mp4") as container:
        container.metadata.update(tags or {})
        for n, rgb in enumerate(frames, start=1):
            if video is None:
                options = {"crf": str(crf), "preset": "veryfast", "bf": "0", "threads": "1"}
                video = container.add_stream("libx264", rate=FPS, options=options)
                video.height, video.width, video.pix_fmt = rgb.shape[0], rgb.shape[1], "yuv420p"
                context = video.codec_context
                video.time_base = context.time_base = Fraction(1, FPS)
                context.color_range, context.colorspace = int(ColorRange.MPEG), _BT709
                context.color_primaries = context.color_trc = _BT709
                voice = container.add_stream("aac", rate=PACKED_AUDIO_HZ, layout="mono") if sound is not None else None
            frame = to_yuv.reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24"), format="yuv420p",
                dst_colorspace=Colorspace.ITU709, src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.AREA, threads=1,
            )  # fmt: skip
            frame.pts, frame.time_base = n - 1, Fraction(1, FPS)
            container.mux(video.encode(frame))
        if video is None:
            raise DataError("no frame was generated: nothing to write")
        container.mux(video.encode(None))
        if voice is not None and sound is not None:
            for start in range(0, len(sound), 1024):
                samples = np.ascontiguousarray(sound[None, start : start + 1024])
                part = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
                part.sample_rate, part.pts, part.time_base = PACKED_AUDIO_HZ, start, Fraction(1, PACKED_AUDIO_HZ)
                container.mux(voice.encode(part))
            container.mux(voice.encode(None))
    return n


def write_png(path: str | Path, rgb: NDArray[np.uint8]) -> None:
    """Write a picture."""
    if not cv2.imwrite(str(path), rgb[..., ::-1]):
        raise DataError(f"cannot write the picture {path}")
