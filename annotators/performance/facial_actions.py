"""Facial actions from blendshapes: smile, laugh, brows, lids, blinks, lips, jaw, with spans and confidences.

Rules on MediaPipe's 52 coefficients with hysteresis. Thresholds were set by looking at real faces; the model never
raises its nose, cheek and tongue coefficients, so those actions rest on their neighbours. Confidences grow with
strength and are not calibrated. Pure functions; about a millisecond a segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from annotators.performance.signal_series import (
    EYE_DEG_PER_UNIT,
    Baseline,
    Event,
    FaceSignals,
    Mask,
    Series,
    end_time,
    low_pass,
    span_event,
    spans,
)
from schemas.time import GRID_HZ


@dataclass(frozen=True, slots=True)
class Rule:
    """Thresholds of one action on the sum of weighted blendshapes, after the baseline was taken off.

    `bias_cap` is how much of the person's median counts as bias: infinite for actions that are brief by nature
    (a brow held up for a whole track is anatomy or a low camera), small for those that can last (a smile).
    `full` is the value at which the confidence reaches its maximum.
    """

    name: str
    shapes: dict[str, float]
    on: float
    off: float
    full: float
    min_s: float
    bias_cap: float


RULES = (
    Rule("smile", {"mouthSmile": 1.0}, on=0.35, off=0.22, full=0.75, min_s=0.4, bias_cap=0.2),
    Rule("brow_raise", {"browInnerUp": 0.5, "browOuterUp": 0.5}, 0.25, 0.15, 0.6, 0.2, np.inf),
    Rule("frown", {"browDown": 1.0}, 0.25, 0.15, 0.6, 0.3, 0.4),  # heavy brows at rest measure up to 0.6
    Rule("squint", {"eyeSquint": 1.0}, 0.35, 0.25, 0.6, 0.3, 0.3),
    Rule("wide_eyes", {"eyeWide": 1.0}, 0.06, 0.04, 0.2, 0.2, 0.03),
    Rule("lip_press", {"mouthPress": 1.0, "mouthRollLower": 0.5, "mouthRollUpper": 0.5}, 0.35, 0.25, 0.7, 0.3, 0.15),
    Rule("pucker", {"mouthPucker": 1.0}, 0.4, 0.25, 0.8, 0.3, 0.15),
    Rule("mouth_frown", {"mouthFrown": 1.0, "mouthShrugLower": 0.6}, 0.2, 0.12, 0.5, 0.4, 0.1),
    Rule("jaw_open", {"jawOpen": 1.0}, 0.35, 0.25, 0.7, 0.4, 0.1),
    Rule("nose_wrinkle", {"noseSneer": 1.0, "mouthUpperUp": 0.7, "browDown": 0.7}, 0.6, 0.45, 1.0, 0.2, 0.2),
)
"""On, off and full are shares of the coefficient's range; see `Rule`."""

_BLINK_PROMINENCE = 0.25
_BLINK_MAX_S = 0.5  # Blinks last 0.1-0.4 s; longer closures are eyes closed.
_CLOSED, _CLOSED_OFF = 0.45, 0.35
SMILES = 0.45
"""From this smile on, brows, nose and lip corners tell nothing else: a grin lowers the brows and wrinkles the nose."""
_NOT_SMILING = ("frown", "nose_wrinkle", "mouth_frown", "lip_press", "pucker")
_SPEAKING_SMILE = (0.75, 0.5)
"""On and off while speaking: stretched vowels alone bring the smile coefficient to 0.7."""
_LOOKS_DOWN_DEG = 12.0
"""Head and eyes lowered by this together: the lids follow the eyes, and may look shut when they are not."""
_LAUGH_BAND_HZ = (3.0, 6.5)  # laughter's notes come about every 210 ms (Provine, "Laughter", Am. Scientist 1996)
LAUGH_JAW = 0.05
LAUGH_MIN_S = 0.6
_LAUGH_OPEN, _LAUGH_OPEN_OFF, _LAUGH_SMILE = 0.25, 0.2, 0.5
"""Lips held this far apart in a smile this broad are a laugh that stays open: ordinary speech stays below 0.25 (see
`faces_mesh.mouth_opening`) and does not hold it."""
_LAUGH_HELD_S = 0.4
"""Longer than a vowel."""


