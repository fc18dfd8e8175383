"""Protocols of the audio and active-speaker annotators, and the values they return.

A stage names a Protocol, a workflow picks a back-end. Every back-end says its `name` and the weight files it
used, so that each number in a table can be traced to a model, and a heuristic's score is never taken for one.
All audio is float32 mono in [-1, 1], at 16 kHz where no other rate is named; all times are seconds from the first
sample of that audio. Costs nothing: types only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class SpeechProbability:
    """Speech probability in [0, 1] of each consecutive step of `step_s` seconds; values[i] covers [i, i+1) steps.

    `duration_s` is that of the audio; the last step may reach past it.
    """

    values: FloatArray
    step_s: float
    duration_s: float


@dataclass(frozen=True)
class Segment:
    """A half-open stretch [start_s, end_s) of audio."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Return the length in seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Word:
    """One recognised word with its time and probability in [0, 1]."""

    start_s: float
    end_s: float
    text: str
    probability: float
    timed_by: str | None = None
    """the aligner that gave its time; None = the recogniser itself"""


@dataclass(frozen=True)
class TranscribedSegment:
    """One decoded stretch of speech with the scores that tell a hallucination; nothing is dropped on them here.

    `language` is None where it was not told with confidence; the text is then a guess.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...]
    avg_log_prob: float
    no_speech_prob: float
    compression_ratio: float
    language: str | None


@dataclass(frozen=True)
class Transcript:
    """All words of one audio, with its main language (ISO 639-1) and the likeliest language's probability.

    The language is None without speech and where nothing is sure. The probability is nan where the model knows one
    language only and so did not measure it.
    """

    segments: tuple[TranscribedSegment, ...]
    language: str | None
    language_probability: float

    @property
    def words(self) -> list[Word]:
        """Return the words of all segments in order of time."""
        return [word for segment in self.segments for word in segment.words]


@dataclass(frozen=True)
class Stretch:
    """Words said one after another inside [start_s, end_s) of a sound, with the times that the recogniser gave them.

    `language` is ISO 639-1, None where it was not told with confidence.
    """

    start_s: float
    end_s: float
    words: tuple[Word, ...]
    language: str | None


@dataclass(frozen=True)
class Turn:
    """A speaker's turn; `overlap` is true where another speaker talks in the same stretch."""

    start_s: float
    end_s: float
    speaker: str
    overlap: bool = False


@dataclass(frozen=True)
class SyncMeasure:
    """The offset between lips and sound.

    `offset_ms` > 0: the sound is late, it comes after the lip movement it belongs to; < 0: the sound is early.
    `correlation` is the peak over lags, `confidence` is the peak minus the median over lags (both nan without
    usable signal); `lags_ms` and `curve` hold the whole search, for auditing. A learned back-end's curve is in nats of
    evidence a frame. `own_voice` is its probability that the sound is this face's own voice, whatever the lag, with
    equal priors; nan where a back-end knows none.
    """

    offset_ms: float
    confidence: float
    correlation: float
    lags_ms: FloatArray
    curve: FloatArray
    own_voice: float = float("nan")


class Annotator(Protocol):
    """What every back-end says about itself."""

    @property
    def name(self) -> str:
        """Return the back-end's name, as written beside its numbers."""
        ...

    @property
    def weights(self) -> tuple[str, ...]:
        """Return the names of the weight files in use, as the weights resolver knows them."""
        ...


@runtime_checkable
class VoiceActivity(Annotator, Protocol):
    """Speech or not, over time."""

    def probability(self, audio: FloatArray) -> SpeechProbability:
        """Return the speech probability over time of audio [N]."""
        ...


@runtime_checkable
class Transcriber(Annotator, Protocol):
    """Words with times."""

    def transcribe(
        self,
        audio: FloatArray,
        segments: Sequence[Segment],
        breaks_s: Sequence[float] = (),
        turns: Sequence[Turn] = (),
    ) -> Transcript:
        """Return the words spoken inside `segments` (speech, in order of time) of audio [N].

        No stretch that is decoded as one crosses a time in `breaks_s` (for instance a change of speaker). `turns` tell
        which stretches are one voice's, which speaks one language more often than not.
        """
        ...


@runtime_checkable
class Aligner(Annotator, Protocol):
    """When words are said that are known already."""

    def align(self, audio: FloatArray, stretches: Sequence[Stretch]) -> list[list[Segment | None]]:
        """Return the time of every word of every stretch in audio [N], in order and inside the stretch.

        None stands for a word that cannot be aligned (a number, a foreign script, too short a sound); it then keeps
        the recogniser's time.
        """
        ...


@runtime_checkable
class SpeakerEmbedder(Annotator, Protocol):
    """A voice as a vector."""

    @property
    def dimension(self) -> int:
        """Return the length D of an embedding."""
        ...

    def embed(self, clips: Sequence[FloatArray]) -> FloatArray:
        """Return unit-length embeddings [len(clips), D] of clips [N_i] of speech."""
        ...


@runtime_checkable
class Diarizer(Annotator, Protocol):
    """Who spoke when."""

    def diarize(self, audio: FloatArray, speech: Sequence[Segment]) -> list[Turn]:
        """Return turns, labelled in order of first appearance, inside the `speech` segments of audio [N]."""
        ...


@runtime_checkable
class ActiveSpeaker(Annotator, Protocol):
    """Whether a face speaks, frame by frame."""

    def scores(self, crops: ByteArray, audio: FloatArray, mouth_opening: FloatArray | None = None) -> FloatArray:
        """Return [T] scores, > 0 means speaking, of grey crops [T, 112, 112] at 25 Hz and their audio [T * 640].

        `mouth_opening` [T] (`faces_mesh.mouth_opening`, nan where unknown) helps the heuristic alone.
        """
        ...

    def each(self, crops: ByteArray, audio: FloatArray, mouth_opening: FloatArray | None = None) -> FloatArray:
        """Return the scores [N, T] of each of the N networks that a score is the mean of; N = 1 without several."""
        ...


@runtime_checkable
class LipSync(Annotator, Protocol):
    """How far the sound is from the lips.

    The heuristic back-end reads `mouth_opening` alone, the learned one the lip shapes; a caller gives what it has.
    """

    def measure(
        self,
        audio: FloatArray,
        mouth_opening: FloatArray,
        crops: ByteArray | None = None,
        lips: FloatArray | None = None,
    ) -> SyncMeasure:
        """Return the offset of audio [T * 640] against mouth opening [T] at 25 Hz (nan where no face was found).

        `lips` [T, 80] are `lip_shape.lip_shape` (nan where unknown).
        """
        ...


@runtime_checkable
class SourceSeparator(Annotator, Protocol):
    """Takes overlapped voices apart."""

    rate_hz: int
    """the rate it works at"""

    def separate(self, mixture: FloatArray) -> FloatArray:
        """Return estimates [S, N] of the voices in mono sound [N] at `rate_hz`, in any order."""
        ...


@runtime_checkable
class SpeechEnhancer(Annotator, Protocol):
    """Takes noise away from speech."""

    rate_hz: int
    """the rate it works at"""

    def enhance(self, sound: FloatArray) -> FloatArray:
        """Return mono sound [N] at `rate_hz` with its noise taken away, [N] and in time with it."""
        ...
