"""Decoding of members: the frames asked for, by time stamp; sizes, colours, states; hostile bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_data_case import dataset

from curation.media.encode import encode_clip_bytes, encode_flac
from lpm_train.data.clip import (
    cover,
    frame_states,
    latent_states,
    read_image,
    read_record,
    read_sound,
    read_video,
    to_unit,
)
from lpm_train.data.shards import Shards
from lpm_train.storage import DataError
from schemas.samples.sample import Sample


@pytest.fixture(scope="module")
def video() -> bytes:
    """70 frames of 64 x 48; frame i is of grey 3 i, red on its left half; a keyframe every second."""
    frames = np.repeat((np.arange(70, dtype=np.uint8) * 3)[:, None, None, None], 48, 1).repeat(64, 2).repeat(3, 3)
    frames[:, :, :32] = (200, 20, 20)
    return encode_clip_bytes(frames, crf=8)[0]


def grey(frames: torch.Tensor) -> list[int]:
    """Return the number of each frame, read off its right edge."""
    return (frames[:, :, :, -8:].float().mean((1, 2, 3)) / 3).round().int().tolist()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 69), st.data())
def test_a_window_holds_the_frames_it_names(video: bytes, start: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 70 - start))
    frames = read_video(video, (48, 64), start, count)
    assert frames.shape == (count, 3, 48, 64) and frames.dtype == torch.uint8
    assert grey(frames) == list(range(start, start + count))


def test_whole_scaled_and_too_short(video: bytes) -> None:
    whole = read_video(video, (48, 64))
    assert grey(whole) == list(range(70))
    square = read_video(video, (24, 24), 5, 2)
    assert square.shape == (2, 3, 24, 24)
    left = square[0, :, :, 2].float().mean(1)
    assert left[0] > 180 and left[1] < 45 and left[2] < 45, "red stays red: matrix and range are right"
    with pytest.raises(DataError, match=r"frames \[60, 80\) are missing .* \[70\]"):
        read_video(video, (48, 64), 60, 20)
    with pytest.raises(DataError, match=r"missing|decode"):
        read_video(video[: len(video) // 2], (48, 64))
    with pytest.raises(DataError, match="does not decode"):
        read_video(b"no video", (48, 64))
    unit = to_unit(torch.tensor([0, 255], dtype=torch.uint8))
    assert unit.tolist() == [-1.0, 1.0]


@given(*[st.integers(1, 2000)] * 4)
def test_cover_fills_the_target_from_the_centre(width: int, height: int, to_width: int, to_height: int) -> None:
    w, h, x, y = cover(width, height, to_width, to_height)
    assert x >= 0 and y >= 0 and x + to_width <= w and y + to_height <= h
    assert abs(2 * x + to_width - w) <= 1 and abs(2 * y + to_height - h) <= 1
    assert w == to_width or h == to_height


def test_sound_of_exactly_the_frames_length() -> None:
    wave = np.sin(np.arange(3 * 1920, dtype=np.float32) / 20) * 0.5
    np.testing.assert_allclose(read_sound(encode_flac(wave), 3).numpy(), wave, atol=1e-4)
    for data, frames in [(encode_flac(wave), 4), (encode_flac(wave, 16_000), 3), (encode_flac(wave[:-1]), 3)]:
        with pytest.raises(DataError, match="drift apart"):
            read_sound(data, frames)
    for read in (lambda: read_sound(b"junk", 1), lambda: read_image(b"junk", (8, 8))):
        with pytest.raises(DataError, match="does not decode"):
            read()


def test_states_by_frame_and_latent() -> None:
    shards = Shards(dataset())
    row = next(iter(shards))
    record = read_record(shards.read(row, ["json"])["json"], row.segment_id)
    runs = [("speak", 0.0, 0.2), ("discard", 0.2, 0.4), ("listen", 0.4, 0.6), ("both", 0.6, 2.0)]
    changed = record.model_dump() | {
        "state": "idle",
        "states": [{"state": s, "start_s": a, "end_s": b, "confidence": 1.0, "reason": "test"} for s, a, b in runs],
    }
    states = frame_states(Sample.model_validate(changed))
    assert states.tolist() == [1] * 5 + [0] * 5 + [2] * 5 + [3] * (row.n_frames - 15)
    assert latent_states(states, [(0, 4), (4, 8), (8, 12), (12, 16)]).tolist() == [1, 0, 0, 2]
    with pytest.raises(DataError, match="changed under its manifest"):
        read_record(record.model_dump_json().encode(), "another")
    with pytest.raises(DataError, match="not valid"):
        read_record(b"{}", "another")
