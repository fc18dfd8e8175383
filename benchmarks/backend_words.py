"""Recognisers and aligners against words whose times are known; part of `backends.py`.

The sounds and counts are those of `word_times.py`; every aligner times what one recogniser heard.
"""

from __future__ import annotations

from pathlib import Path

import word_times
from backend_footage import Tried

from annotators.protocols_speech import Aligner, Transcriber, Transcript
from annotators.words.transcriber import WhisperTranscriber
from annotators.words.word_times import aligned
from schemas.time import AUDIO_HZ


def transcriber(part: Transcriber, folder: Path | None) -> Tried | None:
    """Return what a recogniser hears: words wrong, and the errors of their times."""
    return _tried(folder, part, None)


def aligner(part: Aligner | None, folder: Path | None) -> Tried | None:
    """Return how well the words of Whisper base are timed, by an aligner or by Whisper itself."""
    return _tried(folder, None, part)


def _tried(folder: Path | None, recogniser: Transcriber | None, part: Aligner | None) -> Tried | None:
    if folder is None:
        return None
    tried, tally = Tried(), word_times.Tally()
    heard_by = recogniser or WhisperTranscriber("base")
    for sound in word_times.sounds(folder, None):
        length_s = len(sound.audio) / AUDIO_HZ
        if recogniser is not None:
            with tried.at_work(length_s):
                transcript = recogniser.transcribe(sound.audio, sound.speech)
        else:
            transcript = heard_by.transcribe(sound.audio, sound.speech)
            with tried.at_work(length_s):
                transcript = transcript if part is None else aligned(transcript, sound.audio, part)
        word_times.count(tally, sound, transcript)
        tried.said += _heard(transcript, length_s)
    found = word_times.summary(tally)
    tried.figures = {
        "words": float(found["words"]),
        "word_error_rate": found["word_error_rate"],
        "aligned": found["aligned"],
        **{f"{end}_ms_{k}": v for end in ("start", "end") for k, v in found[f"{end}_ms"].items()},
    }
    return tried


def _heard(transcript: Transcript, length_s: float) -> list[int | str | None]:
    """Return the word that is said at every tenth of a second, as a recogniser puts it."""
    said: list[int | str | None] = [None] * int(10 * length_s)
    for word in transcript.words:
        for k in range(max(0, round(10 * word.start_s)), min(len(said), round(10 * word.end_s))):
            said[k] = word_times.plain(word.text)
    return said
