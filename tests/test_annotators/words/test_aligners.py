"""What every aligner does, exact times from known emissions, and what is said where one is not installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from speech_media import cut, load_audio
from wav2vec2_case import LETTERS, write_network

from annotators.models.weights import WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from annotators.protocols_speech import Aligner, FloatArray, Stretch, Word
from annotators.words.pocketsphinx_aligner import PocketSphinxAligner, halves, spelling
from annotators.words.whisperx_aligner import WhisperXAligner, spelled
from stages.speech.speech import SpeechSettings

CHARACTERS = {letter: n for n, letter in enumerate(LETTERS) if len(letter) == 1}


def no_network(*_: object) -> None:
    raise AssertionError("an aligner asked for the network")


@pytest.fixture(scope="module", params=["pocketsphinx", "whisperx"])
def aligner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aligner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        patch.setattr(socket, "getaddrinfo", no_network)
        if request.param == "pocketsphinx":
            yield PocketSphinxAligner()
        else:
            yield WhisperXAligner(str(write_network(tmp_path_factory.mktemp("wav2vec2"))))


@pytest.fixture(scope="module")
def call(media: Path) -> FloatArray:
    return load_audio(media / "telephone_two_speakers.wav")


def stretch(text: str, start_s: float, end_s: float, language: str | None = "en") -> Stretch:
    words = text.split()
    edges = np.linspace(start_s, end_s, len(words) + 1)
    return Stretch(
        start_s, end_s, tuple(Word(a, b, w, 0.9) for w, (a, b) in zip(words, pairwise(edges), strict=True)), language
    )


TEXT = stretch("Texas, originally from Chicago.", 15.4, 18.05)
OTHER = stretch("This is Diane in New Jersey.", 12.4, 14.2)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestEveryAligner:
    def test_a_word_has_a_time_inside_its_stretch_in_order(self, aligner: Aligner, call: FloatArray) -> None:
        assert isinstance(aligner, Aligner)
        for asked, times in zip([OTHER, TEXT], aligner.align(call, [OTHER, TEXT]), strict=True):
            assert len(times) == len(asked.words)
            found = [t for t in times if t is not None]
            assert found and all(asked.start_s <= t.start_s < t.end_s <= asked.end_s for t in found)
            assert all(a.end_s <= b.start_s for a, b in pairwise(found))

    def test_times_are_those_of_the_whole_sound(self, aligner: Aligner, call: FloatArray) -> None:
        (here,) = aligner.align(call, [TEXT])
        words = tuple(replace(w, start_s=w.start_s - 15.0, end_s=w.end_s - 15.0) for w in TEXT.words)
        moved = Stretch(TEXT.start_s - 15.0, TEXT.end_s - 15.0, words, "en")
        (there,) = aligner.align(cut(call, 15.0, 20.0), [moved])
        assert [t is None for t in here] == [t is None for t in there]
        for a, b in zip(here, there, strict=True):
            if a is not None and b is not None:
                assert (a.start_s - 15.0, a.end_s - 15.0) == (pytest.approx(b.start_s), pytest.approx(b.end_s))

    def test_one_or_many_in_any_order_are_the_same(self, aligner: Aligner, call: FloatArray) -> None:
        before = call.copy()
        alone = [aligner.align(call, [asked])[0] for asked in (OTHER, TEXT)]
        assert aligner.align(call, [TEXT, OTHER]) == alone[::-1]
        np.testing.assert_array_equal(call, before)

    def test_nothing_asked_is_nothing_told(self, aligner: Aligner, call: FloatArray) -> None:
        assert aligner.align(call, []) == []

    def test_what_cannot_be_aligned_has_no_time(self, aligner: Aligner, call: FloatArray) -> None:
        (times,) = aligner.align(
            call, [stretch("originally 1987 \u0447\u0438\u043a\u0430\u0433\u043e \u2026", 15.9, 18.5)]
        )
        assert times[1:] == [None, None, None]
        assert aligner.align(call, [stretch("1987 \u2026", 15.9, 18.5)]) == [[None, None]]

    @pytest.mark.parametrize("seconds", [0.001, 0.02, 0.06])
    def test_too_little_sound_has_no_times(self, aligner: Aligner, call: FloatArray, seconds: float) -> None:
        (times,) = aligner.align(call, [stretch("this is a long sentence", 10.0, 10.0 + seconds)])
        assert times == [None] * 5

    def test_silence_is_no_error(self, aligner: Aligner) -> None:
        (times,) = aligner.align(np.zeros(32_000, np.float32), [stretch("not a word", 0.0, 2.0)])
        assert len(times) == 3

    def test_it_says_what_it_is(self, aligner: Aligner) -> None:
        assert aligner.name and isinstance(aligner.weights, tuple)


@pytest.mark.full
def test_english_words_are_where_they_are_said(call: FloatArray) -> None:
    (times,) = PocketSphinxAligner().align(call, [TEXT])
    chicago = times[3]
    assert chicago is not None and chicago.end_s == pytest.approx(17.8, abs=0.15)


@pytest.mark.full
def test_words_that_were_never_said_cost_only_what_is_near_them(call: FloatArray) -> None:
    """A recogniser's invention in the middle of a stretch: no path fits the whole."""
    invented = stretch("elephants butterflies navigation. . . .", 14.25, 15.35)
    asked = Stretch(OTHER.start_s, TEXT.end_s, (*OTHER.words, *invented.words, *TEXT.words), "en")
    (times,) = PocketSphinxAligner().align(call, [asked])
    found = [t for t in times if t is not None]
    assert all(a.end_s <= b.start_s for a, b in pairwise(found))
    said = [*times[: len(OTHER.words)], *times[-len(TEXT.words) :]]
    assert sum(t is not None for t in said) >= len(said) - 1
    chicago = times[-1]
    assert chicago is not None and chicago.end_s == pytest.approx(17.8, abs=0.15)
    assert times[len(OTHER.words) + 3 : -len(TEXT.words)] == [None] * 3


