"""Words with times and probabilities: Whisper through faster-whisper (CTranslate2), offline.

Whisper invents text where nobody speaks, so it is given speech only, in pieces of at most 30 s (its window; short
pieces have shorter ones, see `in_window`), and every decoded segment keeps the three scores by which a hallucination is
told (see `known_words`). Decoding is deterministic: beam search at temperature 0 without the random fallbacks, no text
carried from one piece to the next, one thread.

Cost on one core: tiny.en about 1/20 of real time and 0.3 GB, base 1/5 to 1/12 and 0.5 GB. tiny.en hears every language
as English and then repeats itself (compression ratio 5 and more): where the language is not known to be English, take
base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel

from annotators.models import hub, weights
from annotators.models.remembered import Remembered
from annotators.models.weights_registry import WeightsNotFound
from annotators.parts import Made
from annotators.protocols_speech import (
    FloatArray,
    Segment,
    TranscribedSegment,
    Transcript,
    Turn,
    Word,
)
from annotators.words.spoken_languages import LANGUAGE_MIN_S, Vote, Window, languages_of, windows_of
from schemas.time import AUDIO_HZ

_MODEL_WEIGHTS = {"tiny.en": "whisper_tiny_en", "base": "whisper_base"}
MAX_PIECE_S = 30.0
MIN_PIECE_S = 0.1  # less holds no word
_MAX_PAUSE_S = 1.0  # inside a piece; longer silence invites invented text
_EARLIEST_CUT = 2 / 3  # of the longest piece
# A runaway repetition otherwise fills the decoder's 448 tokens and costs more than all real text. Fast speech has
# about 5 words a second, of up to 3 tokens in languages that Whisper's alphabet spells out.
_TOKENS_AT_LEAST, _TOKENS_PER_S, _MAX_TOKENS = 16, 15, 400
_REMEMBERED = 16  # encodings, of 3 MB for base: pieces of which the language was heard and the words not yet
_WINDOWS = (1500, 2000, 2500)
"""Lengths of an encoder's window below Whisper's 3000, in 10 ms: encoding 15 s costs a fifth of 30 s, for attention's
cost is quadratic. Shorter ones would cost less and were not measured."""
_REQUIRED_FILES = ("model.bin", "config.json", "tokenizer.json")


class WhisperTranscriber:
    """Whisper tiny.en (English alone, the default), base (99 languages), or a directory in CTranslate2's format."""

    def __init__(self, model: str = "tiny.en", beam_size: int = 5, compute_type: str = "int8") -> None:
        """Load a model by its short name, or from a directory of your own.

        Args:
            model: see above.
            beam_size: width of the search.
            compute_type: precision, as CTranslate2 names it.

        Raises WeightsNotFound.
        """
        directory = whisper_directory(model)
        made = self.made_of(model, compute_type=compute_type)
        self.name, self.weights = made.name, made.weights
        self._beam_size = beam_size
        self._model = _ShortWindowModel(
            str(directory), device="cpu", compute_type=compute_type, cpu_threads=1, local_files_only=True
        )

    @classmethod
    def made_of(cls, model: str = "tiny.en", compute_type: str = "int8", **_: object) -> Made:
        """Name the model and its weights. Raises WeightsNotFound for a directory that is missing or incomplete."""
        return whisper_made_of(f"faster-whisper-{Path(model).name}-{compute_type}", model)

    def transcribe(
        self,
        audio: FloatArray,
        segments: Sequence[Segment],
        breaks_s: Sequence[float] = (),
        turns: Sequence[Turn] = (),
    ) -> Transcript:
        """Return the words spoken inside `segments` (speech, in order of time) of audio [N].

        No piece crosses a time in `breaks_s`. The language is heard in every piece of 3 s and more, and of each voice
        (`turns`) with shorter ones in up to 15 s of that voice put together; all these windows, weighted by their
        length, vote. Where the vote is sure (0.65), another language must be surer (0.8) in its own piece or voice;
        where it is not, a piece or voice needs 0.65. What has no sure language is decoded in the likeliest one and says
        None: its words are guesses.
        """
        pieces = [piece for piece in speech_pieces(audio, segments, breaks_s) if piece.duration_s >= MIN_PIECE_S]
        if not pieces:
            return Transcript((), None, math.nan)
        decoded: dict[int, list[TranscribedSegment]] = {}
        vote, likeliest, languages = self._languages(audio, pieces, turns, decoded)
        for i, (piece, language) in enumerate(zip(pieces, languages, strict=True)):
            if i not in decoded:
                decoded[i] = self._decode(audio, piece, language or likeliest, language)
        self._model.forget()
        parts = tuple(part for i in range(len(pieces)) for part in decoded[i])
        return Transcript(parts, vote.language, vote.probability)

    def _languages(
        self,
        audio: FloatArray,
        pieces: Sequence[Segment],
        turns: Sequence[Turn],
        decoded: dict[int, list[TranscribedSegment]],
    ) -> tuple[Vote, str, list[str | None]]:
        """Return the vote, the likeliest language, and the language of each piece (None = unsure).

        A detection costs as much as encoding 30 s of sound, so short pieces are not asked one by one; and a piece whose
        language no vote will change is decoded into `decoded` at once, while its encoding is at hand.
        """
        if not self._model.model.is_multilingual:
            return Vote("en", math.nan), "en", ["en"] * len(pieces)
        heard: list[Window] = []
        for group in windows_of(pieces, turns):
            clip = np.concatenate([cut(audio, pieces[i]) for i in group])
            # Without the last frame, which decoding leaves out too, so that both read the same encoding.
            features = self._model.feature_extractor(clip)[..., :-1]
            _, _, probabilities = self._model.detect_language(features=features)
            heard.append(Window(group, sum(pieces[i].duration_s for i in group), dict(probabilities)))
            if pieces[group[0]].duration_s >= LANGUAGE_MIN_S and (language := heard[-1].certain()):
                decoded[group[0]] = self._decode(audio, pieces[group[0]], language, language)
        return languages_of(heard, pieces, turns)

    def _decode(
        self, audio: FloatArray, piece: Segment, heard_as: str, language: str | None
    ) -> list[TranscribedSegment]:
        found, _ = self._model.transcribe(
            cut(audio, piece),
            language=heard_as,
            beam_size=self._beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            word_timestamps=True,
            max_new_tokens=most_tokens(piece.duration_s),
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
        )
        return [_to_segment(part, piece, language) for part in found]


