"""Captions: the protocol, and the captioner that writes what was measured and nothing else.

`SignalCaptioner` needs no model beyond the face landmarks: it turns events into terms, tags and one English sentence.
It never speaks of gender, age, hair, glasses or place, because nothing here measures them. Deterministic; about ten
milliseconds a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from annotators.body.summary import NOT_MEASURED, BodySummary
from annotators.captions.prose import camera_prose, listen_prose, speak_prose
from annotators.performance.gaze_targets import Side
from annotators.performance.performance_signals import Performance, measure
from annotators.performance.signal_series import SIGNAL_RULES, Baseline, FaceSignals, Mask, event_ratio
from annotators.performance.speaking_style import NO_STYLE, SpeakingStyle
from annotators.protocols import Image
from schemas.samples.caption import PerformanceCaption
from schemas.samples.sample import State

Partner = Literal["on_screen", "off_screen"]


@dataclass(frozen=True, eq=False)
class ClipContext:
    """What a captioner may know of one segment.

    `signals` are in the picture that the caption will stand beside (the person crop where there is one). `text` are
    the words spoken by this person, or heard by this person, without time. `partner` says whether the other person
    is seen in the same source picture, `partner_side` on which side; None = not known or nobody. `voice`, `camera`,
    `clothing`, `body` and `panned` were measured beside the face: see `speaking_style`, `camera_moves`, `clothing` and
    `body_summary`.
    """

    state: State
    signals: FaceSignals
    baseline: Baseline | None = None
    text: str = ""
    partner: Partner | None = None
    partner_side: Side | None = None
    voice: SpeakingStyle = NO_STYLE
    camera: str = "unknown"
    clothing: str | None = None
    body: BodySummary = NOT_MEASURED
    panned: Mask | None = None

    @property
    def speaking(self) -> bool:
        """The person's mouth moves for speech."""
        return self.state in ("speak", "both")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture [height, width, 3] RGB with its time on the clock of the signals."""

    t_s: float
    rgb: Image


class Captioner(Protocol):
    """Writes a performance caption of one segment."""

    name: str
    weights: tuple[str, ...]
    n_frames: int
    """How many frames, spread over the segment, the captioner wants to see; 0 = none."""

    def caption(self, clip: ClipContext, frames: Sequence[Frame] = ()) -> PerformanceCaption:
        """Return the caption; raise ValueError where the segment has no face box."""
        ...


class SignalCaptioner:
    """Captions from measured signals by rules."""

    name = SIGNAL_RULES
    weights: tuple[str, ...] = ()
    n_frames = 0

    def caption(self, clip: ClipContext, frames: Sequence[Frame] = ()) -> PerformanceCaption:
        """Return the caption of a segment; `frames` are not looked at.

        Of a face that was measured in no frame it says the shot and the state alone. Raises ValueError when there is
        not even a face box.
        """
        shown = measure(clip.signals, clip.baseline, clip.speaking, clip.partner_side, clip.panned)
        shown = replace(shown, events=tuple(sorted((*shown.events, *clip.body.events), key=lambda e: e.start_s)))
        invariant = not clip.speaking
        if invariant:
            prose = listen_prose(shown, clip.state == "listen", clip.partner == "off_screen", clip.clothing, clip.body)
        else:
            prose = speak_prose(shown, clip.text, clip.state == "both", clip.voice.terms, clip.clothing, clip.body)
        return PerformanceCaption(
            state=clip.state,
            emotions=shown.emotions,
            expressions=shown.expressions,
            stance=_listening_stance(shown, clip.signals) if clip.state == "listen" and shown.expressions else None,
            gaze=shown.gaze,
            head_motion=shown.head_motion,
            body_motion=shown.body_motion,
            hands=clip.body.hands,
            posture=clip.body.posture,
            shot_type=shown.shot_type,
            speaking_style=clip.voice.terms,
            camera=clip.camera,
            clothing=clip.clothing,
            prose=" ".join(part for part in (prose, camera_prose(clip.camera)) if part),
            tags=tuple(event.tag() for event in shown.events),
            annotator=self.name,
            time_invariant=invariant,
        )


def _listening_stance(shown: Performance, signals: FaceSignals) -> str:
    """Return the stance term: agreement by nods, warmth by smiles, resistance by shakes with frowns, else neutral.

    Long looks away or a long frown count as thinking. Words are not looked at.
    """
    events = list(shown.events)
    smile, frown = event_ratio(events, "smile", signals), event_ratio(events, "frown", signals)
    away = sum(share for target, share in shown.gaze_ratios.items() if target in ("left", "right", "up", "down"))
    nods, shakes = shown.summary.n_nods or 0, shown.summary.n_shakes or 0
    if shakes > nods and frown >= 0.2:
        return "negative_resistant"
    if nods >= 2 and frown < 0.3:
        return "positive_agreeable"
    if smile >= 0.3:
        return "positive"
    return "neutral_thinking" if frown >= 0.4 or away >= 0.5 else "neutral"
