"""What every transcriber does, and what is said where the one asked for is not installed."""

from __future__ import annotations

import importlib.metadata
import math
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from speech_media import cut, load_audio, need

from annotators.models import weights
from annotators.models.weights import WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from annotators.protocols_speech import FloatArray, Segment, Transcriber, Turn
from annotators.words.transcriber import WhisperTranscriber
from annotators.words.whisperx_transcriber import VAD_WEIGHT, WhisperXTranscriber
from stages.speech.speech import SpeechSettings

BACKENDS: dict[str, Callable[[], Transcriber]] = {
    "faster-whisper": WhisperTranscriber,
    "whisperx": lambda: WhisperXTranscriber("tiny.en", batch_size=2),
}
MARKS = {"faster-whisper": pytest.mark.slow, "whisperx": pytest.mark.full}


def no_network(*_: object) -> None:
    raise AssertionError("a transcriber asked for the network")


@pytest.fixture(scope="module", params=[pytest.param(name, marks=MARKS[name]) for name in BACKENDS])
def transcriber(request: pytest.FixtureRequest) -> Iterator[Transcriber]:
    need("whisper_tiny_en")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        patch.setattr(socket, "getaddrinfo", no_network)
        yield BACKENDS[request.param]()


@pytest.fixture(scope="module")
def call(media: Path) -> FloatArray:
    return load_audio(media / "telephone_two_speakers.wav")


def plain(text: str) -> str:
    return text.strip(".,?!").lower()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:std:UserWarning")
class TestEveryTranscriber:
    def test_words_are_right_in_order_and_inside_speech(self, transcriber: Transcriber, call: FloatArray) -> None:
        assert isinstance(transcriber, Transcriber)
        speech = [Segment(12.4, 14.2), Segment(15.4, 18.05), Segment(20.1, 24.5)]
        transcript = transcriber.transcribe(call, speech)
        words = transcript.words
        # 8-bit sums differ by processor, and the smallest model then mishears a word.
        assert len({"jersey", "texas", "originally", "from", "chicago"} & {plain(w.text) for w in words}) >= 4
        assert all(a.start_s <= b.start_s for a, b in pairwise(words))
        assert all(any(s.start_s <= w.start_s <= w.end_s <= s.end_s for s in speech) for w in words)
        assert all(0 <= w.probability <= 1 and w.timed_by is None and w.text == w.text.strip() for w in words)
        assert max(Counter(round(w.start_s, 2) for w in words).values()) <= 2, "words crowded at one time"
        assert (transcript.language, math.isnan(transcript.language_probability)) == ("en", True)
        for s in transcript.segments:
            assert s.words and (s.start_s, s.end_s) == (s.words[0].start_s, s.words[-1].end_s)
            assert s.avg_log_prob <= 0 <= s.no_speech_prob <= 1 and s.compression_ratio > 0 and s.language == "en"

    def test_times_are_those_of_the_whole_sound(self, transcriber: Transcriber, call: FloatArray) -> None:
        here = transcriber.transcribe(call, [Segment(15.4, 18.05)]).words
        there = transcriber.transcribe(cut(call, 15.0, 18.5), [Segment(0.4, 3.05)]).words
        assert [w.text for w in here] == [w.text for w in there]
        for a, b in zip(here, there, strict=True):
            assert (a.start_s - 15.0, a.end_s - 15.0) == (
                pytest.approx(b.start_s, abs=0.05),
                pytest.approx(b.end_s, abs=0.05),
            )

    def test_no_piece_crosses_a_break(self, transcriber: Transcriber, call: FloatArray) -> None:
        segments = transcriber.transcribe(call, [Segment(12.4, 18.05)], breaks_s=[14.2]).segments
        assert segments and all(s.end_s <= 14.2 or s.start_s >= 14.2 for s in segments)

    def test_the_same_sound_has_the_same_words(self, transcriber: Transcriber, call: FloatArray) -> None:
        before = call.copy()
        speech, turns = [Segment(12.4, 14.2), Segment(15.4, 18.05)], [Turn(12.4, 18.05, "a")]
        first = transcriber.transcribe(call, speech, turns=turns).segments
        assert first == transcriber.transcribe(call, speech, turns=turns).segments
        np.testing.assert_array_equal(call, before)

    @pytest.mark.parametrize("seconds", [0.0, 0.05, 0.15])
    def test_little_or_no_speech_is_no_error(self, transcriber: Transcriber, seconds: float) -> None:
        segments = [Segment(0.0, seconds)] if seconds else []
        transcript = transcriber.transcribe(np.zeros(16_000, np.float32), segments)
        assert seconds > 0.1 or (transcript.segments, transcript.language) == ((), None)

    def test_it_says_what_it_is(self, transcriber: Transcriber) -> None:
        assert "tiny.en" in transcriber.name and "whisper_tiny_en" in transcriber.weights


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:std:UserWarning")
def test_batches_of_one_and_many_say_the_same(call: FloatArray) -> None:
    need("whisper_tiny_en")
    speech = [Segment(12.4, 14.2), Segment(15.4, 18.05), Segment(20.1, 24.5)]
    said = [
        [w.text for w in WhisperXTranscriber("tiny.en", batch_size=n, vad_method="none").transcribe(call, speech).words]
        for n in (1, 3)
    ]
    assert said[0] == said[1] and said[0]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:std:UserWarning")
def test_whisperx_hears_speech_where_there_is_some(call: FloatArray) -> None:
    need("whisper_tiny_en")
    sound = np.concatenate([np.zeros(5 * 16_000, np.float32), cut(call, 15.4, 18.05)])
    words = WhisperXTranscriber("tiny.en").transcribe(sound, [Segment(0.0, 7.6)]).words
    assert words and all(w.start_s >= 4.8 for w in words)
    assert WhisperXTranscriber("tiny.en").transcribe(np.zeros(48_000, np.float32), [Segment(0.0, 3.0)]).words == []


@pytest.mark.full
def test_whisperx_names_its_weights_and_reports_nothing() -> None:
    need("whisper_tiny_en")
    chosen = {"use": "whisperx", "model": "tiny.en"}
    found = SpeechSettings(recogniser=chosen).provenance()
    assert found["whisperx"] == importlib.metadata.version("whisperx")
    assert found[VAD_WEIGHT] == weights.sha256(VAD_WEIGHT) and found["whisper_tiny_en"]
    assert VAD_WEIGHT not in SpeechSettings(recogniser={**chosen, "vad_method": "none"}).provenance()
    WhisperXTranscriber("tiny.en", vad_method="none")
    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0"


def absent(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_a_transcriber_that_is_not_installed_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(PartNotInstalledError, match=r"recogniser=whisperx needs whisperx.*make setup-full"):
        SpeechSettings(recogniser="whisperx").provenance()


def test_a_model_of_ones_own_is_named_file_by_file(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    made = WhisperTranscriber.made_of(str(tmp_path))
    assert made.folders == {"whisper": tmp_path} and not made.weights
    assert set(weights.sha256_of_files(tmp_path)) == {"model.bin", "config.json", "tokenizer.json"}
    with pytest.raises(WeightsNotFound, match="no model directory 'large'"):
        WhisperTranscriber.made_of("large")
