"""What a portrait shows as a reference: from which side, with which expression, and how good the picture is.

The paper (arXiv 2604.07823, reference extraction) sorts body views by the angle between body and camera: frontal from
155 degrees, rear up to 45, else a profile. The body's yaw (by the shoulders) is 180 minus that angle; where a picture
shows no shoulders the head's yaw stands for it. Here a profile begins where a person would call it one, at 45 degrees
of yaw; between 25 and 45 it is a three-quarter view.
Pure functions; microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from annotators.face.mesh import BLENDSHAPES
from annotators.face.sizes import NEUTRAL_NEEDS, readable_parts
from annotators.performance.signal_series import EYE_DEG_PER_UNIT, Series

View = Literal["frontal", "left_three_quarter", "right_three_quarter", "left_profile", "right_profile", "rear"]
FaceExpression = Literal[
    "neutral", "smile", "open_smile", "open_mouth", "surprise", "frown", "pout", "eyes_closed", "unknown"
]

FRONTAL_LEAST_DEG, REAR_MOST_DEG = 155.0, 45.0
"""The paper's limits on the angle between body orientation and camera."""
_PROFILE_MOST_DEG = 135.0
"""From here down to the rear a view is a profile (45 degrees of yaw and more), above it a three-quarter view."""

_INDEX = {name: i for i, name in enumerate(BLENDSHAPES)}
_BIAS_CAP, _BROW_BIAS_CAP = 0.2, 0.4
_BIAS_CAPS = np.array([_BROW_BIAS_CAP if name.startswith("browDown") else _BIAS_CAP for name in BLENDSHAPES])
_GRIN = 0.45
_LOOKS_DOWN_DEG = 12.0
_GOOD_FACE_PX, _HALF_SHARPNESS = 256.0, 15.0
_SHUT_EYE, _OPEN_EYE = 0.12, 0.24


def view_from_orientation(theta_deg: float, side: float) -> View:
    """Return the view from the angle between the body's facing and the camera's, 180 = face to face.

    `side` > 0 means that the body points to image right, < 0 to image left; only side views depend on it. A left
    profile shows the subject's left side, and so points to image left. Raises ValueError outside [0, 180] degrees.
    """
    if not 0 <= theta_deg <= 180:
        raise ValueError(f"the angle between body and camera is {theta_deg} degrees, must lie in [0, 180]")
    if theta_deg >= FRONTAL_LEAST_DEG:
        return "frontal"
    if theta_deg <= REAR_MOST_DEG:
        return "rear"
    if theta_deg > _PROFILE_MOST_DEG:
        return "right_three_quarter" if side > 0 else "left_three_quarter"
    return "right_profile" if side > 0 else "left_profile"


def view_from_yaw(yaw_deg: float) -> View:
    """Return the view from the yaw of body or head, in degrees, > 0 = to image right; |yaw| up to 25 is frontal.

    Raises ValueError outside [-180, 180].
    """
    return view_from_orientation(180.0 - abs(yaw_deg), yaw_deg)


@dataclass(frozen=True, slots=True)
class ExpressionLabel:
    """The clearest expression of one frame, with a score in [0, 1]; not a calibrated probability."""

    name: FaceExpression
    score: float


