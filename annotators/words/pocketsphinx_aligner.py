"""When English words are said, by pocketsphinx (CMU Sphinx) with the acoustic model and dictionary of its package.

An optional part of the full set. Words outside the dictionary stand for any spoken sound and are not aligned; signs
alone stand for none. Where no path through a stretch is found, as where one word in it was never said, it is cut at its
longest pause and both parts are tried, so that few words are without a time; in strong noise many are.

Cost on one core: 1/100 of real time, 0.1 GB.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from annotators.optional_parts import PartNotInstalledError, of_the_full_set
from annotators.parts import Made
from annotators.protocols_speech import FloatArray, Segment, Stretch
from schemas.time import AUDIO_HZ

_FRAMES_PER_S = 100
_ANY_SPEECH = "[SPEECH]"  # of the model's own dictionary of noises
_ASKED = ("aligner=pocketsphinx", "pocketsphinx", "aligner=none")
_FEWEST_WORDS = 3
"""Words that are tried by themselves after a cut: fewer would fit some sound nearly always, said or not."""


class PocketSphinxAligner:
    """Forced alignment with context-dependent phones in steps of 10 ms; English alone."""

    name = "pocketsphinx-en-us"
    weights: tuple[str, ...] = ()

    def __init__(self) -> None:
        """Load model and dictionary. Raises PartNotInstalledError."""
        self.made_of()
        try:
            from pocketsphinx import Decoder
        except ImportError as e:
            raise of_the_full_set(*_ASKED, e) from e
        self._decoder = Decoder(lm=None, cmn="batch", loglevel="FATAL")

    @classmethod
    def made_of(cls) -> Made:
        """Name the model's files and the library's version, without importing it. Raises PartNotInstalledError."""
        found = importlib.util.find_spec("pocketsphinx")
        if found is None or not found.submodule_search_locations:
            raise of_the_full_set(*_ASKED)
        folder = Path(found.submodule_search_locations[0]) / "model" / "en-us"
        if not folder.is_dir():
            raise PartNotInstalledError(f"{folder} is missing: install pocketsphinx 5 from its wheel, with a model")
        library = {"pocketsphinx": importlib.metadata.version("pocketsphinx")}
        return Made(cls.name, libraries=library, folders={"pocketsphinx-en-us": folder}, licence="BSD-2-Clause")

    def align(self, audio: FloatArray, stretches: Sequence[Stretch]) -> list[list[Segment | None]]:
        """Return the time of every word in audio [N]; None outside English and for words that it does not know."""
        return [self._stretch(audio, s) if s.language == "en" else [None] * len(s.words) for s in stretches]

    def _stretch(self, audio: FloatArray, stretch: Stretch) -> list[Segment | None]:
        """Return the times of a stretch's words, of its parts where it does not fit as one."""
        spelled = [spelling(word.text) for word in stretch.words]
        known = [bool(w) and self._decoder.lookup_word(w) is not None for w in spelled]
        out: list[Segment | None] = [None] * len(spelled)
        if not any(known):
            return out
        first = round(stretch.start_s * AUDIO_HZ)
        sound = audio[first : round(stretch.end_s * AUDIO_HZ)]
        pairs = zip(spelled, known, stretch.words, strict=True)
        text = [word if k else _ANY_SPEECH for word, k, whole in pairs if k or _is_said(whole.text)]
        found = self._words(sound, " ".join(text))
        if len(found) != sum(known):
            parts = halves(stretch)
            return [time for part in parts for time in self._stretch(audio, part)] if parts else out
        times = iter(found)
        for n in range(len(out)):
            if known[n]:
                start_s, end_s = next(times)
                offset_s = first / AUDIO_HZ
                out[n] = Segment(offset_s + start_s, min(offset_s + end_s, stretch.end_s))
        return out

    def _words(self, sound: FloatArray, text: str) -> list[tuple[float, float]]:
        """Return start and end of each word of a text, those for noises left out; nothing where it does not fit."""
        self._decoder.reinit_feat()  # nothing of the stretch before is remembered
        self._decoder.set_align_text(text)
        self._decoder.start_utt()
        self._decoder.process_raw((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        parts = self._decoder.seg() or ()
        return [
            (part.start_frame / _FRAMES_PER_S, (part.end_frame + 1) / _FRAMES_PER_S)
            for part in parts
            if not part.word.startswith(("<", "[", "("))
        ]


def halves(stretch: Stretch) -> tuple[Stretch, Stretch] | None:
    """Return a stretch cut in the middle of its longest pause between words, None where a part would be too short.

    Of pauses that are alike the one nearest to the middle, so that the parts are not longer than need be.
    """
    words, middle = stretch.words, len(stretch.words) / 2
    places = range(_FEWEST_WORDS, len(words) - _FEWEST_WORDS + 1)
    if not places:
        return None
    at = max(places, key=lambda n: (round(words[n].start_s - words[n - 1].end_s, 2), -abs(n - middle)))
    cut_s = min(max((words[at - 1].end_s + words[at].start_s) / 2, stretch.start_s), stretch.end_s)
    return replace(stretch, end_s=cut_s, words=words[:at]), replace(stretch, start_s=cut_s, words=words[at:])


def _is_said(word: str) -> bool:
    return any(letter.isalnum() for letter in word)


def spelling(word: str) -> str:
    """Return a word as the dictionary spells it: small letters and apostrophes inside; empty where it has another."""
    plain = word.lower().replace("\u2019", "'").strip(" .,;:!?\"'()[]-\u2026\u2013\u2014\u201c\u201d\u2018")
    return plain if re.fullmatch(r"[a-z]+(['][a-z]+)*", plain) else ""
