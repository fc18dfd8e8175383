"""Emotions and expressions guessed from facial actions by cautious rules.

A face shows movements, not feelings; the same smile serves joy and politeness (Barrett et al., "Emotional
expressions reconsidered", Psychological Science in the Public Interest 2019). So confidences stay at or below 0.6,
and a face without strong action is neutral. A vision-language captioner may say more. Pure functions; microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from annotators.performance.signal_series import Event
from schemas.samples.caption import TagKind

_SHOWS = {
    "smile": ("smiling", 0.9),
    "laugh": ("laughing", 0.9),
    "frown": ("frowning", 0.9),
    "squint": ("squinting", 0.7),
    "wide_eyes": ("wide_eyed", 0.8),
    "brow_raise": ("brow_raised", 0.8),
    "lip_press": ("tight_lipped", 0.9),
    "downcast": ("downcast", 0.8),
    "nose_wrinkle": ("disgust", 0.5),
}
"""Expression term of a facial action, and how much of the action's confidence it keeps.

Pursed lips have none: in real talk they are vowels, drinks and hands before the mouth, hardly ever a pout.
"""

Found = list[Event]


def expressions(actions: Sequence[Event]) -> Found:
    """Return expression events: one a facial action that has a term, and surprise where actions meet."""
    found = []
    for action in actions:
        if action.name in _SHOWS:
            term, share = _SHOWS[action.name]
            found.append(_event(term, "expression", action.start_s, action.end_s, share * action.confidence))
    for start_s, end_s in _surprises(actions):
        found.append(_event("surprise", "expression", start_s, end_s, 0.6))
    return sorted(found, key=lambda e: (e.start_s, e.name))


def emotions(actions: Sequence[Event], speaking: bool = False) -> Found:
    """Return emotion events in order of time; empty where the face shows nothing that speaks for one.

    Rules: laugh = amusement; smile with tightened lids = happiness, without = contentment; surprise = open jaw (not
    while speaking) or raised brows, with wide eyes; frown with lip corners down = sadness; frown with
    pressed lips = irritation; wrinkled nose without a smile = disgust. The terms cover what a caption may say at all.
    """
    found: Found = []
    for action in actions:
        start_s, end_s, sure = action.start_s, action.end_s, action.confidence
        if action.name == "laugh":
            found.append(_event("amusement", "emotion", start_s, end_s, min(0.6, 0.8 * sure)))
        elif action.name == "smile":
            duchenne = _covered(action, actions, ("squint",)) >= 0.3
            term, cap = ("happiness", 0.55) if duchenne or sure >= 0.75 else ("contentment", 0.4)
            found.append(_event(term, "emotion", start_s, end_s, min(cap, 0.7 * sure)))
        elif action.name == "mouth_frown" and _covered(action, actions, ("frown",)) >= 0.3:
            found.append(_event("sadness", "emotion", start_s, end_s, min(0.45, 0.7 * sure)))
        elif action.name == "frown" and _covered(action, actions, ("lip_press",)) >= 0.3 and not speaking:
            found.append(_event("irritation", "emotion", start_s, end_s, min(0.4, 0.6 * sure)))
        elif action.name == "nose_wrinkle" and _covered(action, actions, ("smile",)) < 0.3:
            found.append(_event("disgust", "emotion", start_s, end_s, min(0.4, 0.6 * sure)))
    found += [_event("surprise", "emotion", start_s, end_s, 0.5) for start_s, end_s in _surprises(actions)]
    return sorted(found, key=lambda e: (e.start_s, e.name))


def ranked(events: Sequence[Event], duration_s: float, least: float = 0.06) -> list[str]:
    """Return the terms of events by confidence-weighted share of `duration_s`, strongest first.

    Terms below `least` of the time are left out of the ranking; their events stay as tags. Ties go by name.
    """
    weight: dict[str, float] = {}
    for event in events:
        weight[event.name] = weight.get(event.name, 0.0) + event.confidence * event.duration_s / duration_s
    return sorted((name for name, w in weight.items() if w >= least), key=lambda name: (-weight[name], name))


def _surprises(actions: Sequence[Event]) -> list[tuple[float, float]]:
    """Return spans in which wide eyes meet an open jaw or raised brows for 0.2 s or more."""
    wide = [a for a in actions if a.name == "wide_eyes"]
    others = [a for a in actions if a.name in ("jaw_open", "brow_raise")]
    found: list[tuple[float, float]] = []
    for a in wide:
        for b in others:
            start_s, end_s = max(a.start_s, b.start_s), min(a.end_s, b.end_s)
            if end_s - start_s < 0.2:
                continue
            if found and start_s <= found[-1][1]:
                found[-1] = (min(found[-1][0], start_s), max(found[-1][1], end_s))
            else:
                found.append((start_s, end_s))
    return found


def _covered(event: Event, actions: Sequence[Event], names: tuple[str, ...]) -> float:
    shared = sum(
        max(0.0, min(event.end_s, a.end_s) - max(event.start_s, a.start_s)) for a in actions if a.name in names
    )
    return shared / event.duration_s if event.duration_s > 0 else 0.0


def _event(name: str, kind: TagKind, start_s: float, end_s: float, confidence: float) -> Event:
    return Event(name, kind, start_s, end_s, confidence, strength=confidence)