def whisper_directory(model: str) -> Path:
    """Return the directory of a CTranslate2 Whisper: `tiny.en`, `base`, a path or a name in OPENLPM_MODELS.

    Raises WeightsNotFound where it is missing, and for an incomplete one, which faster-whisper would complete online.
    """
    if model in _MODEL_WEIGHTS:
        return weights.resolve(_MODEL_WEIGHTS[model])
    directory = hub.directory(model)
    missing = [name for name in _REQUIRED_FILES if not (directory / name).is_file()]
    if missing:
        raise WeightsNotFound(f"{directory} lacks {', '.join(missing)} of a CTranslate2 Whisper model")
    return directory


def whisper_made_of(name: str, model: str) -> Made:
    """Return what a back-end on that model is made of. Raises WeightsNotFound."""
    if model in _MODEL_WEIGHTS:
        return Made(name, (_MODEL_WEIGHTS[model],))
    return Made(name, folders={"whisper": whisper_directory(model)})


class _ShortWindowModel(WhisperModel):  # type: ignore[misc]
    """Whisper that encodes a short piece in a short window, and the same sound once: for its language and its words."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._encoded = Remembered[Any](_REMEMBERED)

    def encode(self, features: Any) -> Any:
        """Return the encoder's output for log-mel features [mels, 3000] with zeros after the piece."""
        window = in_window(features)
        return self._encoded.get(window, lambda: super(_ShortWindowModel, self).encode(window))

    def forget(self) -> None:
        """Free what was remembered."""
        self._encoded.clear()


