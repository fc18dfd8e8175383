"""LR-ASD over whole tracks: encoders piece by piece, the detector on windows of several lengths.

What needs torch of `active_speaker`, whose other parts are read where no model is loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import python_speech_features
import torch
from torch import Tensor

from annotators.lips.active_speaker import audio_of_frames
from annotators.lips.lr_asd import AUDIO_FRAMES_PER_VIDEO_FRAME, CONTEXT_FRAMES, LrAsd
from annotators.lips.lr_asd_folded import PIECE_FRAMES, FoldedVisualEncoder
from annotators.protocols_speech import ByteArray, FloatArray
from schemas.time import AUDIO_HZ, GRID_HZ

_SOUND_FRAMES = 8 * GRID_HZ  # sound is read so many frames at once, and the context around them
_WINDOWS_FRAMES = (2 * GRID_HZ, 4 * GRID_HZ, 6 * GRID_HZ)
_WINDOW_BATCH = 64


class LrAsdScores:
    """One LR-ASD network, over tracks of any length."""

    def __init__(self, path: Path) -> None:
        """Load the weights."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        network = LrAsd()
        network.load_state_dict(state, strict=True)
        self._network = network.eval().requires_grad_(False)
        self._visual = FoldedVisualEncoder(network.model.visualEncoder)

    def scores(self, crops: ByteArray, audio: FloatArray) -> FloatArray:
        """Return the speaking score [T] of crops [T, 112, 112] and audio [T * 640]."""
        with torch.inference_mode():
            heard, seen = self._heard(audio, len(crops)), self._seen(crops)
            by_window = [self._detect(heard, seen, length) for length in _WINDOWS_FRAMES]
        mean: FloatArray = np.mean(by_window, axis=0).astype(np.float32)
        return mean

    def features(self, crops: ByteArray, audio: FloatArray) -> FloatArray:
        """Return the features [T, 384] before the last layer."""
        with torch.inference_mode():
            heard, seen = self._heard(audio, len(crops)), self._seen(crops)
            model = self._network.model
            both = model.detector(model.fusion(torch.cat((heard, seen), dim=1).unsqueeze(0)))[0]
            return np.asarray(torch.cat((heard, seen, both), dim=1).numpy(), np.float32)

    def _seen(self, crops: ByteArray) -> Tensor:
        """Return visual features [T, 128]."""
        pieces = (torch.from_numpy(np.array(crops[n : n + PIECE_FRAMES])) for n in range(0, len(crops), PIECE_FRAMES))
        return torch.cat(list(self._visual.pieces(piece[None] for piece in pieces)), dim=1)[0]

    def _heard(self, audio: FloatArray, frames: int) -> Tensor:
        """Return audio features [T, 128] under the video frames."""
        parts = []
        for first in range(0, frames, _SOUND_FRAMES):
            last = min(frames, first + _SOUND_FRAMES)
            start, stop = max(0, first - CONTEXT_FRAMES), min(frames, last + CONTEXT_FRAMES)
            mfcc = torch.from_numpy(_mfcc(audio, start, stop - start))
            parts.append(self._network.model.audioEncoder(mfcc[None])[0, first - start : last - start])
        return torch.cat(parts)

    def _detect(self, heard: Tensor, seen: Tensor, length: int) -> FloatArray:
        """Return scores [T], averaged over windows of `length` frames that overlap by half."""
        frames = len(heard)
        length = min(length, frames)
        starts = list(range(0, frames - length + 1, max(1, length // 2)))
        if starts[-1] + length < frames:
            starts.append(frames - length)
        total, count = np.zeros(frames, np.float32), np.zeros(frames, np.float32)
        for at in range(0, len(starts), _WINDOW_BATCH):
            batch = starts[at : at + _WINDOW_BATCH]
            window = [slice(start, start + length) for start in batch]
            scores = self._network.detect(
                torch.stack([heard[own] for own in window]), torch.stack([seen[own] for own in window])
            )
            for own, row in zip(window, scores.numpy(), strict=True):
                total[own] += row
                count[own] += 1
        return total / count


def _mfcc(audio: FloatArray, first_frame: int, frames: int) -> FloatArray:
    """Return MFCC [4 * frames, 13] under video frames, as python_speech_features defines them on 16-bit samples.

    One video frame before and after is computed as well and cut off, so that blocks join without a seam.
    """
    samples = audio_of_frames(audio, first_frame - 1, frames + 2).astype(np.float64) * 32768
    mfcc = python_speech_features.mfcc(samples, AUDIO_HZ, winlen=0.025, winstep=0.010, numcep=13)
    first = AUDIO_FRAMES_PER_VIDEO_FRAME
    return np.ascontiguousarray(mfcc[first : first + frames * AUDIO_FRAMES_PER_VIDEO_FRAME], dtype=np.float32)
