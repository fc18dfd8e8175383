"""Voices: same and different speakers on real footage, and who spoke when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from diarization_score import diarization_errors
from numpy.typing import NDArray
from speech_media import cut, load_audio, need, read_rttm

from annotators.protocols_speech import Diarizer, FloatArray, Segment, SpeakerEmbedder, Turn
from annotators.speech import voices
from annotators.speech.diarizer import ClusteringDiarizer, DiarizationRule, LocalVoice, cluster_voices, kept_apart
from annotators.speech.speaker_segmentation import SEGMENTATION_WEIGHT, SpeakerSegmenter, frame_times_s, levelled
from annotators.speech.voices import CAMPPLUS_WEIGHT, CamPlusPlusEmbedder, cosine_similarity
from schemas.time import AUDIO_HZ


@pytest.fixture(scope="module")
def embedder() -> CamPlusPlusEmbedder:
    need(CAMPPLUS_WEIGHT)
    return CamPlusPlusEmbedder()


@pytest.fixture(scope="module")
def diarizer(embedder: CamPlusPlusEmbedder) -> ClusteringDiarizer:
    need(SEGMENTATION_WEIGHT)
    return ClusteringDiarizer(embedder)


def diarize(diarizer: ClusteringDiarizer, audio: FloatArray) -> list[Turn]:
    return diarizer.diarize(audio, [Segment(0.0, len(audio) / 16000)])


def test_one_speaker_is_alike_and_two_are_not(embedder: CamPlusPlusEmbedder, media: Path) -> None:
    garden = load_audio(media / "talk_woman_garden.mp4")
    studio = load_audio(media / "talk_woman_studio.mp4")
    phone = load_audio(media / "telephone_two_speakers.wav")
    clips = [
        cut(garden, 0, 4),
        cut(garden, 5, 10),
        cut(studio, 0, 4),
        cut(studio, 5.2, 8),
        cut(phone, 10.57, 14.5),
        cut(phone, 18.6, 21.5),
        cut(phone, 21.78, 25),
        cut(phone, 25, 27.8),
    ]
    speakers = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    embeddings = embedder.embed(clips)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    similarity = cosine_similarity(embeddings, embeddings)
    same = (speakers[:, None] == speakers) & ~np.eye(8, dtype=bool)
    assert similarity[same].min() > 0.6
    assert similarity[speakers[:, None] != speakers].max() < 0.5


def test_an_embedding_does_not_depend_on_the_batch(embedder: CamPlusPlusEmbedder, media: Path) -> None:
    audio = load_audio(media / "talk_woman_garden.mp4")
    clips = [cut(audio, 0, 1.5), cut(audio, 2, 4), cut(audio, 4, 5.5)]
    together = embedder.embed(clips)
    np.testing.assert_array_equal(together[2], embedder.embed(clips[2:])[0])
    quieter = embedder.embed([clip * 0.1 for clip in clips])
    assert np.diag(cosine_similarity(together, quieter)).min() > 0.99


def test_a_clip_that_is_too_short_is_refused(embedder: CamPlusPlusEmbedder) -> None:
    assert isinstance(embedder, SpeakerEmbedder)
    assert embedder.embed([]).shape == (0, 192)
    with pytest.raises(ValueError, match="at least"):
        embedder.embed([np.zeros(1000, np.float32)])


def test_long_clips_are_cut_to_their_middle() -> None:
    clip = np.arange(25 * 16000, dtype=np.float32)
    middle = voices._middle(clip)
    assert len(middle) == 20 * 16000
    assert middle[0] == 2.5 * 16000


def test_overlap_is_heard_where_two_people_talk(media: Path) -> None:
    need(SEGMENTATION_WEIGHT)
    window = cut(load_audio(media / "telephone_two_speakers.wav"), 5, 15)
    (activity,) = SpeakerSegmenter().activity([window])
    times_s = 5 + frame_times_s(len(activity))
    truth = read_rttm(media / "telephone_two_speakers.rttm")
    count = sum(((times_s >= start_s) & (times_s < end_s)).astype(int) for start_s, end_s, _ in truth)
    assert np.mean((activity.sum(axis=1) > 0) == (count > 0)) > 0.97
    assert np.mean((activity.sum(axis=1) > 1) == (count > 1)) > 0.9
    with pytest.raises(ValueError, match="at most"):
        SpeakerSegmenter().activity([np.zeros(170_000, np.float32)])


def test_a_window_is_heard_alike_alone_and_with_others(media: Path) -> None:
    need(SEGMENTATION_WEIGHT)
    audio = load_audio(media / "telephone_two_speakers.wav")
    windows = [cut(audio, start_s, min(start_s + 10, 28)) for start_s in (2, 5, 11, 14, 20)]
    segmenter = SpeakerSegmenter()
    for window, together in zip(windows, segmenter.activity(windows), strict=True):
        np.testing.assert_array_equal(together, segmenter.activity([window])[0])


def test_an_interview_has_two_voices_and_a_silence(diarizer: ClusteringDiarizer, media: Path) -> None:
    audio = load_audio(media / "interview_cuts.mp4")
    turns = diarizer.diarize(audio, [Segment(0.1, 11.65), Segment(14.63, 18.0)])
    truth = [(0.16, 8.0, "garden"), (8.0, 11.6, "studio"), (14.6, 15.7, "studio"), (16.2, 18.0, "studio")]
    found = [(turn.start_s, turn.end_s, turn.speaker) for turn in turns]
    assert {turn.speaker for turn in turns} == {"speaker_0", "speaker_1"}
    assert diarization_errors(truth, found, 18.0).rate < 0.1
    assert isinstance(diarizer, Diarizer)


@pytest.mark.parametrize("name", ["talk_woman_garden.mp4", "talk_woman_studio.mp4", "noisy_speech.mp4"])
def test_one_voice_stays_one_speaker(diarizer: ClusteringDiarizer, media: Path, name: str) -> None:
    assert {turn.speaker for turn in diarize(diarizer, load_audio(media / name))} == {"speaker_0"}


@pytest.mark.slow
def test_voices_that_come_back_keep_their_names(diarizer: ClusteringDiarizer, media: Path) -> None:
    garden = cut(load_audio(media / "talk_woman_garden.mp4"), 0, 8)
    studio = cut(load_audio(media / "talk_woman_studio.mp4"), 0, 8)
    phone = cut(load_audio(media / "telephone_two_speakers.wav"), 21.8, 27.8)
    audio = np.concatenate([garden, studio, phone, garden, studio, phone])
    truth = [(0.0, 8.0, "g"), (8.0, 16.0, "s"), (16.0, 22.0, "p")]
    truth += [(start_s + 22, end_s + 22, name) for start_s, end_s, name in truth]
    found = [(turn.start_s, turn.end_s, turn.speaker) for turn in diarize(diarizer, audio)]
    assert len({label for _, _, label in found}) == 3
    assert diarization_errors(truth, found, 44.0).rate < 0.15


def test_levelling_halves_a_level_difference() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 160_000).astype(np.float32)
    noise[80_000:] *= 0.1
    level = levelled(noise)
    step_db = 10 * np.log10(np.mean(level[20_000:60_000] ** 2) / np.mean(level[100_000:140_000] ** 2))
    assert step_db == pytest.approx(10, abs=0.5)
    assert len(levelled(noise[:100])) == 100


def test_silence_has_no_turns(diarizer: ClusteringDiarizer) -> None:
    assert diarizer.diarize(np.zeros(32_000, np.float32), []) == []


def test_short_voices_join_the_most_similar_speaker_and_found_none() -> None:
    rng = np.random.default_rng(0)
    first, second = np.eye(192, dtype=np.float32)[:2]
    voice = np.stack([second, first, second, first, first * 0.6 + second * 0.5, np.eye(192)[7]])
    noisy = (voice + rng.normal(0, 0.01, voice.shape)).astype(np.float32)
    labels = cluster_voices(noisy, np.array([3.0, 3, 3, 3, 0.4, 0.4]), DiarizationRule())
    assert labels[:5].tolist() == [0, 1, 0, 1, 1]
    assert labels.max() == 1
    assert cluster_voices(noisy[:1], np.array([0.2]), DiarizationRule()).tolist() == [0]


def local(first_frame: int, active: slice, solo_s: float) -> LocalVoice:
    frames = np.zeros(589, bool)
    frames[active] = True
    return LocalVoice(first_frame, frames, np.zeros(0, np.float32), solo_s)


def test_two_who_talk_at_once_are_two_however_alike_they_sound() -> None:
    alike = np.array([[1.0, 0.0], [0.99, 0.1], [0.98, 0.12], [1.0, 0.01]], np.float32)
    both = [local(0, slice(0, 400), 3.0), local(0, slice(100, 500), 1.5), local(147, slice(0, 300), 1.5)]
    voices = [*both, local(147, slice(300, 500), 2.0)]
    labels = kept_apart(voices, alike, np.zeros(4, np.int64), DiarizationRule())
    assert labels[0] == 0 and labels[1] == 1  # the one with more solo speech keeps the name
    assert labels[3] == 0  # after one another: the window's second voice may be the first's
    assert kept_apart(voices, alike, np.zeros(4, np.int64), DiarizationRule(apart_s=60.0)).tolist() == [0, 0, 0, 0]


def test_a_voice_kept_apart_is_known_again_in_the_next_window() -> None:
    a, b = [1.0, 0.0, 0.0], [0.9, 0.43, 0.0]
    voices = [local(n * 147, slice(0, 400), solo) for n in range(3) for solo in (3.0, 1.0)]
    labels = kept_apart(voices, np.array([a, b] * 3, np.float32), np.zeros(6, np.int64), DiarizationRule())
    assert labels.tolist() == [0, 1] * 3


def test_a_voice_is_embedded_from_the_middle_of_its_solo_speech() -> None:
    class Segments:
        name, weights = "all-one", ()

        def activity(self, windows: Sequence[FloatArray]) -> list[NDArray[np.bool_]]:
            return [np.tile([True, False, False], (589, 1)) for _ in windows]

    class Voices:
        name, weights, dimension = "lengths", (), 2
        heard: ClassVar[list[FloatArray]] = []

        def embed(self, clips: Sequence[FloatArray]) -> FloatArray:
            self.heard.extend(clips)
            return np.tile(np.float32([1, 0]), (len(clips), 1))

    audio = np.arange(10 * AUDIO_HZ, dtype=np.float32)
    rule = DiarizationRule(voice_s=5.0, pieces=None)
    (turn,) = ClusteringDiarizer(Voices(), Segments(), rule).diarize(audio, [Segment(0.0, 10.0)])  # type: ignore[arg-type]
    assert (round(turn.start_s), round(turn.end_s)) == (0, 10)
    assert [(int(c[0]), len(c)) for c in Voices.heard] == [(round(2.5 * AUDIO_HZ), 5 * AUDIO_HZ)]
