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

import numpy as np

from annotators.lips.lip_signals import (
    MIN_FRAMES,
    SAMPLES_PER_FRAME,
    articulation,
    mouth_region_motion,
    moving_mean,
    speech_band_level_db,
)
from annotators.models import weights
from annotators.parts import Made
from annotators.protocols import Box
from annotators.protocols_speech import ByteArray, FloatArray
from schemas.time import GRID_HZ

CROP_PX = 112
LR_ASD_WEIGHT = "lr_asd_talkset.pt"
LR_ASD_WEIGHTS = (LR_ASD_WEIGHT, "lr_asd_ava.pt")
"""LR-ASD fine-tuned on TalkSet and as trained on AVA: they err on different faces, and the mean of both scores errs
less than either (docs/models.md)."""
_CROP_SIDE, _CROP_DOWN = 0.75, 0.22  # of the box's longer side


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

    The encoders run over the track piece by piece with all that their convolutions reach, so pieces change nothing.
    The recurrent detector then runs on windows of 2, 4 and 6 s with half overlap, and their scores are averaged: it
    was trained on short clips, and the mean of several window lengths is what the reference evaluation takes (1-6 s).
    """

    def __init__(self, weight_names: Sequence[str] = LR_ASD_WEIGHTS) -> None:
        """Load the weights by name. Raises WeightsNotFound; ValueError without a name."""
        if not weight_names:
            raise ValueError("LR-ASD needs at least one weight file")
        from annotators.lips.lr_asd_scores import LrAsdScores  # torch: where no model is loaded it is not needed

        made = self.made_of(weight_names)
        self.name, self.weights = made.name, made.weights
        self._networks = [LrAsdScores(weights.resolve(name)) for name in self.weights]

    @classmethod
    def made_of(cls, weight_names: Sequence[str] = LR_ASD_WEIGHTS) -> Made:
        """Name LR-ASD with these weights, as it stands beside its scores: `lr-asd(talkset+ava)`."""
        short = "+".join(name.removeprefix("lr_asd_").removesuffix(".pt") for name in weight_names)
        return Made(f"lr-asd({short})", tuple(weight_names))

    def scores(self, crops: ByteArray, audio: FloatArray, mouth_opening: FloatArray | None = None) -> FloatArray:
        """Return the raw speaking score [T] (> 0 speaks) of crops [T, 112, 112] and audio [T * 640].

        `crops` may be a memory map: it is read in pieces of about a second. Raises ValueError where shapes do not
        agree.
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


def _check(crops: ByteArray, audio: FloatArray) -> None:
    if crops.ndim != 3 or crops.shape[1:] != (CROP_PX, CROP_PX) or crops.dtype != np.uint8:
        raise ValueError(f"crops must be uint8 [T, {CROP_PX}, {CROP_PX}], got {crops.dtype} {crops.shape}")
    expected = len(crops) * SAMPLES_PER_FRAME
    if audio.ndim != 1 or abs(len(audio) - expected) > SAMPLES_PER_FRAME:
        raise ValueError(
            f"{len(crops)} frames at 25 Hz need {expected} samples at 16 kHz, got shape {audio.shape}: "
            "cut them with audio_of_frames(audio, first_frame, frames)"
        )
