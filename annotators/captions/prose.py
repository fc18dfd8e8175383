"""One English sentence from a measured performance, and one on the camera.

For a speaker: the shot, how they speak, the mood, then what happens in order. For a listener or an idle person: only
what holds for the whole clip, with rates ("occasional nods") instead of moments. Left and right are the picture's
("frame left").
Pure and deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from annotators.body.summary import NOT_MEASURED, BodySummary
from annotators.face.sizes import NEUTRAL_NEEDS
from annotators.performance.performance_signals import Performance
from annotators.performance.signal_series import Event

_SHOTS = {
    "extreme_close_up": "Extreme close-up",
    "close_up": "Close-up",
    "medium_close_up": "Medium close-up",
    "medium": "Medium shot",
    "medium_full": "Medium full shot",
    "full": "Full shot",
}
_SPEAK_GAZE = {
    "camera": " to the camera",
    "partner": " to the other person",
    "left": ", looking to frame left",
    "right": ", looking to frame right",
    "up": ", looking up",
    "down": ", looking down",
    "wandering": " with a wandering gaze",
    "closed": " with eyes closed",
}
_FACING = {
    "camera": "looking at the camera",
    "partner": "looking at the other person",
    "left": "looking to frame left",
    "right": "looking to frame right",
    "up": "looking up",
    "down": "looking down",
    "wandering": "with a wandering gaze",
    "closed": "with eyes closed",
}
_STYLES = {
    "energetic": "energetically",
    "fast": "fast",
    "slow": "slowly",
    "raised": "in a raised voice",
    "soft": "softly",
    "monotone": "in a monotone",
    "lively": "with a lively intonation",
}
_CAMERA = {
    "static": "The camera is static.",
    "pan_left": "The camera pans to frame left.",
    "pan_right": "The camera pans to frame right.",
    "tilt_up": "The camera tilts up.",
    "tilt_down": "The camera tilts down.",
    "zoom_in": "The camera zooms in.",
    "zoom_out": "The camera zooms out.",
    "handheld": "The camera is handheld.",
}
# Adjective of an expression term, and the facial action that it would repeat.
_ADJECTIVES = {
    "smiling": ("smiling", "smile"),
    "laughing": ("laughing", "laugh"),
    "frowning": ("frowning", "frown"),
    "wide_eyed": ("wide-eyed", "wide_eyes"),
    "surprise": ("surprised", "wide_eyes"),
    "tight_lipped": ("tight-lipped", "lip_press"),
    "downcast": ("downcast", "downcast"),
}
# Verb phrase of an event and how much it matters to a reader, against its confidence.
_PHRASES = {
    "laugh": ("laughs", 1.5),
    "nod": ("nods", 1.4),
    "shake": ("shakes the head", 1.4),
    "nose_wrinkle": ("wrinkles the nose", 1.2),
    "smile": ("smiles", 1.2),
    "brow_raise": ("raises the brows", 1.1),
    "frown": ("frowns", 1.1),
    "wide_eyes": ("opens the eyes wide", 1.1),
    "jaw_open": ("opens the mouth", 1.0),
    "lip_press": ("presses the lips together", 1.0),
    "pucker": ("purses the lips", 1.0),
    "downcast": ("lowers the eyes", 1.1),
    "eyes_closed": ("closes the eyes", 1.1),
    "turn_left": ("turns the head to frame left", 1.0),
    "turn_right": ("turns the head to frame right", 1.0),
    "tilt_left": ("tilts the head to frame left", 0.9),
    "tilt_right": ("tilts the head to frame right", 0.9),
    "raise": ("lifts the chin", 0.9),
    "lower": ("lowers the head", 0.9),
    "left": ("looks to frame left", 0.8),
    "right": ("looks to frame right", 0.8),
    "up": ("looks up", 0.8),
    "down": ("looks down", 0.8),
    "gesture": ("gestures with the hands", 1.3),
    "lean": ("leans to and fro", 1.1),
}
_LEANS = {
    "forward": "leans forward",
    "back": "leans back",
    "left": "leans to frame left",
    "right": "leans to frame right",
}
_HANDS = {
    "gesturing": "gesturing with the hands",
    "raised": "hands raised",
    "joined": "hands together",
    "at_face": "a hand at the face",
}
_SHOWS_LEGS = ("medium_full", "full")
_RECURRING = (
    ("smile", "an occasional smile"),
    ("frown", "an occasional frown"),
    ("brow_raise", "occasionally raised brows"),
    ("downcast", "often lowered eyes"),
)
_TIMES = {2: " twice", 3: " three times"}
_SECONDS_PER_PHRASE, _MOST_PHRASES = 1.5, 5
_LASTING, _OCCASIONAL = 0.5, 0.08
_SMALL_NOD_DEG, _FREQUENT_PER_MIN, _LIVELY_DEG_S = 6.0, 20.0, 18.0


def speak_prose(
    shown: Performance,
    text: str = "",
    over_other: bool = False,
    style: Sequence[str] = (),
    clothing: str | None = None,
    body: BodySummary = NOT_MEASURED,
) -> str:
    """Return the caption of a speaker; `text`, the words, only tells a question from a statement.

    `style` are speaking style terms, `clothing` the colour of the clothes where it is known, `body` what is seen of the
    hands and the posture; its events are among those of `shown`.
    """
    if body.hands == "gesturing":  # said of the whole clip, so not once more
        shown = replace(shown, events=tuple(e for e in shown.events if e.name != "gesture"))
    act = _listed([_STYLES[name] for name in style if name in _STYLES])
    act += " at the same time as another voice" if over_other else ""
    opening = (
        f"{_SHOTS[shown.shot_type]} of a {_standing(shown, body)}person{_dressed(clothing)} speaking{act}"
        f"{_SPEAK_GAZE.get(shown.gaze, '')}"
    )
    if body.hands in _HANDS:
        opening += f", {_HANDS[body.hands]}"
    if _is_question(text):
        opening += ", asking a question"
    parts = [opening, _mood(shown)]
    sequence = _sequence(shown)
    if sequence:
        parts.append(sequence)
    elif shown.head_motion == ("still",):
        parts.append("keeps the head still")
    elif shown.head_speed_deg_s >= _LIVELY_DEG_S:
        parts.append("moves the head in a lively way")
    return "; ".join(part for part in parts if part) + "."


def listen_prose(
    shown: Performance,
    hears: bool,
    off_screen: bool = False,
    clothing: str | None = None,
    body: BodySummary = NOT_MEASURED,
) -> str:
    """Return the caption of a listener (`hears`) or of an idle person, without a word of time."""
    dressed, pose = _dressed(clothing), _standing(shown, body)
    subject = f"{pose}person{dressed} listening silently" if hears else f"silent {pose}person{dressed}"
    if hears and off_screen:
        subject += " to someone off screen"
    passing = [name for name in shown.expressions if name in _ADJECTIVES]
    adjectives = [_ADJECTIVES[name][0] for name in _lasting(shown)]
    if not adjectives and len(passing) >= 2:
        adjectives = ["changing"]
    elif not adjectives and shown.readable >= NEUTRAL_NEEDS:
        adjectives = ["neutral"]
    if adjectives and hears and shown.gaze in ("camera", "partner"):
        adjectives.append("attentive")
    parts = [f"{_SHOTS[shown.shot_type]} of a {subject}"]
    if adjectives:
        article = "an" if adjectives[0][0] in "aeiou" else "a"
        parts[0] += f" with {article} {', '.join(adjectives)} expression"
    if shown.gaze in _FACING:
        parts.append(_FACING[shown.gaze])
    if body.hands in _HANDS:
        parts.append(_HANDS[body.hands])
    habits = _habits(shown)
    if habits:
        parts.append("with " + " and ".join(habits))
    elif shown.head_motion == ("still",):
        parts.append("holding the head still")
    return ", ".join(parts) + "."


def camera_prose(camera: str) -> str:
    """Return the sentence on the camera's motion; empty where it is not known."""
    return _CAMERA.get(camera, "")


