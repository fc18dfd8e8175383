"""Active speaker: talkers above zero, listeners below, on faces found in real footage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import medfilt
from speech_media import load_audio, need

from annotators.face.boxes import crop_box, cut_square
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import FaceLandmarker
from annotators.face.mesh import mouth_opening
from annotators.lips import lr_asd_scores as module
from annotators.lips.active_speaker import (
    CROP_PX,
    LR_ASD_WEIGHT,
    LR_ASD_WEIGHTS,
    EnvelopeActiveSpeaker,
    LrAsdActiveSpeaker,
    asd_crop_box,
    audio_of_frames,
)
from annotators.lips.lr_asd import LrAsd
from annotators.lips.lr_asd_folded import FoldedVisualEncoder
from annotators.models import weights
from annotators.protocols import Box
from annotators.protocols_speech import ActiveSpeaker, ByteArray, FloatArray
from stages.speech.active_speaker import ActiveSpeakerSettings


@dataclass(frozen=True)
class Face:
    """One face over time, as the annotators want it."""

    crops: ByteArray
    audio: FloatArray
    opening: FloatArray


@cache
def face(path: Path, first: int, frames: int, half: str = "full") -> Face:
    """Detect the face in each frame (of one half of the picture) and cut its crops and its sound."""
    need(*FaceDetector.weights, *FaceLandmarker.weights)
    pictures, boxes, opening = [], [], []
    with FaceDetector() as detector, FaceLandmarker() as landmarker, av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= first + frames:
                break
            if index < first:
                continue
            rgb = frame.to_ndarray(format="rgb24")
            if half != "full":
                middle = rgb.shape[1] // 2
                rgb = rgb[:, :middle] if half == "left" else rgb[:, middle:]
            shrink = 1 + max(rgb.shape) // 1100
            rgb = np.ascontiguousarray(rgb[::shrink, ::shrink])
            found = detector.detect(rgb)[0]
            mesh = landmarker.landmarks(cut_square(rgb, crop_box(found), 256))
            pictures.append(rgb)
            boxes.append((found.x, found.y, found.w, found.h))
            opening.append(mouth_opening(mesh.points) if mesh else np.nan)
    padded = np.pad(np.array(boxes), ((6, 6), (0, 0)), "edge")
    smooth = np.stack([medfilt(column, 13)[6:-6] for column in padded.T], axis=1)
    grey = [
        cv2.cvtColor(cut_square(rgb, asd_crop_box(Box(*box)), CROP_PX), cv2.COLOR_RGB2GRAY)
        for rgb, box in zip(pictures, smooth, strict=True)
    ]
    audio = audio_of_frames(load_audio(path), first, len(grey))
    return Face(np.stack(grey), audio, np.array(opening, np.float32))


@pytest.fixture(scope="module")
def lr_asd() -> LrAsdActiveSpeaker:
    need(LR_ASD_WEIGHT)
    return LrAsdActiveSpeaker()


TALKERS = [("talk_woman_garden.mp4", 0, "full"), ("talk_woman_studio.mp4", 0, "full"), ("split_screen.mp4", 0, "left")]
LISTENERS = [("interview_cuts.mp4", 110, "full"), ("offscreen_voice.mp4", 0, "full"), ("split_screen.mp4", 0, "right")]


@pytest.mark.slow
@pytest.mark.parametrize("name, first, half", TALKERS)
def test_talkers_score_above_zero(lr_asd: LrAsdActiveSpeaker, media: Path, name: str, first: int, half: str) -> None:
    seen = face(media / name, first, 60, half)
    scores = lr_asd.scores(seen.crops, seen.audio)
    assert scores.shape == (60,)
    assert np.mean(scores > 0) > 0.9  # before the first sound one of the two networks does not believe the lips
    assert scores.mean() > 1
    assert np.mean(EnvelopeActiveSpeaker().scores(seen.crops, seen.audio, seen.opening) > 0) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name, first, half", LISTENERS)
def test_listeners_score_below_zero(lr_asd: LrAsdActiveSpeaker, media: Path, name: str, first: int, half: str) -> None:
    seen = face(media / name, first, 60, half)
    scores = lr_asd.scores(seen.crops, seen.audio)
    assert scores.mean() < -0.5
    assert np.mean(scores > 0) < 0.05
    assert np.mean(EnvelopeActiveSpeaker().scores(seen.crops, seen.audio, seen.opening) > 0) < 0.05


@pytest.mark.slow
def test_chunks_change_nothing(lr_asd: LrAsdActiveSpeaker, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = face(media / "talk_woman_garden.mp4", 0, 60)
    whole = lr_asd.scores(seen.crops, seen.audio)
    monkeypatch.setattr(module, "PIECE_FRAMES", 17)
    monkeypatch.setattr(module, "_SOUND_FRAMES", 17)
    np.testing.assert_allclose(lr_asd.scores(seen.crops, seen.audio), whole, atol=1e-3)
    monkeypatch.setattr(module, "_WINDOW_BATCH", 1)
    np.testing.assert_allclose(lr_asd.scores(seen.crops, seen.audio), whole, atol=1e-3)


def test_the_folded_encoder_equals_the_network_as_written() -> None:
    torch.manual_seed(0)
    encoder = LrAsd().model.visualEncoder.eval()
    for block in (encoder.block1, encoder.block2, encoder.block3):
        for _, norm in block.pairs():
            norm.running_mean = torch.rand_like(norm.running_mean) - 0.5
            norm.running_var = torch.rand_like(norm.running_var) + 0.5
    crops = torch.randint(0, 256, (2, 6, CROP_PX, CROP_PX), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(FoldedVisualEncoder(encoder)(crops), encoder(crops.float()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frames, piece", [(1, 1), (3, 1), (6, 4), (25, 1), (25, 7), (25, 24)])
def test_a_face_in_pieces_is_encoded_as_a_whole_one(frames: int, piece: int) -> None:
    """Each output once, in order, with zeros beyond the face's two ends alone."""
    torch.manual_seed(1)
    encoder = FoldedVisualEncoder(LrAsd().model.visualEncoder.eval())
    crops = torch.randint(0, 256, (1, frames, CROP_PX, CROP_PX), dtype=torch.uint8)
    with torch.inference_mode():
        whole = encoder(crops)
        parts = torch.cat(list(encoder.pieces(crops.split(piece, dim=1))), dim=1)
    assert parts.shape == (1, frames, 128)
    torch.testing.assert_close(parts, whole, atol=1e-6 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize("frames", [1, 3, 30])
def test_short_tracks_have_a_score_for_each_frame(lr_asd: LrAsdActiveSpeaker, frames: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (frames, CROP_PX, CROP_PX), np.uint8)
    for annotator in (lr_asd, EnvelopeActiveSpeaker()):
        assert isinstance(annotator, ActiveSpeaker)
        scores = annotator.scores(crops, np.zeros(frames * 640, np.float32))
        assert scores.shape == (frames,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert annotator.scores(crops[:0], np.zeros(0, np.float32)).shape == (0,)


def test_moving_lips_in_silence_are_not_speech_to_the_heuristic() -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (100, CROP_PX, CROP_PX), np.uint8)
    opening = (0.1 + 0.1 * np.sin(np.arange(100) * 0.8)).astype(np.float32)
    voice = rng.normal(0, 1, 64_000) * np.repeat(0.001 + 0.05 * (rng.random(100) > 0.5), 640)
    heuristic = EnvelopeActiveSpeaker()
    assert (heuristic.scores(crops, voice.astype(np.float32), opening) > 0).mean() > 0.95
    assert (heuristic.scores(crops, np.zeros(64_000, np.float32), opening) < 0).all()
    assert (heuristic.scores(crops, voice.astype(np.float32), np.full(100, 0.05, np.float32)) < 0).all()


def test_the_fallback_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Path:
        raise weights.WeightsNotFound(name)

    monkeypatch.setattr(weights, "find", lambda name: None)
    monkeypatch.setattr(weights, "resolve", nowhere)
    assert ActiveSpeakerSettings().backend.build().name == "lip-motion-envelope-heuristic"
    assert ActiveSpeakerSettings(backend="heuristic").backend.build().weights == ()
    with pytest.raises(weights.WeightsNotFound):
        ActiveSpeakerSettings(backend="lr-asd").backend.build()


def test_the_model_is_chosen_where_its_weights_are() -> None:
    for name in LR_ASD_WEIGHTS:
        need(name)
    chosen = ActiveSpeakerSettings().backend.build()
    assert (chosen.name, chosen.weights) == ("lr-asd(talkset+ava)", LR_ASD_WEIGHTS)


def test_several_networks_are_averaged() -> None:
    for name in LR_ASD_WEIGHTS:
        need(name)
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 255, (60, 112, 112)).astype(np.uint8)
    audio = rng.normal(0, 0.1, 60 * 640).astype(np.float32)
    alone = [LrAsdActiveSpeaker((name,)).scores(crops, audio) for name in LR_ASD_WEIGHTS]
    np.testing.assert_allclose(LrAsdActiveSpeaker().scores(crops, audio), np.mean(alone, axis=0), atol=1e-5)
    with pytest.raises(ValueError, match="at least one"):
        LrAsdActiveSpeaker(())


