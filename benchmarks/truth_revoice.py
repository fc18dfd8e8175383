"""True states of a clip put together from footage with hand-made truth, its voices laid over, moved or taken out.

What a mouth does is known from the footage's own truth, what is heard from the composition:
- A mouth that speaks with its own sound speaks; where another clip's voice is laid over it, it is `both`.
- A mouth that speaks without its own sound is discard, whatever else is heard: dubbed, or muted.
- A mouth that listens or is idle listens while any voice is heard, and is idle where none is.
- Who was unsure stays unsure. Near the borders of a laid-over voice (0.12 s, the resolution of the hand-made truth) a
  still mouth is unsure, and so it is where nobody could tell whether a voice is heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truth_media import Clip, Panel, Sound, source_time
from truth_people import SHORT_IDLE, Face, Span, Truth

FPS = 25
EDGE_S, SYNCHRONOUS_S = 0.12, 0.02
"""How near a voice's border nothing is claimed; how far sound and picture may be apart to belong together (s)."""


def face_state(raw: str | None, own_sound: bool, others: bool | None) -> str | None:
    """Return a face's state from what its mouth does in its own footage and from what is heard; None = not claimed.

    Args:
        raw: its state in the footage it comes from.
        own_sound: that footage's sound is heard with the picture.
        others: whether a voice laid over is heard; None near its borders.
    """
    if raw in ("speak", "both"):
        if not own_sound:
            return "discard"
        return "both" if raw == "both" or others else "speak"
    if raw == "listen" and own_sound:
        return "listen"
    if raw in ("listen", "idle"):
        return None if others is None else "listen" if others else "idle"
    return None


def span_at(truth: Truth, at_s: float) -> Span | None:
    """Return the span of a truth at a time."""
    return next((s for s in truth.spans if s.start_s <= at_s < s.end_s), None)


def _voiced(span: Span | None) -> bool | None:
    if span is None or span.voice is None:
        return False
    return None if span.voice in ("unsure", "unknown") else True


def sound_time(sound: Sound, t_s: float) -> float | None:
    """Return where a sound is in its source at a clip time; None while it is not heard."""
    return t_s - sound.at_s + sound.from_s if 0 <= t_s - sound.at_s < sound.length_s else None


def heard_at(sound: Sound, truths: Mapping[str, Truth], t_s: float) -> bool | None:
    """Return whether a sound carries a voice at a clip time; None where nobody could tell."""
    at = sound_time(sound, t_s)
    return False if at is None else _voiced(span_at(truths[sound.voice], at))


def others_heard(clip: Clip, truths: Mapping[str, Truth], own: Sound | None, t_s: float) -> bool | None:
    """Return whether a voice of any sound but a face's own is heard: True before None before False."""
    found: set[bool | None] = {False}
    for sound in clip.sounds:
        if sound is own:
            continue
        near = {heard_at(sound, truths, t_s + d) for d in (-EDGE_S, 0.0, EDGE_S)}
        found.add(near.pop() if len(near) == 1 else None)
    return True if True in found else None if None in found else False


def own_sound(clip: Clip, panel: Panel, t_s: float) -> Sound | None:
    """Return the sound that is heard in time with a panel's picture, or None."""
    at = source_time(panel.way, t_s)
    if at is None:
        return None
    for sound in clip.sounds:
        there = sound_time(sound, t_s)
        if sound.voice == panel.person and there is not None and abs(there - at) < SYNCHRONOUS_S:
            return sound
    return None


def placed(face: Face, panel: Panel) -> tuple[tuple[float, float], bool] | None:
    """Return a face's range in the made picture and whether it is wholly inside; None where it was cropped away."""
    assert face.x is not None
    left, _, width, _ = panel.crop or (0.0, 0.0, 1.0, 1.0)
    at, _, across, _ = panel.rect
    low, high = ((x - left) / width for x in face.x)
    if not 0 <= (low + high) / 2 <= 1:
        return None
    inside = low >= 0.02 and high <= 0.98
    return (round(at + across * max(0.0, low), 4), round(at + across * min(1.0, high), 4)), inside


def frame_truth(clip: Clip, truths: Mapping[str, Truth], t_s: float) -> tuple[list[dict[str, Any]], ...]:
    """Return (people, unsure) of one moment of a made clip, in the form of the hand-made truth files."""
    people: list[dict[str, Any]] = []
    unsure: list[dict[str, Any]] = []
    for panel in clip.panels:
        at = source_time(panel.way, t_s)
        span = None if at is None else span_at(truths[panel.person], at)
        own = own_sound(clip, panel, t_s)
        others = others_heard(clip, truths, own, t_s)
        for face in () if span is None else span.faces:
            place = placed(face, panel)
            if place is None:
                continue
            claimed = face.state is not None and (face.scored or face.why == SHORT_IDLE)
            state = face_state(face.state, own is not None, others) if claimed and place[1] else None
            row: dict[str, Any] = {"person": face.person, "place": panel.place, "x": list(place[0])}
            if state is None:
                why = face.why if not claimed else "at the border of a voice laid over" if place[1] else "at the edge"
                unsure.append({**row, "why": why})
            else:
                people.append({**row, "state": state})
    return people, unsure


def revoiced_truth(clip: Clip, truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Return the truth of a made clip in the form of the hand-made truth files; `truths` are by footage name."""
    shots: list[dict[str, Any]] = []
    for k in range(round(clip.duration_s * FPS)):
        t_s = (k + 0.5) / FPS
        people, unsure = frame_truth(clip, truths, t_s)
        heard = [s.voice for s in clip.sounds if heard_at(s, truths, t_s) is not False]
        row = {"voice": "+".join(heard) or None, "people": people, "unsure": unsure}
        if shots and all(shots[-1][key] == value for key, value in row.items()):
            shots[-1]["end"] = (k + 1) / FPS
        else:
            shots.append({"start": k / FPS, "end": (k + 1) / FPS, **row})
    cuts = sorted(_cuts(clip, truths))
    return {
        "fps": float(clip.fps), "duration": clip.duration_s,
        "cuts": [t for t, _, _ in cuts], "cut_kinds": [kind for _, kind, _ in cuts],
        "cut_spans": [list(extent) for _, _, extent in cuts], "shots": shots,
    }  # fmt: skip


def _cuts(clip: Clip, truths: Mapping[str, Truth]) -> list[tuple[float, str, tuple[float, float]]]:
    """Return the cuts of a made clip: where a full picture replaces another, and those inside the footage."""
    out: list[tuple[float, str, tuple[float, float]]] = []
    for panel in clip.panels:
        start, end = panel.way[0][0], panel.way[-1][0]
        if panel.place == "full" and start > 0:
            out.append((round(start, 4), "hard", (round(start, 4), round(start, 4))))
        shift = panel.way[0][1] - start
        for cut in truths[panel.person].cuts or ():
            if len(panel.way) == 2 and start + 0.05 < cut.t_s - shift < end - 0.05:
                a, b = (round(x - shift, 4) for x in cut.extent)
                out.append((round(cut.t_s - shift, 4), cut.kind, (a, b)))
    return out
