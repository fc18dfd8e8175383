"""Voice activity: Silero VAD v6 through onnxruntime, and the pure step from probabilities to segments.

Speech times are the backbone of every later decision (who speaks, who listens, where to cut), so they must be exact
to 0.1 s. The model reads 32 ms at a time and carries a recurrent state; audio goes through it in blocks, so
memory does not grow with length. Cost: about 1/800 of real time on one core, 0.1 GB. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotators.models import weights
from annotators.models.onnx_session import open_session
from annotators.protocols_speech import FloatArray, Segment, SpeechProbability
from schemas.time import AUDIO_HZ

_SILERO_WEIGHT = "silero_vad_v6.onnx"
_CHUNK_SAMPLES = 512  # 32 ms, the only chunk the model knows at 16 kHz
_CONTEXT_SAMPLES = 64  # the end of the chunk before, which the model reads again
_STATE_SHAPE = (1, 1, 128)
_BLOCK_CHUNKS = 250  # 8 s; the model keeps 0.3 MB of activations for each chunk of a block


@dataclass(frozen=True)
class SegmentRule:
    """How probabilities become segments.

    Defaults are those of Silero's own `get_speech_timestamps` for the two thresholds (on at 0.5, off 0.15 below)
    and for the shortest speech (0.25 s). It bridges silences of 0.1 s and pads by 0.03 s; here pauses up to 0.2 s
    are bridged, because a shorter one is a stop consonant or a breath within a phrase, not a change of state.
    """

    on_threshold: float = 0.5
    off_threshold: float = 0.35
    min_speech_s: float = 0.25
    min_silence_s: float = 0.2
    pad_s: float = 0.03

    def __post_init__(self) -> None:
        if not 0 <= self.off_threshold <= self.on_threshold <= 1:
            raise ValueError(
                f"need 0 <= off_threshold <= on_threshold <= 1, got {self.off_threshold} and {self.on_threshold}"
            )
        if min(self.min_speech_s, self.min_silence_s, self.pad_s) < 0:
            raise ValueError("durations must not be negative")


class SileroVoiceActivity:
    """Silero VAD v6. Deterministic: one thread, fixed chunks."""

    name = "silero-vad-v6"
    weights: tuple[str, ...] = (_SILERO_WEIGHT,)

    def __init__(self, path: Path | None = None) -> None:
        """Load the model from `path`, or through the weights resolver."""
        self._session = open_session(path or weights.resolve(_SILERO_WEIGHT), arena=False)

    def probability(self, audio: FloatArray) -> SpeechProbability:
        """Return the speech probability of each 32 ms of audio [N]; the last chunk is filled up with silence."""
        if audio.ndim != 1:
            raise ValueError(f"audio must be mono [N], got shape {audio.shape}")
        state = np.zeros(_STATE_SHAPE, np.float32), np.zeros(_STATE_SHAPE, np.float32)
        context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        values = []
        for first in range(0, len(audio), _BLOCK_CHUNKS * _CHUNK_SAMPLES):
            block = audio[first : first + _BLOCK_CHUNKS * _CHUNK_SAMPLES].astype(np.float32, copy=False)
            block = np.pad(block, (0, -len(block) % _CHUNK_SAMPLES))
            chunks = block.reshape(-1, _CHUNK_SAMPLES)
            before = np.vstack((context[None], chunks[:-1, -_CONTEXT_SAMPLES:]))
            context = chunks[-1, -_CONTEXT_SAMPLES:]
            feed = {"input": np.hstack((before, chunks)), "h": state[0], "c": state[1]}
            output, *state = self._session.run(None, feed)
            values.append(np.asarray(output, np.float32).reshape(-1))
        joined = np.concatenate(values) if values else np.zeros(0, np.float32)
        return SpeechProbability(joined, _CHUNK_SAMPLES / AUDIO_HZ, len(audio) / AUDIO_HZ)


def speech_segments(probability: SpeechProbability, rule: SegmentRule | None = None) -> list[Segment]:
    """Return the speech segments of a probability series, in order of time and apart from each other.

    Hysteresis: speech starts where the probability reaches `on_threshold` and goes on until it stays below
    `off_threshold` for `min_silence_s`; what is then shorter than `min_speech_s` is no speech; `pad_s` is added on
    both sides, at most half of the pause between two segments, and never beyond the series.
    """
    rule = rule or SegmentRule()
    step_s, values = probability.step_s, probability.values
    runs: list[list[int]] = []
    speaking = False
    for index, value in enumerate(values):
        if not speaking and value >= rule.on_threshold:
            speaking = True
            if runs and (index - runs[-1][1]) * step_s < rule.min_silence_s:
                runs[-1][1] = index + 1
            else:
                runs.append([index, index + 1])
        elif speaking and value >= rule.off_threshold:
            runs[-1][1] = index + 1
        else:
            speaking = False
    kept = [
        (a * step_s, min(b * step_s, probability.duration_s)) for a, b in runs if (b - a) * step_s >= rule.min_speech_s
    ]
    segments = []
    for number, (start_s, end_s) in enumerate(kept):
        room_before_s = (start_s - kept[number - 1][1]) / 2 if number else start_s
        is_last = number + 1 == len(kept)
        room_after_s = probability.duration_s - end_s if is_last else (kept[number + 1][0] - end_s) / 2
        segments.append(Segment(start_s - min(rule.pad_s, room_before_s), end_s + min(rule.pad_s, room_after_s)))
    return segments