def test_a_stretch_is_cut_at_its_longest_pause() -> None:
    def words(*times: tuple[float, float]) -> Stretch:
        return Stretch(1.0, 9.0, tuple(Word(a, b, "x", 0.9) for a, b in times), "en")

    asked = words((1, 1.5), (1.5, 2), (2, 3), (3.2, 4), (5.2, 6), (6, 7), (7, 8))
    parts = halves(asked)
    assert parts is not None
    assert [(p.start_s, p.end_s, len(p.words)) for p in parts] == [(1.0, 4.6, 4), (4.6, 9.0, 3)]
    assert halves(replace(asked, words=asked.words[:5])) is None
    even = halves(words(*((1 + n / 2, 1.5 + n / 2) for n in range(10))))
    assert even is not None and [len(p.words) for p in even] == [5, 5]


@pytest.mark.full
def test_another_language_is_not_aligned_as_english(call: FloatArray) -> None:
    aligner = PocketSphinxAligner()
    for language in ("de", None):
        assert aligner.align(call, [replace(TEXT, language=language)]) == [[None] * 4]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_known_frames_give_known_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    aligner = WhisperXAligner(str(write_network(tmp_path / "net")))
    spoken = {5: "h", 8: "i", 12: "|", 20: "a", 23: "l", 27: "l", 31: "|", 40: "y", 41: "o", 42: "u"}
    emission = torch.full((60, len(LETTERS)), 1e-4)
    emission[:, 0] = 0.99
    for frame, letter in spoken.items():
        emission[frame] = 1e-4
        emission[frame, CHARACTERS[letter]] = 0.99
    heard: list[int] = []

    def known(_: object, sound: FloatArray) -> torch.Tensor:
        heard.append(len(sound))
        return torch.log(emission)

    monkeypatch.setattr("annotators.words.whisperx_aligner._Network.emission", known)
    (times,) = aligner.align(np.zeros(16_000 * 10, np.float32), [stretch("Hi, all you!", 3.24, 4.46)])
    assert heard == [round(1.22 * 16_000)]
    found = [(t.start_s, t.end_s) for t in times if t is not None]
    # A word lasts from the frame of its first letter to that of the gap after it, the last one to its last letter.
    frames = [(5, 12), (20, 31), (40, 43)]
    assert found == [(pytest.approx(3.24 + 0.02 * a), pytest.approx(3.24 + 0.02 * b)) for a, b in frames]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_language_has_its_network(tmp_path: Path, call: FloatArray) -> None:
    english, german = (str(write_network(tmp_path / name, seed)) for seed, name in enumerate(("en", "de")))
    both = WhisperXAligner({"en": english, "de": german})
    one = WhisperXAligner(german)
    (mine,) = both.align(call, [replace(TEXT, language="de")])
    assert mine == one.align(call, [TEXT])[0] and any(mine)
    assert both.align(call, [replace(TEXT, language="fr")]) == [[None] * 4]
    made = WhisperXAligner.made_of({"en": english, "de": german})
    assert set(made.folders) == {"wav2vec2-en", "wav2vec2-de"}


