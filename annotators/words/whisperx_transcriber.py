"""Words with times and probabilities by whisperx: Whisper in batches of pieces, after whisperx's own look for speech.

An optional part of the full set. whisperx's pipeline writes the text of a piece alone, so what its model found on the
way is kept beside it: the words' times by dynamic time warping, their probabilities, and that of no speech. whisperx's
network for speech (bundled, a pyannote segmentation) may only take away from the speech that the stage found.

Cost: that of `WhisperTranscriber` on one core, 1.2 GB with base, and some seconds to import.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from faster_whisper.transcribe import get_compression_ratio, merge_punctuations
from pydantic import Field

from annotators.models import weights
from annotators.models.batches import in_batches
from annotators.parts import Made
from annotators.protocols_speech import FloatArray, Segment, TranscribedSegment, Transcript, Turn, Word
from annotators.speech import quiet_import
from annotators.words.spoken_languages import Vote, Window, languages_of, windows_of
from annotators.words.transcriber import (
    MAX_PIECE_S,
    MIN_PIECE_S,
    cut,
    most_tokens,
    speech_pieces,
    whisper_directory,
    whisper_made_of,
)

_ASKED = ("recogniser=whisperx", "recogniser=base")
_ONSET, _OFFSET = 0.5, 0.363  # whisperx's own
_PREPENDED, _APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
_FRAMES_HZ = 100
"""Frames of Whisper's input a second."""
_PROMPT_TOKENS = 4
VAD_WEIGHT = "whisperx_vad.bin"


class WhisperXTranscriber:
    """Whisper by short name (`base`, `tiny.en`) or from a directory in CTranslate2's format."""

    def __init__(
        self,
        model: str = "base",
        language: str | None = None,
        vad_method: Literal["pyannote", "none"] = "pyannote",
        chunk_s: Annotated[float, Field(gt=1, le=MAX_PIECE_S)] = MAX_PIECE_S,
        batch_size: Annotated[int, Field(ge=1)] = 8,
        compute_type: str = "int8",
        device: str = "cpu",
        beam_size: Annotated[int, Field(ge=1)] = 5,
    ) -> None:
        """Load the models.

        Args:
            model: see above.
            language: of all speech (ISO 639-1); None = heard piece by piece.
            vad_method: whether whisperx's network for speech is asked too.
            chunk_s: longest piece that is decoded as one.
            batch_size: pieces at once, fewer where memory does not suffice.
            compute_type: precision, as CTranslate2 names it.
            device: cpu or cuda.
            beam_size: width of the search.

        Raises PartNotInstalledError and WeightsNotFound.
        """
        made = self.made_of(model, vad_method=vad_method, compute_type=compute_type)
        self.name, self.weights = made.name, made.weights
        self._language, self._batch, self._chunk_s = language, batch_size, chunk_s
        parts = quiet_import.whisperx(*_ASKED)
        self._speech: Callable[[FloatArray], list[Segment]] | None = None
        if vad_method == "pyannote":
            self._speech = parts.speech_network(str(weights.resolve(VAD_WEIGHT)), device, _ONSET, _OFFSET)
        self._given = parts.GivenSpeech(_ONSET)
        whisper = _remembering(parts.asr.WhisperModel)
        self._model = whisper(
            str(whisper_directory(model)), device=device, compute_type=compute_type, cpu_threads=1,
            local_files_only=True,
        )  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that it takes what it was given
            self._pipeline = parts.asr.load_model(
                model, device, compute_type=compute_type, asr_options={"beam_size": beam_size},
                vad_model=self._given, model=self._model, local_files_only=True,
            )  # fmt: skip

    @classmethod
    def made_of(
        cls, model: str = "base", vad_method: str = "pyannote", compute_type: str = "int8", **_: object
    ) -> Made:
        """Name the models, their weights and the library's version, without importing it.

        Raises PartNotInstalledError and WeightsNotFound.
        """
        library = quiet_import.version(*_ASKED)
        made = whisper_made_of(f"whisperx-{Path(model).name}-{compute_type}", model)
        bundled = (VAD_WEIGHT,) if vad_method == "pyannote" else ()
        return Made(made.name, (*made.weights, *bundled), library, made.folders)

    def transcribe(
        self,
        audio: FloatArray,
        segments: Sequence[Segment],
        breaks_s: Sequence[float] = (),
        turns: Sequence[Turn] = (),
    ) -> Transcript:
        """Return the words spoken inside `segments` (speech, in order of time) of audio [N].

        No piece crosses a time in `breaks_s`. Where no language is given it is told piece by piece, as by
        `WhisperTranscriber`.
        """
        speech = segments if self._speech is None or not segments else _common(segments, self._speech(audio))
        pieces = [p for p in speech_pieces(audio, speech, breaks_s, self._chunk_s) if p.duration_s >= MIN_PIECE_S]
        if not pieces:
            return Transcript((), None, math.nan)
        vote, likeliest, languages = self._languages(audio, pieces, turns)
        found: dict[int, list[TranscribedSegment]] = {}
        for language in dict.fromkeys(languages):
            mine = [n for n, spoken in enumerate(languages) if spoken == language]
            decode = partial(self._decoded, audio, language or likeliest, language)
            made = in_batches([pieces[n] for n in mine], self._batch, decode)
            found |= dict(zip(mine, made, strict=True))
        said = tuple(segment for n in sorted(found) for segment in found[n])
        return Transcript(said, vote.language, vote.probability)

    def _languages(
        self, audio: FloatArray, pieces: Sequence[Segment], turns: Sequence[Turn]
    ) -> tuple[Vote, str, list[str | None]]:
        given = self._language if self._model.model.is_multilingual else "en"
        if given is not None:
            return Vote(given, math.nan), given, [given] * len(pieces)
        heard = []
        for group in windows_of(pieces, turns):
            features = self._model.feature_extractor(np.concatenate([cut(audio, pieces[i]) for i in group]))[..., :-1]
            _, _, probabilities = self._model.detect_language(features=features)
            heard.append(Window(group, sum(pieces[i].duration_s for i in group), dict(probabilities)))
        return languages_of(heard, pieces, turns)

    def _decoded(
        self, audio: FloatArray, heard_as: str, language: str | None, pieces: Sequence[Segment]
    ) -> list[list[TranscribedSegment]]:
        self._given.pieces = pieces
        self._model.heard = []
        self._model.frames = [math.ceil(p.duration_s * _FRAMES_HZ) for p in pieces]
        self._model.max_length = _PROMPT_TOKENS + most_tokens(max(p.duration_s for p in pieces))
        texts = self._pipeline.transcribe(audio, batch_size=len(pieces), language=heard_as)["segments"]
        found = zip(pieces, texts, self._model.heard, strict=True)
        return [_segments(piece, text, heard, language) for piece, text, heard in found]


