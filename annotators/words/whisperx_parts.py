"""The parts of whisperx that are used: its search for words in CTC scores, its pipeline, its network for speech.

Imports whisperx, and with it torch, torchaudio and transformers: several seconds. Import it through
`annotators.speech.quiet_import.whisperx`, which turns usage reports off first and says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from whisperx import alignment, asr
from whisperx.vads.pyannote import Binarize, Pyannote
from whisperx.vads.vad import Vad

from annotators.protocols_speech import FloatArray, Segment
from schemas.time import AUDIO_HZ

__all__ = ["GivenSpeech", "alignment", "asr", "speech_network"]


class GivenSpeech(Vad):  # type: ignore[misc]
    """A detector, as whisperx's pipeline wants one, that answers with the pieces it was given."""

    pieces: Sequence[Segment] = ()

    def __call__(self, audio: Any, **_: Any) -> Sequence[Segment]:
        """Return the pieces."""
        return self.pieces

    @staticmethod
    def preprocess_audio(audio: FloatArray) -> FloatArray:
        """Return the sound as it is."""
        return audio

    @staticmethod
    def merge_chunks(segments: Sequence[Segment], chunk_size: int, onset: float, offset: float) -> list[dict[str, Any]]:
        """Return the pieces as the pipeline reads them, none joined."""
        return [{"start": s.start_s, "end": s.end_s} for s in segments]


def speech_network(file: str, device: str, onset: float, offset: float) -> Callable[[FloatArray], list[Segment]]:
    """Return a function from audio [N] at 16 kHz to its speech, by whisperx's bundled network.

    Speech begins where the score passes `onset` and ends where it falls below `offset`, both 0 to 1.
    """
    network = Pyannote(torch.device(device), model_fp=file, vad_onset=onset, vad_offset=offset)
    binary = Binarize(onset=onset, offset=offset)

    def heard(audio: FloatArray) -> list[Segment]:
        scores = network({"waveform": network.preprocess_audio(audio), "sample_rate": AUDIO_HZ})
        return [Segment(part.start, part.end) for part in binary(scores).get_timeline()]

    return heard
