"""Learned lip sync: exact on made-up people, blind to loudness, right about real footage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_media import need

from annotators.face.boxes import crop_box, cut_square
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import FaceLandmarker
from annotators.lips import lip_sync_model as model
from annotators.lips.lip_shape import LIP_NUMBERS, lip_shape
from annotators.lips.lip_sync_model import LearnedLipSync, SyncTowers
from annotators.lips.lip_sync_training import TalkerClip, evaluate, held_out_towers, train
from annotators.lips.sync_audio import WHISPER_WEIGHT, MelSyncAudio, WhisperSyncAudio, levelled
from annotators.protocols_speech import FloatArray, LipSync, SyncMeasure
from curation.media.audio import read_audio
from stages.speech.active_speaker import ActiveSpeakerSettings

FRAMES = 300
SOUNDS = 20


class CarriedFeatures:
    """Sound that carries its features as samples: lets a test say what is heard."""

    name = "mel"
    weights: tuple[str, ...] = ()

    def __call__(self, audio: FloatArray) -> FloatArray:
        return audio.reshape(-1, 640)[:, :SOUNDS]


def person(seed: int, frames: int = FRAMES) -> tuple[FloatArray, FloatArray]:
    """Return lips [T, 80] and audio [T * 640] of somebody whose lips follow four hidden articulations."""
    shared, own = np.random.default_rng(99), np.random.default_rng(seed)
    to_lips, to_sound = shared.normal(size=(4, LIP_NUMBERS)), shared.normal(size=(4, SOUNDS))
    smooth = np.array([0.25, 0.5, 0.25])
    hidden = np.stack([np.convolve(own.normal(size=frames), smooth, "same") for _ in range(4)], axis=1)
    lips = hidden @ to_lips + own.normal(size=LIP_NUMBERS) + 0.5 * own.normal(size=(frames, LIP_NUMBERS))
    audio = np.zeros((frames, 640), np.float32)
    audio[:, :SOUNDS] = hidden @ to_sound + 0.5 * own.normal(size=(frames, SOUNDS))
    return lips.astype(np.float32), audio.ravel()


@cache
def fitted() -> LearnedLipSync:
    clips = []
    for seed in range(6):
        lips, audio = person(seed, 500)
        clips.append(TalkerClip(f"c{seed}", f"p{seed}", lips, CarriedFeatures()(audio)))
    towers, held_out = train(clips, "mel")
    assert held_out[0].auc > 0.99 and held_out[0].hits == 1.0
    return LearnedLipSync(towers, CarriedFeatures())


def measured(lips: FloatArray, audio: FloatArray) -> SyncMeasure:
    return fitted().measure(audio, lips[:, 0], lips=lips)


@settings(max_examples=12, deadline=None)
@given(st.integers(-12, 12), st.integers(20, 23))
def test_the_offset_moves_with_the_sound(shift: int, seed: int) -> None:
    lips, audio = person(seed, FRAMES + 30)
    late = audio.reshape(-1, 640)[15 - shift : 15 - shift + FRAMES].ravel()
    found = measured(lips[15 : 15 + FRAMES], late)
    assert found.offset_ms == pytest.approx(40 * shift, abs=10)
    assert found.own_voice > 0.9


@settings(max_examples=8, deadline=None)
@given(st.integers(30, 40), st.floats(0.01, 50), st.floats(0.1, 10))
def test_loudness_and_size_of_the_mouth_do_not_matter(seed: int, gain: float, size: float) -> None:
    lips, audio = person(seed)
    plain, scaled = measured(lips, audio), measured((lips * size).astype(np.float32), (audio * gain).astype(np.float32))
    np.testing.assert_allclose(plain.curve, scaled.curve, atol=1e-3)


def test_somebody_elses_voice_is_told() -> None:
    lips, _ = person(50)
    for other in range(51, 57):
        assert measured(lips, person(other)[1]).own_voice < 0.1


def test_evidence_sums_over_frames_and_changes_sign_with_the_voice() -> None:
    lips, own = person(60)
    half = FRAMES // 2
    mixed = np.concatenate([own[: half * 640], person(61)[1][half * 640 :]])
    trace = fitted().trace(mixed, lips)
    at_zero = trace.log_odds[:, model.lag_index(0)]
    assert at_zero[: half - 5].sum() > 5 and at_zero[half + 5 :].sum() < -5


def test_unseen_frames_and_silence_are_no_evidence() -> None:
    lips, audio = person(70)
    lips[100:150] = np.nan
    trace = fitted().trace(audio, lips)
    assert not trace.known[100:150].any() and (trace.log_odds[100:150] == 0).all()
    assert measured(lips, audio).offset_ms == pytest.approx(0, abs=10)
    nothing = measured(lips, np.zeros_like(audio))
    assert np.isnan([nothing.offset_ms, nothing.confidence, nothing.own_voice]).all()
    unseen = fitted().measure(audio, lips[:, 0], lips=np.full_like(lips, np.nan))
    assert np.isnan(unseen.confidence)


def test_a_long_track_in_blocks_is_measured_like_a_short_one() -> None:
    lips, audio = person(80, 3600)
    assert model.blocks(3600) == [(0, 1800), (1800, 3600)] and model.blocks(100) == [(0, 100)]
    found = measured(lips[:-5], audio[5 * 640 :])
    assert found.offset_ms == pytest.approx(-200, abs=10)


def test_wrong_input_is_refused() -> None:
    lips, audio = person(0)
    assert isinstance(fitted(), LipSync)
    with pytest.raises(ValueError, match="lip shapes"):
        fitted().measure(audio, lips[:, 0])
    with pytest.raises(ValueError, match="at least"):
        fitted().measure(audio[: 40 * 640], lips[:40, 0], lips=lips[:40])
    with pytest.raises(ValueError, match="478"):
        lip_shape(np.zeros((3, 68, 2), np.float32))


def test_too_few_people_cannot_be_held_out() -> None:
    lips, audio = person(0, 1000)
    clips = [TalkerClip("a", p, lips, CarriedFeatures()(audio)) for p in "abc"]
    with pytest.raises(ValueError, match="4 people"):
        held_out_towers(clips, 7)
    with pytest.raises(ValueError, match="minute"):
        train([TalkerClip("a", p, lips[:90], CarriedFeatures()(audio)[:90]) for p in "abcde"], "mel")


def test_lip_shapes_ignore_where_and_how_large_and_how_turned_the_face_is() -> None:
    points = np.random.default_rng(0).normal(100, 30, (1, 478, 2)).astype(np.float32)
    turn = np.array([[np.cos(0.4), np.sin(0.4)], [-np.sin(0.4), np.cos(0.4)]], np.float32)
    np.testing.assert_allclose(lip_shape(points), lip_shape(2.5 * points @ turn + 40), atol=1e-4)
    assert np.isnan(lip_shape(np.full((1, 478, 2), np.nan, np.float32))).all()


@given(st.floats(0.001, 20))
@settings(max_examples=10, deadline=None)
def test_log_mel_does_not_depend_on_loudness(gain: float) -> None:
    audio = np.random.default_rng(0).normal(0, 0.05, 16000).astype(np.float32)
    mel = MelSyncAudio()
    np.testing.assert_allclose(mel(audio), mel((audio * gain).astype(np.float32)), atol=1e-3)
    assert levelled(np.zeros(6400, np.float32)).max() == 0


def test_a_model_of_ones_own_is_preferred_and_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLPM_MODELS", "")
    monkeypatch.setenv("OPENLPM_CACHE", str(tmp_path / "none"))
    settings_ = ActiveSpeakerSettings(backend="heuristic", sync="mel")
    shipped = settings_.provenance()
    assert set(model.load_towers(model.model_path())) == {"mel", "whisper-base"}
    towers: Mapping[str, SyncTowers] = {"mel": fitted()._towers}
    model.save_towers(tmp_path / model.MODEL_FILE, dict(towers), {"clips": 6})
    monkeypatch.setenv("OPENLPM_MODELS", str(tmp_path))
    own = settings_.provenance()
    assert shipped["sync"] == own["sync"] == "lip-sync-cca-mel" and shipped[model.MODEL_FILE] != own[model.MODEL_FILE]
    np.testing.assert_allclose(model.load_towers(model.model_path())["mel"].lips, towers["mel"].lips, rtol=2e-3)
    with pytest.raises(ValueError, match="train it again"):
        LearnedLipSync.in_use("whisper-base")


@cache
def lips_of(path: Path, half: str = "full", frames: int = 200) -> FloatArray:
    """Return lip shapes of a clip's first frames, at 25 Hz."""
    need(*FaceDetector.weights, *FaceLandmarker.weights)
    shapes = []
    with FaceDetector() as detector, FaceLandmarker() as landmarker, av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if len(shapes) == frames:
                break
            rgb = frame.to_ndarray(format="rgb24")
            middle = rgb.shape[1] // 2
            rgb = {"full": rgb, "left": rgb[:, :middle], "right": rgb[:, middle:]}[half]
            shrink = 1 + max(rgb.shape) // 1100
            rgb = np.ascontiguousarray(rgb[::shrink, ::shrink])
            mesh = landmarker.landmarks(cut_square(rgb, crop_box(detector.detect(rgb)[0]), 256))
            shapes.append(mesh.points[:, :2] if mesh else np.full((478, 2), np.nan, np.float32))
    return lip_shape(np.stack(shapes).astype(np.float32))


