"""Which recognised words are known, and which are a recogniser's guess.

Whisper writes fluent text for noise, crosstalk and languages that it does not understand. Its own defaults tell such
segments: a mean log probability below -1 or a compression ratio above 2.4 make it decode again; a no-speech probability
above 0.8 is LPM 1.0's limit. Within a sound segment single words are doubted by their own probability. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotators.protocols_speech import TranscribedSegment, Word


@dataclass(frozen=True, slots=True)
class KnownRule:
    """Least and greatest values of a known word and of its segment; see the stage's settings."""

    min_word: float = 0.3
    min_mean: float = 0.5
    min_avg_logprob: float = -1.0
    max_compression: float = 2.4
    max_no_speech: float = 0.8


def known_segment(segment: TranscribedSegment, rule: KnownRule) -> bool:
    """Say whether a decoded segment's text is more than a guess: sure, not repetitive, speech, in a known language."""
    words = [w.probability for w in segment.words]
    return (
        segment.language is not None
        and segment.avg_log_prob >= rule.min_avg_logprob
        and segment.compression_ratio <= rule.max_compression
        and segment.no_speech_prob <= rule.max_no_speech
        and bool(words)
        and float(np.mean(words)) >= rule.min_mean
    )


def known_word(word: Word, rule: KnownRule) -> bool:
    """Say whether a word of a known segment is known itself: surely heard, and spelt in whole characters.

    A recogniser of bytes may stop within a character; what is left of it is U+FFFD, however sure it was.
    """
    return word.probability >= rule.min_word and "\ufffd" not in word.text