def level(signals: FaceSignals, baseline: Baseline | None, rule: Rule) -> Series:
    """Return a rule's weighted sum [T] above the person's bias, freed of single-frame spikes and of articulation."""
    total = np.zeros(len(signals.t_s))
    for name, weight in rule.shapes.items():
        bias = 0.0 if baseline is None else min(baseline.shape(name), rule.bias_cap)
        total += weight * (signals.shape(name) - bias)
    return np.asarray(scipy.ndimage.median_filter(total, size=5, mode="nearest"))


def facial_actions(signals: FaceSignals, baseline: Baseline | None = None, speaking: bool = False) -> list[Event]:
    """Return the facial actions of a segment in order of time.

    While the person speaks, mouth shapes are mostly speech: open jaw, pursed and pressed lips are left out, a smile
    must be stronger and last longer, and laughter must be stronger. A smile excludes a frown, a wrinkled nose and
    lips pressed, pursed or drawn down, frame by frame. `signals` must be `filled()`.
    """
    events: list[Event] = []
    closed = eyes_closed(signals, baseline)
    events += closed
    down = lowered(signals)
    smile = np.asarray(scipy.ndimage.median_filter(signals.shape("mouthSmile"), size=5, mode="nearest"))
    for rule in RULES:
        if speaking and rule.name in ("jaw_open", "pucker", "lip_press", "mouth_frown"):
            continue
        series = level(signals, baseline, rule)
        if rule.name in _NOT_SMILING:
            series = np.where(smile >= SMILES, 0.0, series)
        if rule.name == "squint":
            series = np.where(down, 0.0, series)
        on, off, min_s = rule.on, rule.off, rule.min_s
        if speaking and rule.name == "smile":
            (on, off), min_s = _SPEAKING_SMILE, 1.5 * rule.min_s
            series = smile  # as it is: who smiles a lot still smiles
        for span in spans(series, on, off, round(min_s * GRID_HZ)):
            strength = float(series[slice(*span)].max())
            event = span_event(signals, span, rule.name, "facial_action", _confidence(series, span, rule), strength)
            if event is not None and not _hidden(event, closed):
                events.append(event)
    events += blinks(signals, baseline)
    events += laughs(signals, [e for e in events if e.name == "smile"], speaking)
    return sorted(events, key=lambda e: (e.start_s, e.name))


def blinks(signals: FaceSignals, baseline: Baseline | None = None) -> list[Event]:
    """Return blinks: both lids fall and rise again within half a second."""
    both = np.minimum(signals.shape("eyeBlinkLeft"), signals.shape("eyeBlinkRight"))
    found = []
    peaks, facts = scipy.signal.find_peaks(
        np.pad(both, 1, mode="edge"),
        prominence=_BLINK_PROMINENCE,
        width=(1, _BLINK_MAX_S * GRID_HZ),
        rel_height=0.6,
    )
    usual = 0.0 if baseline is None else min(baseline.shape("eyeBlink"), 0.3)
    for i in range(len(peaks)):
        start = max(0, int(np.floor(facts["left_ips"][i])) - 1)
        end = min(len(both), int(np.ceil(facts["right_ips"][i])))
        prominence = float(facts["prominences"][i])
        confidence = min(0.9, 0.5 + (prominence - _BLINK_PROMINENCE) / (1 - usual))
        event = span_event(signals, (start, max(end, start + 1)), "blink", "facial_action", confidence, prominence)
        if event is not None:
            found.append(event)
    return found


def lowered(signals: FaceSignals) -> Mask:
    """Return [T] True where head and eyes together point down so far that the lids tell nothing."""
    down = signals.pitch_deg + EYE_DEG_PER_UNIT * (signals.shape("eyeLookUp") - signals.shape("eyeLookDown"))
    return np.asarray(scipy.ndimage.median_filter(down, size=5, mode="nearest") < -_LOOKS_DOWN_DEG)