def _common(a: Sequence[Segment], b: Sequence[Segment]) -> list[Segment]:
    """Return what lies in a segment of both."""
    pairs = ((max(x.start_s, y.start_s), min(x.end_s, y.end_s)) for x in a for y in b)
    return [Segment(start_s, end_s) for start_s, end_s in pairs if end_s > start_s]


def _segments(piece: Segment, text: Any, heard: Any, language: str | None) -> list[TranscribedSegment]:
    """Return what was said in a piece, as one segment, or none."""
    placed, no_speech = heard
    said = text["text"].strip()

    def at(time_s: float) -> float:
        return min(piece.start_s + float(time_s), piece.end_s)

    words = tuple(
        Word(at(w["start"]), at(w["end"]), w["word"].strip(), float(w["probability"]))
        for w in placed
        if w["word"].strip()
    )
    if not words:
        return []
    return [
        TranscribedSegment(
            start_s=words[0].start_s,
            end_s=words[-1].end_s,
            text=said,
            words=words,
            avg_log_prob=float(text["avg_logprob"]),
            no_speech_prob=float(no_speech),
            compression_ratio=float(get_compression_ratio(said)),
            language=language,
        )
    ]


def _remembering(whisper: Any) -> Any:
    """Return whisperx's model with what it finds on the way: `heard`, one (words, no speech) a piece."""

    class Remembering(whisper):  # type: ignore[misc]
        model: Any
        heard: list[tuple[list[dict[str, Any]], float]]
        frames: list[int]

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.model = _Network(self.model)

        def generate_segment_batched(
            self, features: Any, tokenizer: Any, options: Any, encoder_output: Any = None
        ) -> Any:
            out = super().generate_segment_batched(features, tokenizer, options, encoder_output)
            results, encoded = self.model.results, self.model.encoded
            tokens = [[t for t in r.sequences_ids[0] if t < tokenizer.eot] for r in results]
            # Of the sound alone: words would else be spread over what a piece is padded with.
            frames = [min(n, features.shape[-1]) for n in self.frames]
            for words, result in zip(self.find_alignment(tokenizer, tokens, encoded, frames), results, strict=True):
                merge_punctuations(words, _PREPENDED, _APPENDED)
                self.heard.append((words, result.no_speech_prob))
            return out

    return Remembering


class _Network:
    """CTranslate2's Whisper with its last encoding and results kept, and no speech asked for."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.encoded: Any = None
        self.results: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, encoded: Any, prompts: Any, **named: Any) -> Any:
        """Decode a batch."""
        self.encoded = encoded
        self.results = self._model.generate(encoded, prompts, return_no_speech_prob=True, **named)
        return self.results
