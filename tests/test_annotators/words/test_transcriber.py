"""Words: the right ones, at the right time, in the right language, and the scores that tell invented text."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_media import cut, load_audio, need

from annotators.models.weights import WeightsNotFound
from annotators.protocols_speech import Segment, Transcriber, Turn
from annotators.words.spoken_languages import MIN_LANGUAGE, Vote, Window, vote_of
from annotators.words.transcriber import MAX_PIECE_S, WhisperTranscriber, in_window, speech_pieces

CALL = "this is diane in new jersey and i'm sheila in texas originally from chicago"


@pytest.fixture(scope="module")
def tiny() -> WhisperTranscriber:
    need("whisper_tiny_en")
    return WhisperTranscriber()


def plain(text: str) -> str:
    return text.strip(".,?!").lower()


@pytest.mark.slow
def test_a_telephone_call_is_understood(tiny: WhisperTranscriber, media: Path) -> None:
    assert isinstance(tiny, Transcriber)
    audio = load_audio(media / "telephone_two_speakers.wav")
    transcript = tiny.transcribe(audio, [Segment(7.6, 30.0)])
    words = [plain(word.text) for word in transcript.words]
    truth = CALL.split(" ")
    assert sum(word in words for word in truth) >= len(truth) - 1
    assert all(7.6 <= word.start_s <= word.end_s <= 30.0 for word in transcript.words)
    chicago = next(word for word in transcript.words if plain(word.text) == "chicago")
    assert chicago.end_s == pytest.approx(17.8, abs=0.3)
    assert transcript.language == "en"
    assert math.isnan(transcript.language_probability)


@pytest.mark.slow
def test_the_same_audio_gives_the_same_words(tiny: WhisperTranscriber, media: Path) -> None:
    audio = cut(load_audio(media / "telephone_two_speakers.wav"), 12.6, 17.9)
    segments = [Segment(0.0, len(audio) / 16000)]
    assert tiny.transcribe(audio, segments).segments == tiny.transcribe(audio, segments).segments


@pytest.mark.slow
def test_two_languages_in_one_file_are_told_apart(media: Path) -> None:
    need("whisper_base")
    audio = load_audio(media / "interview_cuts.mp4")
    transcript = WhisperTranscriber("base").transcribe(audio, [Segment(0.16, 11.65), Segment(14.6, 18.0)], [8.0])
    early = {part.language for part in transcript.segments if part.end_s <= 8.0}
    late = {part.language for part in transcript.segments if part.start_s >= 8.0}
    assert (early, late) == ({"ru"}, {"en"})


@pytest.mark.slow
def test_no_sound_is_encoded_twice(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece is asked for its language, perhaps with others of its voice, and then for its words."""
    need("whisper_base")
    encoded: list[bytes] = []
    encode = WhisperModel.encode

    def counted(self: WhisperModel, features: np.ndarray) -> object:
        encoded.append(features.tobytes())
        return encode(self, features)

    monkeypatch.setattr(WhisperModel, "encode", counted)
    audio = load_audio(media / "interview_cuts.mp4")
    segments = [Segment(0.16, 4.3), Segment(4.5, 5.4), Segment(5.6, 9.0)]
    WhisperTranscriber("base").transcribe(audio, segments, [4.4, 5.5], [Turn(0.16, 9.0, "a")])
    assert len(encoded) == len(set(encoded)) >= 4


@pytest.mark.slow
def test_invented_text_shows_in_the_scores(tiny: WhisperTranscriber) -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 160_000).astype(np.float32)
    parts = tiny.transcribe(noise, [Segment(0.0, 10.0)]).segments
    assert all(part.no_speech_prob > 0.8 or part.compression_ratio > 2.5 or part.avg_log_prob < -1.5 for part in parts)


def _vote(*windows: tuple[float, dict[str, float]]) -> Vote:
    return vote_of([Window((i,), seconds, shares) for i, (seconds, shares) in enumerate(windows)])[0]


