"""Write clips, sound and stills: the same bytes for the same input, and times that any reader understands.

Clips have no B-frames and begin at presentation time 0, so they need no edit list and lose nothing in readers that
ignore one; the index stands before the data. One encoder thread and no dates make the bytes repeatable for one build
of the encoders, which is the ffmpeg that imageio-ffmpeg carries: a process a clip, fed by a pipe. Where this process
is killed, the pipe ends and so does ffmpeg. Costs about 5 ms a 512x512 frame on one core at the default preset: 2.5
times less than x264's own at CRF 18, for 0.1 dB of PSNR and 8 % more bytes (benchmarks/encoding.py).
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import ffmpeg
import imageio_ffmpeg
import numpy as np
import soundfile
from numpy.typing import NDArray

from curation.media.errors import MediaError

U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """What `encode_clip` wrote: frames, bytes, and the picture's size in pixels."""

    n_frames: int
    n_bytes: int
    width: int
    height: int


class ClipEncoder:
    """Writes RGB frames as H.264 in MP4 (yuv420p, BT.709, limited range, closed groups of pictures, no sound).

    The file appears under its name only when it is complete: `finish` makes it so, `abandon` leaves nothing. Several
    may be at work at once, each with an ffmpeg of its own.
    """

    def __init__(
        self, path: Path, *, fps: int = 25, crf: float = 17, preset: str = "veryfast", gop_s: float = 1.0
    ) -> None:
        """Prepare to write; ffmpeg starts with the first frame.

        Args:
            path: file to write; replaced if it exists.
            fps: constant frame rate, Hz.
            crf: x264's quality, 0 (lossless) to 51.
            preset: x264's speed preset.
            gop_s: seconds between keyframes.
        """
        self._path, self._temporary = path, path.with_name(f".{path.name}.{os.getpid()}.part")
        self._how = (fps, crf, preset, max(1, round(gop_s * fps)))
        self._shape: tuple[int, ...] = ()
        self._process: Any = None
        self._n = 0

    def add(self, rgb: U8) -> None:
        """Write a frame, uint8 [H, W, 3], of the same even size as all. Raises MediaError for another one."""
        if self._process is None:
            self._start(rgb)
        height, width, _ = self._shape
        if rgb.shape != self._shape or rgb.dtype != np.uint8:
            raise MediaError(
                "encode_failed",
                f"frame {self._n} is {rgb.dtype} {rgb.shape}, the first was {height}x{width}; "
                "give uint8 [H, W, 3] frames of one size",
            )
        # A broken pipe: ffmpeg has ended, and its exit code and words say why.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(np.ascontiguousarray(rgb).data)
        self._n += 1

    def finish(self) -> EncodedClip:
        """Complete the file. Raises MediaError where there was no frame or ffmpeg failed (its words follow)."""
        if self._process is None:
            raise MediaError("encode_failed", "no frame was given; a clip needs at least one")
        try:
            with self._process:
                self._close_pipe()
                said = self._process.stderr.read().decode(errors="replace").strip()
            if self._process.returncode:
                raise MediaError(
                    "encode_failed",
                    f"ffmpeg ended with {self._process.returncode} at frame {self._n - 1}: {said[-300:]}",
                )
            self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
        return EncodedClip(self._n, self._path.stat().st_size, self._shape[1], self._shape[0])

    def abandon(self) -> None:
        """End ffmpeg and leave no file."""
        if self._process is not None:
            self._process.kill()
            with self._process:
                self._close_pipe()
        self._temporary.unlink(missing_ok=True)

    def _start(self, first: U8) -> None:
        height, width = first.shape[:2]
        if height % 2 or width % 2 or not height or not width:
            raise MediaError("encode_failed", f"frames of {width}x{height} cannot be 4:2:0; give even sizes")
        self._shape = (height, width, 3)
        command = _command(self._temporary, width, height, *self._how)
        self._process = command.run_async(cmd=imageio_ffmpeg.get_ffmpeg_exe(), pipe_stdin=True, pipe_stderr=True)

    def _close_pipe(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def encode_clip(
    path: Path, frames_THWC: Iterable[U8], *, fps: int = 25, crf: float = 17, preset: str = "veryfast"
) -> EncodedClip:
    """Write frames, uint8 [H, W, 3] of one even size, one at a time, as `ClipEncoder` does.

    Raises:
        MediaError: `encode_failed` if there is no frame, sizes are odd or change, or ffmpeg fails (its words follow).
    """
    encoder = ClipEncoder(path, fps=fps, crf=crf, preset=preset)
    try:
        for rgb in frames_THWC:
            encoder.add(rgb)
    except BaseException:
        encoder.abandon()
        raise
    return encoder.finish()


def encode_clip_bytes(
    frames_THWC: Iterable[U8], *, fps: int = 25, crf: float = 17, preset: str = "veryfast"
) -> tuple[bytes, EncodedClip]:
    """Encode as `encode_clip` and return the file's bytes; goes through a temporary file."""
    with tempfile.TemporaryDirectory(prefix="clip-") as folder:
        path = Path(folder) / "clip.mp4"
        clip = encode_clip(path, frames_THWC, fps=fps, crf=crf, preset=preset)
        return path.read_bytes(), clip


def _command(path: Path, width: int, height: int, fps: int, crf: float, preset: str, gop: int) -> Any:
    """Return ffmpeg's command: full-range RGB on its standard input, BT.709 in limited range out."""
    bt709 = {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709"}
    return (
        ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=fps, color_range="pc")
        .filter("scale", out_color_matrix="bt709", out_range="tv", flags="area")
        .filter("format", "yuv420p")
        .filter("setparams", range="tv", **bt709)
        .output(
            str(path), format="mp4", vcodec="libx264", crf=crf, preset=preset, bf=0, threads=1, flags="+cgop+bitexact",
            fflags="+bitexact", movflags="+faststart", use_editlist=0, color_range="tv", **bt709,
            **{"x264-params": f"keyint={gop}:min-keyint=1:open-gop=0"},
        )
        .global_args("-loglevel", "error", "-filter_threads", "1")
        .overwrite_output()
    )  # fmt: skip


def encode_flac(samples: NDArray[np.float32], rate: int = 48_000) -> bytes:
    """Return mono float32 samples [N] as a 16-bit FLAC file; beyond full scale saturates.

    Raises:
        MediaError: `encode_failed` if the samples are not one finite channel, or none.
    """
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise MediaError("encode_failed", f"samples of shape {samples.shape} are not one finite channel; mix to mono")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def encode_jpeg(rgb: U8, quality: int = 92) -> bytes:
    """Return an RGB picture [H, W, 3] or luma [H, W] as JPEG."""
    bgr = rgb if rgb.ndim == 2 else cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise MediaError("encode_failed", f"a picture of shape {rgb.shape} cannot be written as JPEG")
    return bytes(data.tobytes())


def decode_jpeg(data: bytes) -> U8:
    """Return a JPEG as RGB [H, W, 3].

    Raises:
        MediaError: `decode_failed` if the bytes are no picture.
    """
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise MediaError("decode_failed", f"{len(data)} bytes are not a JPEG picture; read the member again")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def jpeg_part(data: bytes, part_xywh: Sequence[float]) -> bytes:
    """Return a part of a JPEG (x, y, width, height as shares of it) as JPEG; the same bytes where the part is empty."""
    if not part_xywh:
        return data
    rgb = decode_jpeg(data)
    height, width = rgb.shape[:2]
    x, y, w, h = part_xywh
    # Inwards, so that nothing of what was left out is seen.
    x0, y0, x1, y1 = math.ceil(x * width), math.ceil(y * height), int((x + w) * width), int((y + h) * height)
    return encode_jpeg(np.ascontiguousarray(rgb[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]))
