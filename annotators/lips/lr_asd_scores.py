"""LR-ASD over whole tracks: encoders in chunks with their context, the detector on windows of several lengths.

What needs torch of `active_speaker`, whose other parts are read where no model is loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import python_speech_features
import torch
from torch import Tensor

from annotators.lips.active_speaker import audio_of_frames
from annotators.lips.lr_asd import AUDIO_FRAMES_PER_VIDEO_FRAME, CONTEXT_FRAMES, FoldedVisualEncoder, LrAsd
from annotators.protocols_speech import ByteArray, FloatArray
from schemas.time import AUDIO_HZ, GRID_HZ

_CHUNK_FRAMES = 2 * GRID_HZ  # longer ones leave the processor's cache and are slower
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
            features = [self._encode(crops, audio, first) for first in range(0, len(crops), _CHUNK_FRAMES)]
            heard = torch.cat([audio_part for audio_part, _ in features])
            seen = torch.cat([visual_part for _, visual_part in features])
            by_window = [self._detect(heard, seen, length) for length in _WINDOWS_FRAMES]
        mean: FloatArray = np.mean(by_window, axis=0).astype(np.float32)
        return mean

    def features(self, crops: ByteArray, audio: FloatArray) -> FloatArray:
        """Return the features [T, 384] before the last layer."""
        with torch.inference_mode():
            parts = [self._encode(crops, audio, first) for first in range(0, len(crops), _CHUNK_FRAMES)]
            heard, seen = torch.cat([a for a, _ in parts]), torch.cat([v for _, v in parts])
            model = self._network.model
            both = model.detector(model.fusion(torch.cat((heard, seen), dim=1).unsqueeze(0)))[0]
            return np.asarray(torch.cat((heard, seen, both), dim=1).numpy(), np.float32)

    def _encode(self, crops: ByteArray, audio: FloatArray, first: int) -> tuple[Tensor, Tensor]:
        """Return audio and visual features [n, 128] of the chunk that begins at frame `first`."""
        last = min(len(crops), first + _CHUNK_FRAMES)
        start, stop = max(0, first - CONTEXT_FRAMES), min(len(crops), last + CONTEXT_FRAMES)
        mfcc = torch.from_numpy(_mfcc(audio, start, stop - start))
        pixels = torch.from_numpy(np.array(crops[start:stop]))
        own = slice(first - start, last - start)
        return self._network.model.audioEncoder(mfcc[None])[0, own], self._visual(pixels[None])[0, own]

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