@pytest.mark.full
def test_every_file_of_a_network_is_named_with_its_hash(tmp_path: Path) -> None:
    folder = write_network(tmp_path / "net")
    settings = SpeechSettings(aligner={"use": "whisperx", "model": str(folder)})
    found = settings.provenance()
    assert found["whisperx"] == importlib.metadata.version("whisperx")
    assert {n for n in found if n.startswith("wav2vec2/")} == {f"wav2vec2/{f.name}" for f in folder.iterdir()}
    before = found["wav2vec2/vocab.json"]
    (folder / "vocab.json").write_text("{}", encoding="utf-8")
    assert settings.provenance()["wav2vec2/vocab.json"] != before


@pytest.mark.full
def test_a_directory_without_a_network_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="no Wav2Vec2ForCTC"):
        WhisperXAligner(str(tmp_path))
    with pytest.raises(WeightsNotFound, match="no model directory 'facebook/wav2vec2-base-960h'"):
        WhisperXAligner("facebook/wav2vec2-base-960h")


def test_words_are_spelled_with_what_the_network_knows() -> None:
    text = spelled(["It\u2019s", "\u2026", "2nd,", "99"], CHARACTERS)
    letters = ["?" if t is None else LETTERS[t] for t in text.tokens]
    assert "".join(letters) == "it's|?nd|??"
    assert text.words == (0, 0, 0, 0, None, 2, 2, 2, None, 3, 3)
    assert text.known == {0: True, 1: False, 2: True, 3: False}
    assert spelled(["a", "b"], CHARACTERS, gaps=False).words == (0, 1)


def test_words_are_spelled_as_the_dictionary_has_them() -> None:
    assert [spelling(w) for w in ("Don\u2019t,", "\u201cHello!\u201d", "1987", "well-known", "Chicago.", "...")] == [
        "don't", "hello", "", "", "chicago", "",
    ]  # fmt: skip


def absent(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_an_aligner_that_is_not_installed_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PartNotInstalledError, match=r"aligner=pocketsphinx needs pocketsphinx.*make setup-full"):
        SpeechSettings(aligner="pocketsphinx").provenance()
    with pytest.raises(PartNotInstalledError, match=r"aligner=whisperx needs whisperx.*aligner=none"):
        SpeechSettings(aligner={"use": "whisperx", "model": "x"}).provenance()


def test_no_aligner_is_the_default_and_says_so() -> None:
    settings = SpeechSettings()
    assert settings.aligner.build() is None and settings.aligner.provenance("aligner") == {"aligner": "none"}