def in_window(mel_MT: FloatArray) -> FloatArray:
    """Return a piece's log-mel features [M, T], T = 1500 to 3000, in the shortest of `_WINDOWS` that holds it.

    `mel_MT` [M, 3000] has zeros after the piece, as faster-whisper fills its window. Zero is a sound of middling level
    to Whisper, which in short windows makes up words for it; so silence stands there, as Whisper was trained: the floor
    80 dB below the piece's loudest bin, -10 at the lowest, in Whisper's scale (log10 + 4) / 4.
    """
    heard = np.flatnonzero(mel_MT.any(axis=0))
    length = int(heard[-1]) + 1 if heard.size else 0
    window = next((w for w in _WINDOWS if w >= length), mel_MT.shape[1])
    out = np.array(mel_MT[:, :window], order="C")
    out[:, length:] = max(float(mel_MT.max()) - 2.0, -1.5) if length else -1.5
    return out


def speech_pieces(
    audio: FloatArray, segments: Sequence[Segment], breaks_s: Sequence[float] = (), longest_s: float = MAX_PIECE_S
) -> list[Segment]:
    """Return stretches of at most `longest_s` that hold the segments and cross no time in `breaks_s`.

    Segments are joined over pauses below 1 s; one that is too long is cut at its quietest 0.1 s in the last third of
    the longest stretch that could be.
    """
    pieces: list[Segment] = []
    for segment in _split_at(segments, breaks_s):
        last = pieces[-1] if pieces else None
        if (
            last is not None
            and segment.start_s - last.end_s < _MAX_PAUSE_S
            and segment.end_s - last.start_s <= longest_s
            and not any(last.end_s <= time_s <= segment.start_s for time_s in breaks_s)
        ):
            pieces[-1] = Segment(last.start_s, segment.end_s)
            continue
        start_s = segment.start_s
        while segment.end_s - start_s > longest_s:
            cut_s = _quietest_s(audio, start_s + _EARLIEST_CUT * longest_s, start_s + longest_s)
            pieces.append(Segment(start_s, cut_s))
            start_s = cut_s
        pieces.append(Segment(start_s, segment.end_s))
    return pieces


def most_tokens(duration_s: float) -> int:
    """Return the tokens that so much speech has at most."""
    return min(_MAX_TOKENS, math.ceil(_TOKENS_AT_LEAST + _TOKENS_PER_S * duration_s))


def _split_at(segments: Sequence[Segment], breaks_s: Sequence[float]) -> list[Segment]:
    parts: list[Segment] = []
    for segment in segments:
        inner = sorted({time_s for time_s in breaks_s if segment.start_s < time_s < segment.end_s})
        edges = [segment.start_s, *inner, segment.end_s]
        parts.extend(Segment(start_s, end_s) for start_s, end_s in pairwise(edges))
    return parts


def _quietest_s(audio: FloatArray, start_s: float, end_s: float) -> float:
    """Return the middle of the quietest 0.1 s between two times, in seconds."""
    step = AUDIO_HZ // 10
    piece = cut(audio, Segment(start_s, end_s))
    frames = piece[: len(piece) // step * step].reshape(-1, step)
    return start_s + (int(np.argmin(np.mean(frames**2, axis=1))) + 0.5) * step / AUDIO_HZ


def cut(audio: FloatArray, segment: Segment) -> FloatArray:
    """Return the samples of a segment of audio [N]."""
    start, stop = (round(time_s * AUDIO_HZ) for time_s in (segment.start_s, segment.end_s))
    return np.ascontiguousarray(audio[start:stop], dtype=np.float32)


def _to_segment(part: Any, piece: Segment, language: str | None) -> TranscribedSegment:
    """Turn faster-whisper's segment, timed from the piece's start, into ours, inside the piece."""

    def at(time_s: float) -> float:
        return min(piece.start_s + float(time_s), piece.end_s)

    words = tuple(
        Word(at(word.start), at(word.end), word.word.strip(), float(word.probability)) for word in part.words or ()
    )
    return TranscribedSegment(
        start_s=words[0].start_s if words else at(part.start),
        end_s=words[-1].end_s if words else at(part.end),
        text=part.text.strip(),
        words=words,
        avg_log_prob=float(part.avg_logprob),
        no_speech_prob=float(part.no_speech_prob),
        compression_ratio=float(part.compression_ratio),
        language=language,
    )