def test_wrong_shapes_are_refused() -> None:
    heuristic = EnvelopeActiveSpeaker()
    with pytest.raises(ValueError, match="uint8"):
        heuristic.scores(np.zeros((5, 96, 96), np.uint8), np.zeros(3200, np.float32))
    with pytest.raises(ValueError, match="audio_of_frames"):
        heuristic.scores(np.zeros((5, CROP_PX, CROP_PX), np.uint8), np.zeros(100, np.float32))


@given(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(1, 900), st.floats(1, 900))
def test_the_crop_is_a_square_below_the_middle_of_the_face(x: float, y: float, w: float, h: float) -> None:
    crop = asd_crop_box(Box(x, y, w, h))
    side = max(w, h)
    assert crop.w == crop.h == pytest.approx(0.75 * side)
    assert crop.x + crop.w / 2 == pytest.approx(x + w / 2, abs=1e-6)
    assert crop.y + crop.h / 2 == pytest.approx(y + h / 2 + 0.22 * side, abs=1e-6)


def test_an_empty_face_has_no_crop() -> None:
    with pytest.raises(ValueError, match="empty"):
        asd_crop_box(Box(1, 2, 0, 0))


@given(st.integers(-10, 30), st.integers(0, 30))
def test_audio_of_frames_is_aligned_and_padded(first: int, frames: int) -> None:
    audio = np.arange(1, 10 * 640 + 1, dtype=np.float32)
    piece = audio_of_frames(audio, first, frames)
    index = np.arange(first * 640, (first + frames) * 640)
    expected = np.where((index >= 0) & (index < len(audio)), index + 1, 0)
    assert np.array_equal(piece, expected)
