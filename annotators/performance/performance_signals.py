"""What one segment's face does: facial actions, gestures, gaze, expressions and cautious emotions, with evidence.

The entry point of the rule-based performance annotation: from 25 Hz series to events, ranked terms and the figures
against which any captioner's claims can be checked. Pure; about ten milliseconds a segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotators.face.sizes import NEUTRAL_NEEDS, Part, face_px, part_of, readable_parts
from annotators.performance.emotion_rules import emotions, expressions, ranked
from annotators.performance.facial_actions import SMILES, facial_actions
from annotators.performance.gaze_targets import Side, gaze_events, gaze_ratios, gaze_targets, main_gaze
from annotators.performance.head_gestures import angular_speed, body_motion_level, face_speed, head_gestures
from annotators.performance.shot_type import segment_shot_type
from annotators.performance.signal_series import (
    Baseline,
    Event,
    FaceSignals,
    Mask,
    end_time,
    event_ratio,
    in_profile,
    mostly,
)
from schemas.samples.caption import TagKind
from schemas.samples.caption_checks import SignalSummary


@dataclass(frozen=True)
class Performance:
    """The measured performance of one segment; times are on the signals' clock.

    `events` are in order of time and of all kinds; term lists are strongest first, and empty where nothing can be
    said. `head_speed_deg_s` and `face_speed` (face widths a second) are medians. `readable` are the parts of the face
    that its size lets speak (see `face_sizes`); none where no mesh was found in any frame.
    """

    start_s: float
    end_s: float
    events: tuple[Event, ...]
    emotions: tuple[str, ...]
    expressions: tuple[str, ...]
    head_motion: tuple[str, ...]
    gaze: str
    gaze_ratios: dict[str, float]
    body_motion: str
    shot_type: str
    blinks_per_min: float
    head_speed_deg_s: float
    face_speed: float
    valid_ratio: float
    readable: frozenset[Part]
    summary: SignalSummary

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s

    def named(self, kind: TagKind, *names: str) -> list[Event]:
        """Return the events of one kind and these names, in order of time."""
        return [event for event in self.events if event.kind == kind and event.name in names]

    def share(self, kind: TagKind, name: str) -> float:
        """Return the share of the segment that events of one kind and name cover, in [0, 1]."""
        return min(1.0, sum(event.duration_s for event in self.named(kind, name)) / self.duration_s)


def measure(
    signals: FaceSignals,
    baseline: Baseline | None = None,
    speaking: bool = False,
    partner: Side | None = None,
    panned: Mask | None = None,
) -> Performance:
    """Return everything the rules find in a segment.

    `baseline` is what is usual in the person's track (see `baseline_of`). `speaking` tells that the mouth's motion is
    speech. `partner` is the side of the picture on which the other person is. `panned` [T] tells where the camera moves
    faster than a hand shakes it (see `camera_moves.panned`). A face of which no frame was measured gives a performance
    without terms, whose gaze and motion are unknown; what a face is too small for, or turned too far aside for, is left
    out likewise. Raises ValueError where there is not even a face box.
    """
    if not signals.valid.any():
        return _unread(signals)
    filled, readable = signals.filled(), readable_parts(face_px(signals))
    profile = in_profile(filled)
    unread = profile if panned is None else profile | panned
    gestures = [e for e in head_gestures(filled, baseline, speaking, unread) if part_of(e.name) in readable]
    looks = gaze_events(filled, baseline, partner) if "gaze" in readable else []
    moved = [e for e in facial_actions(filled, baseline, speaking) if part_of(e.name) in readable]
    actions = [e for e in moved if not mostly(profile, filled, e)] + [e for e in looks if e.kind == "facial_action"]
    actions.sort(key=lambda e: (e.start_s, e.name))
    shown, felt = expressions(actions), emotions(actions, speaking)
    events = [*actions, *gestures, *(e for e in looks if e.kind == "gaze"), *shown, *felt]
    ratios = _gaze_ratios(filled, baseline, partner, signals.valid, readable)
    start_s, end_s = float(filled.t_s[0]), end_time(filled, len(filled.t_s))
    duration_s = end_s - start_s
    neutral = _neutral(filled, readable, profile)
    still_ratio, shot = event_ratio(gestures, "still", filled), segment_shot_type(signals)
    return Performance(
        start_s=start_s,
        end_s=end_s,
        events=tuple(sorted(events, key=lambda e: (e.start_s, e.end_s, e.kind, e.name))),
        emotions=tuple(ranked(felt, duration_s)) or neutral,
        expressions=tuple(ranked(shown, duration_s)) or neutral,
        head_motion=tuple(_head_terms(gestures, duration_s, still_ratio)),
        gaze=main_gaze(ratios),
        gaze_ratios=ratios,
        body_motion=body_motion_level(filled),
        shot_type=shot,
        blinks_per_min=60 * sum(e.name == "blink" for e in actions) / duration_s if "lids" in readable else np.nan,
        head_speed_deg_s=float(np.median(angular_speed(filled))),
        face_speed=float(np.median(face_speed(filled))),
        valid_ratio=signals.valid_ratio,
        readable=readable,
        summary=_summary(filled, actions, gestures, ratios, readable, still_ratio, shot),
    )


def _gaze_ratios(
    filled: FaceSignals, baseline: Baseline | None, partner: Side | None, valid: Mask, readable: frozenset[Part]
) -> dict[str, float]:
    """Return how long the person looks where; nothing where the face is too small to tell."""
    if "gaze" not in readable:
        return {}
    ratios = gaze_ratios(gaze_targets(filled, baseline, partner), valid)
    return {} if "closed" in ratios and "lids" not in readable else ratios


def _summary(
    filled: FaceSignals, actions: list[Event], gestures: list[Event], ratios: dict[str, float],
    readable: frozenset[Part], still_ratio: float, shot: str,
) -> SignalSummary:  # fmt: skip
    """Return the figures that captions are held against."""
    return SignalSummary(
        smile_ratio=event_ratio(actions, "smile", filled) if "mouth" in readable else None,
        camera_gaze_ratio=ratios.get("camera", 0.0) if ratios and "closed" not in ratios else None,
        still_ratio=still_ratio,
        n_nods=sum(e.count for e in gestures if e.name == "nod"),
        n_shakes=sum(e.count for e in gestures if e.name == "shake"),
        shot_type=shot,
    )


def _neutral(filled: FaceSignals, readable: frozenset[str], profile: Mask) -> tuple[str, ...]:
    # A smile too short to be told while the person speaks is no neutral face either.
    smiles = float(np.median(filled.shape("mouthSmile"))) >= SMILES
    return ("neutral",) if readable >= NEUTRAL_NEEDS and profile.mean() <= 0.5 and not smiles else ()


def _unread(signals: FaceSignals) -> Performance:
    """Return what is known of a segment in none of whose frames a mesh was found: the shot, by the detector's box."""
    shot = segment_shot_type(signals)
    return Performance(
        start_s=float(signals.t_s[0]),
        end_s=end_time(signals, len(signals.t_s)),
        events=(),
        emotions=(),
        expressions=(),
        head_motion=(),
        gaze="unknown",
        gaze_ratios={},
        body_motion="unknown",
        shot_type=shot,
        blinks_per_min=np.nan,
        head_speed_deg_s=np.nan,
        face_speed=np.nan,
        valid_ratio=0.0,
        readable=frozenset(),
        summary=SignalSummary(shot_type=shot),
    )


def _head_terms(gestures: list[Event], duration_s: float, still_ratio: float) -> list[str]:
    """Return gestures, then held poses, by weight; `still` only if nothing else and for 0.8 of the time."""
    moving = [e for e in gestures if e.name in ("nod", "shake")]
    held = [e for e in gestures if e.name not in ("nod", "shake", "still")]
    terms = ranked(moving, duration_s, least=0.0) + ranked(held, duration_s, least=0.08)
    return terms or (["still"] if still_ratio >= 0.8 else [])
