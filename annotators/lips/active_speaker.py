"""Active speaker: does this face speak, frame by frame.

LPM's three states rest on this score (its authors fine-tuned LR-ASD). Two back-ends: the LR-ASD network, and, where
its weights cannot be had, a heuristic that says so in its name. Both decide from mouth motion far more than from
synchrony: a talking face under somebody else's voice scores as high as under its own. So a score must be gated
by voice activity, and synchrony be measured apart (`lip_sync`).

Cost on one core with 512-bit vectors: LR-ASD 2.5 ms a face frame (10 ms as the network is written)
and 0.13 GB, the heuristic 0.05 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import python_speech_features
import torch
from torch import Tensor

from annotators.lips.lip_signals import (
    MIN_FRAMES,
    SAMPLES_PER_FRAME,
    articulation,
    mouth_region_motion,
    moving_mean,
    speech_band_level_db,
)
from annotators.lips.lr_asd import AUDIO_FRAMES_PER_VIDEO_FRAME, CONTEXT_FRAMES, FoldedVisualEncoder, LrAsd
from annotators.models import weights
from annotators.parts import Made
from annotators.protocols import Box
from annotators.protocols_speech import ByteArray, FloatArray
from schemas.time import AUDIO_HZ, GRID_HZ

CROP_PX = 112
LR_ASD_WEIGHT = "lr_asd_talkset.pt"
LR_ASD_WEIGHTS = (LR_ASD_WEIGHT, "lr_asd_ava.pt")
"""LR-ASD fine-tuned on TalkSet and as trained on AVA: they err on different faces, and the mean of both scores errs
less than either (docs/models.md)."""
_CROP_SIDE, _CROP_DOWN = 0.75, 0.22  # of the box's longer side
_CHUNK_FRAMES = 2 * GRID_HZ  # longer ones leave the processor's cache and are slower
_WINDOWS_FRAMES = (2 * GRID_HZ, 4 * GRID_HZ, 6 * GRID_HZ)
_WINDOW_BATCH = 64


def asd_crop_box(face: Box) -> Box:
    """Return the square, in pixels, that becomes the 112 x 112 crop of a face box (`faces_boxes.cut_square` cuts it).

    Its side is 0.75 of the face box's longer side and its centre lies 0.22 of that below the box's centre, so it holds
    the face from the brows to the chin. The reference evaluation (a crop 1.4 times the box, moved down by 0.2 of
    it, of which the middle half is used) amounts to 0.70 and 0.20 of S3FD's boxes. MediaPipe's detector boxes and the
    boundaries of its 478 landmarks differ little from those: on talking and listening footage every pair within
    0.70-0.90 and 0.15-0.24 gave 97-100 % of the frames right, landmark boundaries a little more than detector boxes.
    Smooth the boxes over time first (the reference takes a running median over 13 frames).
    Raises ValueError for an empty box.
    """
    side = max(face.w, face.h)
    if not side > 0:
        raise ValueError(f"an empty face box has no crop: {face}")
    width = _CROP_SIDE * side
    centre_x, centre_y = face.x + face.w / 2, face.y + face.h / 2 + _CROP_DOWN * side
    return Box(centre_x - width / 2, centre_y - width / 2, width, width)


def audio_of_frames(audio: FloatArray, first_frame: int, frames: int) -> FloatArray:
    """Return the [frames * 640] samples under 25 Hz frames from `first_frame` on, with zeros outside the audio."""
    start, stop = first_frame * SAMPLES_PER_FRAME, (first_frame + frames) * SAMPLES_PER_FRAME
    piece = audio[max(0, start) : max(0, stop)]
    before = min(max(0, -start), stop - start)
    return np.pad(piece, (before, stop - start - before - len(piece))).astype(np.float32, copy=False)


class LrAsdActiveSpeaker:
    """LR-ASD: the plain mean of the networks given, by default TalkSet's and AVA's.

    The encoders run over the track in chunks with the full context of their convolutions (9 frames), so chunking
    changes nothing. The recurrent detector then runs on windows of 2, 4 and 6 s with half overlap, and their scores
    are averaged: it was trained on short clips, and the mean of several window lengths is what the reference
    evaluation takes (1-6 s).
    """

    def __init__(self, weight_names: Sequence[str] = LR_ASD_WEIGHTS) -> None:
        """Load the weights by name. Raises WeightsNotFound; ValueError without a name."""
        if not weight_names:
            raise ValueError("LR-ASD needs at least one weight file")
        made = self.made_of(weight_names)
        self.name, self.weights = made.name, made.weights
        self._networks = [_Network(weights.resolve(name)) for name in self.weights]

    @classmethod
    def made_of(cls, weight_names: Sequence[str] = LR_ASD_WEIGHTS) -> Made:
        """Name LR-ASD with these weights, as it stands beside its scores: `lr-asd(talkset+ava)`."""
        short = "+".join(name.removeprefix("lr_asd_").removesuffix(".pt") for name in weight_names)
        return Made(f"lr-asd({short})", tuple(weight_names))

    def scores(self, crops: ByteArray, audio: FloatArray, mouth_opening: FloatArray | None = None) -> FloatArray:
        """Return the raw speaking score [T] (> 0 speaks) of crops [T, 112, 112] and audio [T * 640].

        `crops` may be a memory map: it is read in chunks of 2 s. Raises ValueError where shapes do not agree.
        """
        mean: FloatArray = self.each(crops, audio).mean(axis=0)
        return mean.astype(np.float32)

    def each(self, crops: ByteArray, audio: FloatArray, mouth_opening: FloatArray | None = None) -> FloatArray:
        """Return the scores [N, T] of the N networks; see `scores`."""
        _check(crops, audio)
        if len(crops) == 0:
            return np.zeros((len(self._networks), 0), np.float32)
        return np.stack([network.scores(crops, audio) for network in self._networks])

    def features(self, crops: ByteArray, audio: FloatArray) -> FloatArray:
        """Return the first network's features [T, 384] before the last layer: audio 128, visual 128, detector 128.

        For heads trained on the frozen network; the detector runs over the whole track at once. Raises ValueError
        where shapes do not agree.
        """
        _check(crops, audio)
        return self._networks[0].features(crops, audio)


class _Network:
    """One LR-ASD network."""

    def __init__(self, path: Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network = LrAsd()
        network.load_state_dict(state, strict=True)
        self._network = network.eval().requires_grad_(False)
        self._visual = FoldedVisualEncoder(network.model.visualEncoder)

    def scores(self, crops: ByteArray, audio: FloatArray) -> FloatArray:
        with torch.inference_mode():
            features = [self._encode(crops, audio, first) for first in range(0, len(crops), _CHUNK_FRAMES)]
            heard = torch.cat([audio_part for audio_part, _ in features])
            seen = torch.cat([visual_part for _, visual_part in features])
            by_window = [self._detect(heard, seen, length) for length in _WINDOWS_FRAMES]
        mean: FloatArray = np.mean(by_window, axis=0).astype(np.float32)
        return mean

    def features(self, crops: ByteArray, audio: FloatArray) -> FloatArray:
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


class EnvelopeActiveSpeaker:
    """Lip motion while there is sound: what can be said without a learned model.

    Calibrated on talking and listening footage: the root mean square over 1 s of the articulation band of
    `faces_mesh.mouth_opening` is 0.02-0.09 in talkers and 0.0013-0.0032 in listeners. Without it the mouth region's
    motion in the crops stands in (10-40 % of the contrast in talkers, 2-13 % in listeners, so it errs more).
    """

    name = "lip-motion-envelope-heuristic"
    weights: tuple[str, ...] = ()

    opening_rms_at_zero = 0.008  # between the two groups on a logarithmic scale
    motion_percent_at_zero = 12.0
    level_above_floor_db = 6.0
    silence_dbfs = -60.0

    def scores(self, crops: ByteArray, audio: FloatArray, mouth_opening: FloatArray | None = None) -> FloatArray:
        """Return a score [T], > 0 where lips move and sound is heard, of crops [T, 112, 112] and audio [T * 640].

        `mouth_opening` [T] is that of `faces_mesh` (nan where unknown); the score is the natural logarithm of
        motion over its threshold, or of sound over its own, whichever is lower.
        """
        _check(crops, audio)
        if len(crops) == 0:
            return np.zeros(0, np.float32)
        second = GRID_HZ
        if mouth_opening is not None and len(crops) >= MIN_FRAMES and np.isfinite(mouth_opening).any():
            rms = np.sqrt(moving_mean(articulation(mouth_opening) ** 2, second))
            lips = np.log(np.maximum(rms, 1e-6) / self.opening_rms_at_zero)
        else:
            motion = moving_mean(mouth_region_motion(crops), second)
            lips = 2 * np.log(np.maximum(motion, 1e-3) / self.motion_percent_at_zero)
        level = speech_band_level_db(audio_of_frames(audio, 0, len(crops)))
        smooth = 10 * np.log10(moving_mean(np.power(10, level / 10, dtype=np.float32), second))
        threshold = max(float(np.quantile(level, 0.05)) + self.level_above_floor_db, self.silence_dbfs)
        sound = (smooth - threshold) * np.log(10) / 20
        lower: FloatArray = np.minimum(lips, sound).astype(np.float32)
        return lower

    def each(self, crops: ByteArray, audio: FloatArray, mouth_opening: FloatArray | None = None) -> FloatArray:
        """Return the one score [1, T]; see `scores`."""
        return self.scores(crops, audio, mouth_opening)[None]


def _mfcc(audio: FloatArray, first_frame: int, frames: int) -> FloatArray:
    """Return MFCC [4 * frames, 13] under video frames, as python_speech_features defines them on 16-bit samples.

    One video frame before and after is computed as well and cut off, so that blocks join without a seam.
    """
    samples = audio_of_frames(audio, first_frame - 1, frames + 2).astype(np.float64) * 32768
    mfcc = python_speech_features.mfcc(samples, AUDIO_HZ, winlen=0.025, winstep=0.010, numcep=13)
    first = AUDIO_FRAMES_PER_VIDEO_FRAME
    return np.ascontiguousarray(mfcc[first : first + frames * AUDIO_FRAMES_PER_VIDEO_FRAME], dtype=np.float32)


def _check(crops: ByteArray, audio: FloatArray) -> None:
    if crops.ndim != 3 or crops.shape[1:] != (CROP_PX, CROP_PX) or crops.dtype != np.uint8:
        raise ValueError(f"crops must be uint8 [T, {CROP_PX}, {CROP_PX}], got {crops.dtype} {crops.shape}")
    expected = len(crops) * SAMPLES_PER_FRAME
    if audio.ndim != 1 or abs(len(audio) - expected) > SAMPLES_PER_FRAME:
        raise ValueError(
            f"{len(crops)} frames at 25 Hz need {expected} samples at 16 kHz, got shape {audio.shape}: "
            "cut them with audio_of_frames(audio, first_frame, frames)"
        )
