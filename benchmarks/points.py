"""Truth and finding side by side: one point a person and frame, which every figure is counted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from found_tracks import FoundTracks
from truth_people import Truth

SPEECH = 0.5
"""Voice activity above which the plain baseline hears a voice, as Silero is used."""


@dataclass(frozen=True)
class Point:
    """One person in one frame; `true` is None where nothing is claimed, `track` where nobody was found.

    `confirmed` says that a face was seen in the track there, not only carried on.
    """

    clip: str
    k: int
    person: str | None
    true: str | None
    both: bool
    scored: bool
    why: str
    track: str | None
    confirmed: bool
    found: str
    reason: str
    confidence: float
    score: float | None
    baseline: str


def points(truth: Truth, found: FoundTracks) -> list[Point]:
    """Return every person's points of one clip in order of time."""
    out = []
    for k, faces in truth.faces():
        for face, track in zip(faces, found.match(faces, k), strict=True):
            run = found.run(track, k)
            state = "missing" if run is None else "speak" if run.state == "both" else run.state
            score = None if track is None else found.scores.get(track, {}).get(k)
            out.append(
                Point(
                    truth.clip, k, face.person, face.expected, face.state == "both", face.scored, face.why,
                    track, found.confirmed(track, k), state,
                    "no track" if track is None else "no state" if run is None else run.reason,
                    0.0 if run is None else run.confidence, score,
                    "missing" if track is None else plain_state(score, found.speech.get(k, 0.0)),
                )
            )  # fmt: skip
    return out


def plain_state(score: float | None, speech: float) -> str:
    """Return the state that a speaker score and voice activity give alone, frame by frame."""
    moves, heard = score is not None and score > 0, speech > SPEECH
    if moves:
        return "speak" if heard else "discard"
    return "listen" if heard else "idle"


def people_of_tracks(all_points: Sequence[Point]) -> dict[str, dict[str, list[int]]]:
    """Return, per track, the frames in which it stands for each person; faces that are not scored count as well."""
    out: dict[str, dict[str, list[int]]] = {}
    for p in all_points:
        if p.track is not None and p.person is not None:
            out.setdefault(p.track, {}).setdefault(p.person, []).append(p.k)
    return out


def main_person(people: Mapping[str, Sequence[int]]) -> str:
    """Return whom a track shows most."""
    return max(sorted(people), key=lambda name: len(people[name]))
