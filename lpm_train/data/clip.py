"""Decode a sample's members: a window of its video, its two sounds, its pictures, its record.

Frames are counted by their time stamps, never by the order they arrive in, and a window that cannot be filled is an
error: a sample that is shorter than its manifest says must not be trained on as if it were whole. Decoding dominates:
about 1 ms a 512 x 512 frame on one core, hence `precompute`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
import soundfile
import torch
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from lpm_train.batch import STATES
from lpm_train.storage import DataError
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME, Sample
from schemas.time import PACKED_AUDIO_HZ


def cover(width: int, height: int, to_width: int, to_height: int) -> tuple[int, int, int, int]:
    """Return (width, height) to scale to and (x, y) to crop from, so that the target is filled from the centre."""
    scale = max(to_width / width, to_height / height)
    w, h = max(to_width, round(width * scale)), max(to_height, round(height * scale))
    return w, h, (w - to_width) // 2, (h - to_height) // 2


def read_video(mp4: bytes, size: tuple[int, int], start: int = 0, count: int | None = None) -> Tensor:
    """Decode `count` frames from frame `start` (all, without a count), scaled to cover (height, width).

    Returns:
        uint8 [F', 3, height, width], RGB.

    Raises:
        DataError: the bytes are no video, or do not hold those frames.
    """
    frames: dict[int, NDArray[np.uint8]] = {}
    reformatter = VideoReformatter()
    try:
        with av.open(io.BytesIO(mp4), format="mp4") as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # clips are decoded side by side
            if start:
                container.seek(int(start / FPS / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                index = round(frame.pts * frame.time_base * FPS)
                if index >= start and index not in frames:
                    frames[index] = _rgb(frame, size, reformatter)
                if count is not None and index >= start + count - 1:
                    break
    except (av.FFmpegError, IndexError) as e:
        raise DataError(f"the video does not decode: {e}; find damaged samples with `lpm train doctor`") from e
    total = count if count is not None else (max(frames, default=-1) + 1 - start)
    missing = [i for i in range(start, start + total) if i not in frames]
    if missing or not total:
        raise DataError(
            f"{len(missing)} of the frames [{start}, {start + total}) are missing from the video, the first of them "
            f"{missing[:1]}: it is shorter than its record says; find such samples with `lpm train doctor`"
        )
    return torch.from_numpy(np.stack([frames[i] for i in range(start, start + total)])).permute(0, 3, 1, 2)


def _rgb(frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> NDArray[np.uint8]:
    w, h, x, y = cover(frame.width, frame.height, size[1], size[0])
    matrix = Colorspace.ITU709 if int(frame.colorspace) == 1 else Colorspace.DEFAULT
    method = Interpolation.AREA if w < frame.width else Interpolation.BICUBIC
    scaled = reformatter.reformat(
        frame, w, h, "rgb24", src_colorspace=matrix, dst_colorspace=matrix, interpolation=method, threads=1
    )
    return np.ascontiguousarray(scaled.to_ndarray()[y : y + size[0], x : x + size[1]])


def read_image(data: bytes, size: tuple[int, int], kind: str = "jpeg_pipe") -> Tensor:
    """Decode a picture, scaled to cover (height, width); uint8 [3, height, width], RGB.

    Raises:
        DataError: the bytes are no picture.
    """
    try:
        with av.open(io.BytesIO(data), format=kind) as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, StopIteration) as e:
        raise DataError(f"a reference picture does not decode: {e}; find it with `lpm train doctor`") from e
    return torch.from_numpy(_rgb(frame, size, VideoReformatter())).permute(2, 0, 1)


def read_sound(flac: bytes, n_frames: int) -> Tensor:
    """Decode a sound member of a clip of `n_frames`; float32 [n_frames * 1920] at 48 kHz.

    Raises:
        DataError: the bytes are no mono sound at 48 kHz of exactly that length.
    """
    try:
        wave, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
    except soundfile.LibsndfileError as e:
        raise DataError(f"a sound does not decode: {e}; find it with `lpm train doctor`") from e
    want = n_frames * SAMPLES_PER_FRAME
    if wave.ndim != 1 or rate != PACKED_AUDIO_HZ or len(wave) != want:
        raise DataError(
            f"a sound has {wave.shape} samples at {rate} Hz where {n_frames} frames need [{want}] at "
            f"{PACKED_AUDIO_HZ}: sound and picture would drift apart; pack this clip again"
        )
    return torch.from_numpy(wave)


def read_record(json: bytes, sample_id: str) -> Sample:
    """Parse the record of a sample, and see that it is this sample's.

    Raises:
        DataError: it is not.
    """
    try:
        record = Sample.model_validate_json(json)
    except ValueError as e:
        raise DataError(f"the record of {sample_id} is not valid: {e}") from e
    if record.sample_id != sample_id:
        raise DataError(
            f"the bytes of {sample_id} hold {record.sample_id}: the shard changed under its manifest; pack again"
        )
    return record


def frame_states(record: Sample) -> NDArray[np.int8]:
    """Return the state of each video frame, [n_frames]; where no clear state was measured, that of the sample."""
    out = np.full(record.video.n_frames, STATES.index(record.state), np.int8)
    centre_s = (np.arange(len(out)) + 0.5) / FPS
    for run in record.states:
        if run.state in STATES:
            out[(centre_s >= run.start_s) & (centre_s < run.end_s)] = STATES.index(run.state)
    return out


def latent_states(states: NDArray[np.int8], spans: Sequence[tuple[int, int]]) -> Tensor:
    """Return each latent's state: the one of most of its frames (of the lower value when even); int8 [F]."""
    return torch.tensor([np.bincount(states[a:b], minlength=4).argmax() for a, b in spans], dtype=torch.int8)


def to_unit(pixels: Tensor) -> Tensor:
    """Bring uint8 pixels to float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


def to_pixels(pictures_FCHW: Tensor) -> NDArray[np.uint8]:
    """Bring pictures in [-1, 1] to uint8 RGB [F, H, W, 3]; what lies beyond is cut off."""
    x = ((pictures_FCHW.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.asarray(x.permute(0, 2, 3, 1).cpu().numpy())
