"""Who speaks when, heard in a recording: by the pipeline's diarizer in a mixture, by voice activity in channels.

The back-ends are those of stage `speech`. They hear a stretch whole at 16 kHz (230 MB an hour), which goes before
anything is generated. Cost: a sixth of real time for a mixture, a hundredth for channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from annotators.protocols_speech import FloatArray, Segment, SpeechProbability, Turn
from annotators.speech.vad import SegmentRule, speech_segments
from curation.media.audio import AudioReader
from schemas.time import AUDIO_HZ, GRID_HZ
from stages.speech.channels import levels_db
from stages.speech.speech import SpeechSettings
from workflows.performing.voices import PEOPLE
from workflows.usage import UsageError

HEURISTIC = "channel-levels-heuristic"
"""What tells channels of one person each from stereo; a rule of thumb on levels, no model."""

_LOUDER_DB = 10.0
"""Somebody's own channel is that much louder than the other's; in stereo of a room it hardly ever is."""

_ONE_SIDED, _EACH = 0.5, 0.05
"""Of the frames with speech so many are one-sided, and so many on each side, where a channel is a person's."""

_BLEED_DB = 12.0
"""Speech so much fainter than the other channel's, each against its own loudest, is the other's heard there too."""

_FAINTEST_DB = 15.0
"""Between two people's own loudest there is no more than that."""

_BLOCK_S = 20


@dataclass(frozen=True)
class Heard:
    """Turns on the recording's clock, what found them (names, settings, hashes of weights), and what is to be told."""

    turns: list[Turn]
    by: dict[str, str]
    notes: list[str] = field(default_factory=list)


def speech_settings(diarizer: str | dict[str, Any] | None) -> SpeechSettings:
    """Return the settings of stage `speech` with the diarizer that was asked for. Raises UsageError."""
    try:
        return SpeechSettings.model_validate({} if diarizer is None else {"diarizer": diarizer})
    except ValidationError as e:
        raise UsageError(f"--diarizer: {e.errors()[0]['msg'].removeprefix('Value error, ')}") from e


def load(reader: AudioReader, start_s: float, end_s: float) -> FloatArray:
    """Read a stretch whole, block by block: [N], or [C, N] of a reader of channels."""
    first, last, block = round(start_s * AUDIO_HZ), round(end_s * AUDIO_HZ), _BLOCK_S * AUDIO_HZ
    parts = [reader.read_samples(a, min(a + block, last)) for a in range(first, last, block)]
    return np.concatenate(parts, axis=-1) if parts else np.zeros(0, np.float32)


def diarized(audio: FloatArray, start_s: float, settings: SpeechSettings) -> Heard:
    """Return who speaks when in a mixture [N] at 16 kHz that begins at `start_s` of its recording.

    A diarizer is not told how many there are, and whoever it finds is told: voices of one person that it took for two
    are as unlike as those of two people it found (0.35 to 0.54 on real conversations), so none are joined here.

    Raises WeightsNotFound, PartNotInstalledError.
    """
    activity, embedder = settings.vad.build(), settings.embedder.build()
    diarizer = settings.diarizer.build(embedder=embedder)
    rule = SegmentRule(on_threshold=settings.on_threshold, off_threshold=settings.off_threshold)
    speech = speech_segments(activity.probability(audio), rule)
    turns = diarizer.diarize(audio, speech) if speech else []
    by = settings.vad.provenance("vad") | settings.diarizer.provenance("diarizer")
    by |= settings.embedder.provenance("embedder")
    return Heard([Turn(t.start_s + start_s, t.end_s + start_s, t.speaker) for t in turns], by)


def in_channels(audio_CN: FloatArray, start_s: float, settings: SpeechSettings, asked: bool) -> Heard | None:
    """Return who speaks when in two channels of one person each, or None where they are not.

    Args:
        audio_CN: [2, N] at 16 kHz, from `start_s` of its recording on.
        start_s: seconds.
        settings: which voice activity.
        asked: somebody says that the channels are people; they are not judged then.
    """
    activity = settings.vad.build()
    found = [activity.probability(np.ascontiguousarray(channel)) for channel in audio_CN]
    levels_CK = levels_db(audio_CN)
    speech_CK = np.stack([_on_grid(p, levels_CK.shape[1]) >= settings.on_threshold for p in found])
    share, sides = one_sided(levels_CK, speech_CK)
    apart = share >= _ONE_SIDED and min(sides) >= _EACH
    if not (apart or asked):
        return None
    rule = SegmentRule(on_threshold=settings.on_threshold, off_threshold=settings.off_threshold)
    turns = []
    for person, p, bleeds_K in zip(PEOPLE, found, bleed(levels_CK, speech_CK), strict=True):
        at = np.minimum(((np.arange(len(p.values)) + 0.5) * p.step_s * GRID_HZ).astype(int), levels_CK.shape[1] - 1)
        own = SpeechProbability(np.where(bleeds_K[at], 0, p.values).astype(np.float32), p.step_s, p.duration_s)
        turns += [Turn(s.start_s + start_s, s.end_s + start_s, person) for s in _segments(own, rule)]
    by = settings.vad.provenance("vad") | {"channels": "asked for" if asked else HEURISTIC}
    said = f"in {share:.0%} of the frames with speech one channel is {_LOUDER_DB:g} dB louder than the other"
    note = f"two channels, a person each, as {'you say' if asked else HEURISTIC + ' finds'}: {said}"
    return Heard(turns, by, [note + ("" if asked else "; --mixed takes them for one mixture")])


def _segments(p: SpeechProbability, rule: SegmentRule) -> list[Segment]:
    return [s for s in speech_segments(p, rule) if s.duration_s > 0]


def _on_grid(p: SpeechProbability, steps: int) -> FloatArray:
    """Return the probability at the middle of each 40 ms, [steps]."""
    if not len(p.values):
        return np.zeros(steps, np.float32)
    at = ((np.arange(steps) + 0.5) / GRID_HZ / p.step_s).astype(int)
    return np.asarray(p.values[np.minimum(at, len(p.values) - 1)], np.float32)


def one_sided(levels_CK: FloatArray, speech_CK: NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """Return the share of speech frames in which one of two channels is 10 dB louder, and the share of each channel."""
    difference = (levels_CK[0] - levels_CK[1])[speech_CK.any(axis=0)]
    if not len(difference):
        return 0.0, (0.0, 0.0)
    sides = float((difference >= _LOUDER_DB).mean()), float((difference <= -_LOUDER_DB).mean())
    return sum(sides), sides


def bleed(levels_CK: FloatArray, speech_CK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return [2, K]: what is heard in this channel is the other's voice, far fainter than its own is."""
    loudest = [
        float(np.percentile(levels[speech], 95)) if speech.any() else 0.0
        for levels, speech in zip(levels_CK, speech_CK, strict=True)
    ]
    # A channel in which only the other is heard must not count as a soft speaker's.
    loudest = [max(level, max(loudest) - _FAINTEST_DB) for level in loudest]
    fainter = (levels_CK[1] - loudest[1]) - (levels_CK[0] - loudest[0])
    return np.stack([fainter > _BLEED_DB, -fainter > _BLEED_DB])
