"""Footage with truth that back-ends are held against, and what one of them said of it; part of `backends.py`."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from voice_truth import VoiceTruth, told_apart, voice_truths

from annotators.protocols_speech import FloatArray, Segment
from annotators.speech.vad import SileroVoiceActivity, speech_segments
from curation import Dataset
from curation.media.audio import iter_audio_blocks
from schemas.time import AUDIO_HZ


@dataclass
class Tried:
    """What one back-end said, and what that cost."""

    figures: dict[str, float | None] = field(default_factory=dict)
    """how near the truth it came; empty where nothing is known"""
    said: list[int | str | None] = field(default_factory=list)
    """its answers, one a place, the places the same for every back-end of a protocol"""
    asked_s: float = 0.0
    """seconds of sound or picture that it was given"""
    cpu_s: float = 0.0

    @contextlib.contextmanager
    def at_work(self, asked_s: float) -> Iterator[None]:
        """Count the CPU time of what is inside."""
        began = time.process_time()
        yield
        self.cpu_s += time.process_time() - began
        self.asked_s += asked_s


@dataclass(frozen=True)
class Sound:
    """One file's sound at 16 kHz, where speech was found, and whose voices are heard by the truth."""

    name: str
    audio: FloatArray
    truth: VoiceTruth
    speech: Sequence[Segment]

    @property
    def duration_s(self) -> float:
        return len(self.audio) / AUDIO_HZ


@dataclass(frozen=True)
class Footage:
    """Where footage and its truth lie: composed and real, a finished dataset of the real one, words of known times."""

    media: Path
    wild: Path
    dataset_dir: Path
    words: Path | None = None

    @functools.cached_property
    def dataset(self) -> Dataset:
        return Dataset(str(self.dataset_dir))

    def sounds(self) -> Iterator[Sound]:
        """Yield the real recordings, and the composed one of a telephone call, whose voices are known."""
        activity = SileroVoiceActivity()
        truths = voice_truths(self.wild) | {
            p: truth for p, truth in voice_truths(self.media).items() if p.with_suffix(".rttm").exists()
        }
        for path, truth in sorted(told_apart(truths).items()):
            audio = self._audio(path)
            yield Sound(path.name, audio, truth, speech_segments(activity.probability(audio)))

    def talkers(self) -> Iterator[FloatArray]:
        """Yield the sound of clips in which one person talks in a quiet place, at 16 kHz."""
        for path in sorted((self.media / "talkers").glob("*.mp4")):
            sound = self._audio(path)
            if len(sound):
                yield sound

    @staticmethod
    def _audio(path: Path) -> FloatArray:
        blocks = [block for _, block in iter_audio_blocks(path, AUDIO_HZ)]
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def equal_error_rate(pairs: Iterable[tuple[float, bool]]) -> float | None:
    """Return the rate at which as many pairs of one person fall below a limit as of two people above it."""
    scores = np.array(sorted(pairs, key=lambda p: p[0]), dtype=[("score", float), ("same", bool)])
    if not scores["same"].any() or scores["same"].all():
        return None
    missed = np.cumsum(scores["same"]) / scores["same"].sum()
    false = 1 - np.cumsum(~scores["same"]) / (~scores["same"]).sum()
    at = int(np.abs(missed - false).argmin())
    return float((missed[at] + false[at]) / 2)