def eyes_closed(signals: FaceSignals, baseline: Baseline | None = None) -> list[Event]:
    """Return stretches longer than a blink with both eyes shut, but for those in which the person looks down."""
    both = np.minimum(signals.shape("eyeBlinkLeft"), signals.shape("eyeBlinkRight"))
    both = np.where(lowered(signals), 0.0, both)
    bias = 0.0 if baseline is None else min(baseline.shape("eyeBlink"), 0.15)
    series = np.asarray(scipy.ndimage.median_filter(both - bias, size=5, mode="nearest"))
    found = []
    for span in spans(series, _CLOSED, _CLOSED_OFF, round(_BLINK_MAX_S * GRID_HZ)):
        strength = float(series[slice(*span)].max())
        # Eyes that look far down raise the same coefficient, hence never sure.
        event = span_event(signals, span, "eyes_closed", "facial_action", min(0.7, strength), strength)
        if event is not None:
            found.append(event)
    return found


def laugh_rhythm(jaw: Series, smile: Series, min_smile: float) -> Series:
    """Return [T >= 25] how far the jaw goes in laughter's rhythm (0-1), 0 where the smile [T] is below `min_smile`."""
    sos = scipy.signal.butter(2, _LAUGH_BAND_HZ, "bandpass", fs=GRID_HZ, output="sos")
    moved = np.asarray(scipy.signal.sosfiltfilt(sos, jaw, padlen=GRID_HZ - 1))
    rhythm = np.sqrt(np.maximum(low_pass(moved**2, 1.0), 0.0)) * np.sqrt(2)
    return np.asarray(np.where(smile < min_smile, 0.0, rhythm))


def laughs(signals: FaceSignals, smiles: list[Event], speaking: bool) -> list[Event]:
    """Return stretches within smiles in which the jaw moves in laughter's rhythm, or the mouth stays wide open.

    Syllables have the same rhythm, so while the person speaks only a broad smile counts, at lower confidence.
    """
    if len(signals.t_s) < GRID_HZ:
        return []
    smile = signals.shape("mouthSmile")
    rhythm = laugh_rhythm(signals.shape("jawOpen"), smile, 0.7 if speaking else 0.4)
    held = np.where(np.asarray(scipy.ndimage.median_filter(smile, size=5)) < _LAUGH_SMILE, 0.0, signals.mouth_open)
    found: list[Event] = []
    for series, on, off, least_s in (
        (rhythm, LAUGH_JAW, LAUGH_JAW / 2, LAUGH_MIN_S),
        (held, _LAUGH_OPEN, _LAUGH_OPEN_OFF, _LAUGH_HELD_S),
    ):
        for span in spans(series, on, off, round(least_s * GRID_HZ)):
            middle = (signals.t_s[span[0]] + end_time(signals, span[1])) / 2
            inside = any(s.start_s <= middle < s.end_s for s in smiles)
            if not inside or any(e.start_s <= middle < e.end_s for e in found):
                continue
            strength = float(series[slice(*span)].max())
            confidence = min(0.8, 0.4 + 2 * strength) * (0.5 if speaking else 1.0)
            event = span_event(signals, span, "laugh", "facial_action", confidence, strength)
            if event is not None:
                found.append(event)
    return found


def _confidence(series: Series, span: tuple[int, int], rule: Rule) -> float:
    """Return 0.5 at the threshold, 0.9 at the rule's full value, by the span's upper quartile."""
    typical = float(np.percentile(series[slice(*span)], 75))
    return float(np.clip(0.5 + 0.4 * (typical - rule.on) / (rule.full - rule.on), 0.4, 0.9))


def _hidden(event: Event, closed: list[Event]) -> bool:
    """Say whether most of a squint lies within closed eyes, which raise the same coefficient."""
    if event.name != "squint":
        return False
    covered = sum(max(0.0, min(event.end_s, c.end_s) - max(event.start_s, c.start_s)) for c in closed)
    return covered > 0.5 * event.duration_s