def _standing(shown: Performance, body: BodySummary) -> str:
    """Return `seated ` or `standing `, where the picture is wide enough to see it."""
    if body.posture is None or shown.shot_type not in _SHOWS_LEGS:
        return ""
    return "seated " if body.posture == "sitting" else "standing "


def _dressed(clothing: str | None) -> str:
    if clothing is None:
        return ""
    return " in dark clothes" if clothing == "dark" else f" in {clothing}"


def _listed(words: Sequence[str]) -> str:
    """Return ` a`, ` a and b` or ` a, b and c`; empty without words."""
    return (" " + " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))) if words else ""


def _lasting(shown: Performance) -> list[str]:
    """Return at most two expression terms that hold for half of the clip or more and have an adjective."""
    return [n for n in shown.expressions if n in _ADJECTIVES and shown.share("expression", n) >= _LASTING][:2]


def _mood(shown: Performance) -> str:
    """Return the clause on emotions and on what the face shows most of the time; empty if the face only moves."""
    felt = [name.replace("_", " ") for name in shown.emotions if name != "neutral"][:2]
    lasting = [name for name in _lasting(shown) if name not in felt]
    faces = " and ".join(_ADJECTIVES[name][0] for name in lasting)
    if felt:
        return f"shows {' and '.join(felt)}" + (f", {faces}" if faces else "")
    moves = any(e.kind == "facial_action" for e in _telling(shown))
    if not faces and not (shown.readable >= NEUTRAL_NEEDS):
        return ""
    return "" if moves and not faces else f"the expression is {faces or 'neutral'}"


def _sequence(shown: Performance) -> str:
    """Return what happens in order: the most telling events, simultaneous ones joined, with coarse places in time."""
    chosen = _choose(shown)
    groups: list[list[Event]] = []
    for event in chosen:
        if groups and event.start_s - groups[-1][-1].start_s < 0.3:
            groups[-1].append(event)
        else:
            groups.append([event])
    seen: set[str] = set()
    phrases = []
    for i, group in enumerate(groups):
        words = []
        for event in group:
            words.append(_phrase(event) + (" again" if event.name in seen else ""))
            seen.add(event.name)
        phrase = " and ".join(words)
        if shown.duration_s >= 3 and i in (0, len(groups) - 1):
            phrase += _place(shown, group[0], last=i == len(groups) - 1)
        phrases.append(phrase)
    often = [_PHRASES[name][0] for name in _repeated(shown)]
    sequence = ", then ".join(phrases)
    repeated = f"{' and '.join(often)} repeatedly" if often else ""
    return "; ".join(part for part in (repeated, sequence) if part)


def _choose(shown: Performance) -> list[Event]:
    most = int(np.clip(shown.duration_s / _SECONDS_PER_PHRASE, 1, _MOST_PHRASES))
    repeated = _repeated(shown)
    candidates = [e for e in _telling(shown) if e.name not in repeated]
    candidates.sort(key=lambda e: (-e.confidence * _PHRASES[e.name][1], e.start_s, e.name))
    return sorted(candidates[: max(1, most - len(repeated))], key=lambda e: (e.start_s, e.name))


def _telling(shown: Performance) -> list[Event]:
    """Return the events worth a phrase: known, surer than a coin, shorter than most of the clip, not said yet."""
    said = {_ADJECTIVES[name][1] for name in _lasting(shown)}
    return [
        e
        for e in shown.events
        if e.name in _PHRASES
        and e.kind in ("facial_action", "head_motion", "gaze", "body_action")
        and e.confidence >= 0.5
        and e.duration_s <= 0.6 * shown.duration_s
        and not (e.kind == "gaze" and e.name == shown.gaze)
        and not (e.kind == "facial_action" and e.name in said)
    ]


def _repeated(shown: Performance) -> list[str]:
    names = [e.name for e in _telling(shown)]
    return sorted(name for name in set(names) if names.count(name) >= 3)


def _phrase(event: Event) -> str:
    phrase = _LEANS[event.direction] if event.direction in _LEANS else _PHRASES[event.name][0]
    if event.name == "nod":
        phrase += _TIMES.get(event.count, " repeatedly" if event.count > 3 else "")
    return phrase


def _place(shown: Performance, event: Event, last: bool) -> str:
    share = ((event.start_s + event.end_s) / 2 - shown.start_s) / shown.duration_s
    if share < 1 / 3:
        return " early on"
    return " towards the end" if last and share > 2 / 3 else " midway" if share < 2 / 3 else ""


def _habits(shown: Performance) -> list[str]:
    """Return what recurs, as rates, e.g. `occasional small nods`."""
    minutes = shown.duration_s / 60
    habits = []
    nods = shown.named("head_motion", "nod")
    if nods:
        size = "small " if float(np.median([e.strength for e in nods])) < _SMALL_NOD_DEG else ""
        habits.append(f"{_rate(sum(e.count for e in nods) / minutes)} {size}nods")
    shakes = shown.named("head_motion", "shake")
    if shakes:
        habits.append(f"{_rate(sum(e.count for e in shakes) / minutes)} shakes of the head")
    for name, words in _RECURRING:
        if _OCCASIONAL <= shown.share("facial_action", name) < _LASTING:
            habits.append(words)
    return habits[:2]


def _rate(per_min: float) -> str:
    return "frequent" if per_min >= _FREQUENT_PER_MIN else "occasional"


def _is_question(text: str) -> bool:
    """Say whether the words are one question and nothing else."""
    words = text.strip()
    return words.endswith("?") and not any(mark in words[:-1] for mark in ".!?;")
