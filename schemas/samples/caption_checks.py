"""Where a caption disagrees with the conversation timeline or with what was measured.

Captions come from rules or from vision-language models; both can call a listener a speaker. The checks look for
plain claims in the terms and in English prose, and answer in sentences; none found does not prove a caption right.
Microseconds a caption.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas.samples.caption import PerformanceCaption
from schemas.samples.sample import State
from schemas.samples.vocabulary import SHOT_TYPES


@dataclass(frozen=True, slots=True)
class SignalSummary:
    """What was measured over one segment, as far as it was; None = not measured.

    Ratios are shares of the segment in [0, 1]; counts are gestures of the whole segment.
    """

    smile_ratio: float | None = None
    camera_gaze_ratio: float | None = None
    still_ratio: float | None = None
    n_nods: int | None = None
    n_shakes: int | None = None
    shot_type: str | None = None


_SPEAKING = re.compile(
    r"\b(?:speak(?:s|ing)|talk(?:s|ing)|say(?:s|ing)|explain(?:s|ing)|tell(?:s|ing)|recount(?:s|ing)|sing(?:s|ing)"
    r"|mid-sentence)\b",
    re.IGNORECASE,
)
_SILENT = re.compile(
    r"\b(?:listen(?:s|ing)|silent(?:ly)?|without speaking|not (?:speak|talk)ing|lips closed)\b", re.IGNORECASE
)
_SMILING = re.compile(r"\b(?:smil(?:e|es|ing)|grin(?:s|ning)?|laugh(?:s|ing|ter)?)\b", re.IGNORECASE)
# Within a few words before a verb these take the claim back, or give it to somebody else.
_NEGATED = re.compile(
    r"\b(?:not|never|no|without|nor|hardly|barely|avoids?|other|partner|someone|somebody|speaker|interviewer)\b[\w ]*$",
    re.IGNORECASE,
)
_CONTEXT_CHARACTERS = 32


def contradictions(caption: PerformanceCaption, state: State, signals: SignalSummary | None = None) -> list[str]:
    """Return one sentence a disagreement of `caption` with the timeline's `state` and with measured `signals`."""
    found = _against_state(caption, state)
    if signals is not None:
        found += _against_signals(caption, signals)
    return found


def claims(pattern: re.Pattern[str], prose: str) -> list[str]:
    """Return the matches of `pattern` in the prose that are neither negated nor said of another person."""
    kept = []
    for match in pattern.finditer(prose):
        before = re.split(r"[.;,]", prose[max(0, match.start() - _CONTEXT_CHARACTERS) : match.start()])[-1]
        if not _NEGATED.search(before):
            kept.append(match.group(0).lower())
    return kept


def _against_state(caption: PerformanceCaption, state: State) -> list[str]:
    found = []
    if caption.state != state:
        found.append(f"caption is for state {caption.state}, the timeline says {state}")
    if state in ("listen", "idle"):
        for word in claims(_SPEAKING, caption.prose):
            found.append(f"prose says {word!r}, the timeline says {state}")
    if state == "speak":
        for word in claims(_SILENT, caption.prose):
            found.append(f"prose says {word!r}, the timeline says speak")
    if state == "idle" and any(word.startswith("listen") for word in claims(_SILENT, caption.prose)):
        found.append("prose says 'listening', the timeline says idle: nobody is heard")
    return found


def _against_signals(caption: PerformanceCaption, signals: SignalSummary) -> list[str]:
    found = []
    smiles = {"smiling", "laughing"} & set(caption.expressions)
    if signals.smile_ratio is not None:
        if signals.smile_ratio == 0 and (smiles or claims(_SMILING, caption.prose)):
            found.append("caption says smiling or laughing, no smile was measured")
        if signals.smile_ratio >= 0.5 and "neutral" in caption.expressions:
            found.append(
                f"caption says neutral expression, a smile was measured in {signals.smile_ratio:.0%} of the time"
            )
    if signals.camera_gaze_ratio is not None:
        if caption.gaze == "camera" and signals.camera_gaze_ratio < 0.2:
            found.append(f"caption says gaze to camera, measured in {signals.camera_gaze_ratio:.0%} of the time")
        if caption.gaze not in ("camera", "unknown", "partner") and signals.camera_gaze_ratio > 0.8:
            found.append(f"caption says gaze {caption.gaze}, gaze to camera was measured most of the time")
    if signals.n_nods == 0 and "nod" in caption.head_motion:
        found.append("caption says nodding, no nod was measured")
    if signals.n_shakes == 0 and "shake" in caption.head_motion:
        found.append("caption says head shaking, none was measured")
    if signals.still_ratio is not None and signals.still_ratio < 0.3 and "still" in caption.head_motion:
        found.append(f"caption says a still head, measured in {signals.still_ratio:.0%} of the time")
    if signals.shot_type is not None:
        steps = SHOT_TYPES.names.index(caption.shot_type) - SHOT_TYPES.names.index(signals.shot_type)
        if abs(steps) > 1:
            found.append(f"caption says shot type {caption.shot_type}, the face size says {signals.shot_type}")
    return found