@cache
def shipped() -> LearnedLipSync:
    need(WHISPER_WEIGHT)
    return LearnedLipSync(model.load_towers(model.model_path())["whisper-base"], WhisperSyncAudio())


def of_footage(lips: FloatArray, sound: Path) -> SyncMeasure:
    audio = read_audio(sound, 0, len(lips) / 25, 16000)  # on the picture's clock: late sound may be a late stream
    assert audio is not None
    return shipped().measure(audio, lips[:, 0], lips=lips)


@pytest.mark.slow
def test_late_sound_is_found(media: Path) -> None:
    found = of_footage(lips_of(media / "late_audio.mp4", frames=150), media / "late_audio.mp4")
    assert found.offset_ms == pytest.approx(480, abs=40)
    assert found.own_voice > 0.9


@pytest.mark.slow
def test_talkers_own_their_voice_and_no_other(media: Path) -> None:
    garden, studio = media / "talk_woman_garden.mp4", media / "talk_woman_studio.mp4"
    own = of_footage(lips_of(garden), garden)
    assert own.offset_ms == pytest.approx(0, abs=40) and own.own_voice > 0.95
    assert of_footage(lips_of(studio, frames=190), studio).own_voice > 0.95
    assert of_footage(lips_of(garden), media / "dubbed.mp4").own_voice < 0.2
    dubbed = of_footage(lips_of(media / "dubbed.mp4", frames=170), media / "dubbed.mp4")
    assert dubbed.own_voice < 0.2 and dubbed.confidence < own.confidence / 2


@pytest.mark.slow
def test_a_listener_does_not_own_the_voice(media: Path) -> None:
    split = media / "split_screen.mp4"
    assert of_footage(lips_of(split, "left"), split).own_voice > 0.95
    assert of_footage(lips_of(split, "right"), split).own_voice < 0.2


def test_evaluation_of_strangers_is_chance() -> None:
    clips = [
        TalkerClip(f"c{i}", f"p{i}", person(i)[0], CarriedFeatures()(person(i + 500)[1])) for i in range(6)
    ]  # lips and sound that belong to different people
    towers = {c.person: fitted()._towers for c in clips}
    assert 0.2 < evaluate(clips, towers, 3).auc < 0.8