def expression_of(
    blendshapes: Series, baseline: Series | None = None, pitch_deg: float = 0.0, face_px: float = np.inf
) -> ExpressionLabel:
    """Return the expression label of one frame's blendshapes [52], one that a person would give the picture.

    Each candidate is scored by its coefficients above the person's bias (`baseline` [52], the track's median, at most
    0.2 of it, 0.4 of the brows': heavy brows at rest measure 0.6); 0.5 is the line at which it beats neutral, whose
    score is 1 minus the strongest other. A smile counts as it is, from 0.75 on: stretched vowels reach 0.7. It
    excludes a frown and a pout, which a grin's brows and lips look like to the coefficients; half a smile makes
    neutral less clear. Lids lowered with head (`pitch_deg`) and eyes are not closed eyes. What a face of `face_px`
    (shorter side of its box) is too small for is no candidate; without mouth and brows the label is unknown, score 0.
    Raises ValueError for a wrong number of coefficients.
    """
    values = raw = np.asarray(blendshapes, np.float64)
    if values.shape != (len(BLENDSHAPES),):
        raise ValueError(f"blendshapes has shape {values.shape}, expected ({len(BLENDSHAPES)},)")
    if baseline is not None:
        values = np.maximum(values - np.minimum(np.asarray(baseline, np.float64), _BIAS_CAPS), 0.0)
    readable = readable_parts(face_px)
    if not readable >= NEUTRAL_NEEDS:
        return ExpressionLabel("unknown", 0.0)

    def both(name: str, of: Series = values) -> float:
        return float(of[_INDEX[name + "Left"]] + of[_INDEX[name + "Right"]]) / 2

    def line(value: float, at_half: float, at_zero: float = 0.0) -> float:
        return float(np.clip(0.5 * (value - at_zero) / (at_half - at_zero), 0.0, 1.0))

    smile, jaw = both("mouthSmile", raw), float(values[_INDEX["jawOpen"]])
    brows = (both("browOuterUp") + float(values[_INDEX["browInnerUp"]])) / 2
    shut = min(float(raw[_INDEX["eyeBlinkLeft"]]), float(raw[_INDEX["eyeBlinkRight"]]))  # lids carry little bias
    looks_deg = pitch_deg + EYE_DEG_PER_UNIT * (both("eyeLookUp", raw) - both("eyeLookDown", raw))
    startled = max(line(brows, 0.4), line(both("eyeWide"), 0.08) if "lids" in readable else 0.0)
    scores: dict[FaceExpression, float] = {
        "eyes_closed": line(shut, 0.5) if "lids" in readable and looks_deg >= -_LOOKS_DOWN_DEG else 0.0,
        "surprise": min(startled, line(jaw, 0.3)),
        "open_smile": min(line(smile, 0.75, 0.5), line(jaw + both("mouthUpperUp"), 0.35)),
        "smile": line(smile, 0.75, 0.5),
        "open_mouth": line(jaw, 0.35) * 0.95,  # so that surprise wins where both are clear
        "frown": line(both("browDown"), 0.3) if smile < _GRIN else 0.0,
        "pout": line(both("mouthFrown"), 0.25) if smile < _GRIN else 0.0,
    }
    name = max(scores, key=lambda key: scores[key])
    if scores[name] < 0.5:
        return ExpressionLabel("neutral", 1.0 - max(scores[name], min(0.5, line(smile, 0.75))))
    return ExpressionLabel(name, scores[name])


def portrait_quality(sharpness: float, eye_open: float, face_px: float, yaw_deg: float = 0.0) -> float:
    """Return a quality in [0, 1] for choosing reference frames: the geometric mean of sharpness, size and open eyes.

    `sharpness` is that of the face by `picture.sharpness` (half marks at 15, the low end of good footage), `eye_open`
    the eye aspect ratio (0.12 shut, 0.24 open), `face_px` the face box's shorter side (full marks from 256 px). Shut
    eyes leave a quarter, because a closed-eye expression may be wanted; beyond 25 degrees of yaw the eyes, seen from
    the side, are not judged. Raises ValueError for negative or non-finite measures.
    """
    if (
        not all(np.isfinite(v) for v in (sharpness, eye_open, face_px, yaw_deg))
        or min(sharpness, eye_open, face_px) < 0
    ):
        raise ValueError(f"sharpness {sharpness}, eye_open {eye_open}, face_px {face_px}: finite and >= 0 expected")
    sharp = sharpness / (sharpness + _HALF_SHARPNESS)
    size = min(1.0, face_px / _GOOD_FACE_PX)
    eyes = 0.25 + 0.75 * float(np.clip((eye_open - _SHUT_EYE) / (_OPEN_EYE - _SHUT_EYE), 0.0, 1.0))
    if abs(yaw_deg) > 180.0 - FRONTAL_LEAST_DEG:
        eyes = 1.0
    return float((sharp * size * eyes) ** (1 / 3))