def test_the_language_is_a_vote_over_windows_by_length() -> None:
    assert _vote((20.0, {"en": 0.9, "cy": 0.1}), (3.0, {"cy": 0.9, "en": 0.1})).language == "en"
    unsure = _vote((5.0, {"cy": 0.22, "en": 0.2}), (5.0, {"en": 0.22, "de": 0.2}))
    assert unsure.language is None and unsure.probability == pytest.approx(0.21)


def test_another_language_must_be_surer_than_the_vote() -> None:
    doubtful, sure = Window((0,), 4.0, {"cy": 0.7, "en": 0.3}), Window((0,), 4.0, {"ru": 0.95, "en": 0.02})
    assert (doubtful.sure("en"), sure.sure("en")) == (None, "ru")
    assert (doubtful.sure(None), doubtful.sure("cy")) == ("cy", "cy")


@given(
    st.lists(
        st.tuples(st.floats(0.1, 30), st.dictionaries(st.sampled_from("abc"), st.floats(0, 1 / 3), min_size=1)),
        min_size=1,
    )
)
def test_a_vote_names_a_language_only_when_it_is_sure(windows: list[tuple[float, dict[str, float]]]) -> None:
    vote = _vote(*windows)
    assert 0 <= vote.probability <= 1
    assert (vote.language is None) == (vote.probability < MIN_LANGUAGE)


@pytest.mark.parametrize(("length", "window"), [(300, 1500), (1500, 1500), (1501, 2000), (2600, 3000), (3000, 3000)])
def test_a_piece_has_the_shortest_window_that_holds_it_and_silence_after_it(length: int, window: int) -> None:
    """Silence is what Whisper's features make of zeros after the piece."""
    wave = np.random.default_rng(length).normal(0, 0.1, length * 160).astype(np.float32)
    features = FeatureExtractor()
    mel = features(wave, padding=0)[:, :length]
    found = in_window(np.pad(mel, ((0, 0), (0, 3000 - length))))
    assert found.shape == (80, window)
    assert np.array_equal(found[:, :length], mel)
    if length < window:
        padded = features(np.pad(wave, (0, 480_000 - len(wave))), padding=0)[:, length + 2 : window]
        assert found[:, length:] == pytest.approx(float(padded.max()), abs=1e-2)
        assert float(padded.max()) == float(padded.min())


def test_silence_is_padded_with_silence() -> None:
    assert np.all(in_window(np.zeros((80, 3000), np.float32)) == -1.5)


def test_no_speech_has_no_words(tiny: WhisperTranscriber) -> None:
    transcript = tiny.transcribe(np.zeros(16_000, np.float32), [])
    assert transcript.segments == ()
    assert transcript.language is None


def test_an_incomplete_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match=r"model\.bin"):
        WhisperTranscriber(str(tmp_path))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.floats(0.1, 50)), max_size=8),
    st.lists(st.floats(0, 200), max_size=3),
)
def test_pieces_hold_all_speech_and_are_short(spans: list[tuple[float, float]], breaks_s: list[float]) -> None:
    segments, at_s = [], 0.0
    for gap_s, length_s in spans:
        segments.append(Segment(at_s + gap_s, at_s + gap_s + length_s))
        at_s = segments[-1].end_s
    audio = np.zeros(round(at_s * 16000) + 1, np.float32)
    pieces = speech_pieces(audio, segments, breaks_s)
    assert all(0 < piece.duration_s <= MAX_PIECE_S + 1e-6 for piece in pieces)
    assert all(not piece.start_s < time_s < piece.end_s for piece in pieces for time_s in breaks_s)
    for segment in segments:
        held = sum(max(0.0, min(piece.end_s, segment.end_s) - max(piece.start_s, segment.start_s)) for piece in pieces)
        assert held == pytest.approx(segment.duration_s, abs=1e-6)


def test_a_long_segment_is_cut_where_it_is_quiet() -> None:
    audio = np.full(40 * 16000, 0.1, np.float32)
    audio[round(25.3 * 16000) : round(25.5 * 16000)] = 0
    pieces = speech_pieces(audio, [Segment(0.0, 40.0)])
    assert [piece.end_s for piece in pieces] == [pytest.approx(25.4, abs=0.1), 40.0]
