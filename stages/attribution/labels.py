"""Human labels over the bindings of voices to faces: whose voice it is, whatever lips and sync say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from schemas.tables.attribution import BindingRow, VoiceTurnRow
from schemas.tables.labels import VoiceLabelRow
from schemas.tables.tracks import TrackRow
from schemas.time import Interval

LABELLED = "human_label"
NEAR = 0.15
"""A face whose median centre lies within this share of the picture is at the label's place."""


def with_labels(
    rows: Sequence[BindingRow],
    labels: Iterable[VoiceLabelRow],
    turns: Sequence[VoiceTurnRow],
    tracks: Sequence[TrackRow],
) -> list[BindingRow]:
    """Return pairs of voices and faces as labels have them, the newest of a voice on top.

    A labelled voice is bound to its face and to no other face of that shot, nor is the face to another voice that
    nobody gave it; a voice of nobody in view is bound to none.
    """
    newest = {
        voice: x
        for x in sorted(labels, key=lambda x: (x.labelled_at, x.label_id))
        if (voice := voice_at(x, turns)) is not None
    }
    found = {voice: faces_of(x, tracks) for voice, x in newest.items()}
    given = {(voice, track) for voice, faces in found.items() for track in faces}
    shots = {x.track_id: x.shot_id for x in tracks}
    out = {(r.speaker_id, r.track_id): _held(r, found, given, shots) for r in rows}
    sources = {x.track_id: x.source_id for x in tracks}
    for voice, track in sorted(given - out.keys()):
        out[voice, track] = BindingRow(
            speaker_id=voice, track_id=track, source_id=sources[track], heard_s=0.0, spoken_s=0.0, asd_mean=0.0,
            strength=0.0, sync_s=0.0, sync_log_odds=None, sync_lag_ms=None, binding=LABELLED, doubted=False, bound=True,
        )  # fmt: skip
    return list(out.values())


def _held(r: BindingRow, found: dict[str, list[str]], given: set[tuple[str, str]], shots: dict[str, str]) -> BindingRow:
    if (r.speaker_id, r.track_id) in given:
        return r.but(binding=LABELLED, doubted=False, bound=True)
    theirs = {shots[x] for x in found.get(r.speaker_id, [])}
    nobody = r.speaker_id in found and not found[r.speaker_id]
    taken = any(track == r.track_id for _, track in given)
    if r.bound and (nobody or taken or shots[r.track_id] in theirs):
        return r.but(binding="other", bound=False)
    return r


def voice_at(label: VoiceLabelRow, turns: Sequence[VoiceTurnRow]) -> str | None:
    """Return the voice that a label is about: the one of its id if heard then, else the one heard longest then."""
    span = Interval(label.start_s, label.end_s)
    heard: dict[str, float] = {}
    for turn in turns:
        shared_s = span.overlap_s(Interval(turn.start_s, turn.end_s))
        if shared_s > 0:
            heard[turn.speaker_id] = heard.get(turn.speaker_id, 0.0) + shared_s
    if heard.get(label.speaker_id, 0.0) > span.duration_s / 2:
        return label.speaker_id
    return min(heard, key=lambda v: (-heard[v], v), default=None)


def faces_of(label: VoiceLabelRow, tracks: Sequence[TrackRow]) -> list[str]:
    """Return the tracks at a label's place: its own if it is still there, else the nearest that is seen then."""
    if label.track_id is None or label.center_x is None or label.center_y is None:
        return []
    near = [x for x in tracks if _apart(label, x) <= NEAR]
    if any(x.track_id == label.track_id for x in near):
        return [label.track_id]
    span = Interval(label.start_s, label.end_s)
    then = [x for x in near if span.overlap_s(Interval(x.start_s, x.end_s)) > 0]
    return [x.track_id for x in sorted(then, key=lambda x: (_apart(label, x), x.track_id))[:1]]


def _apart(label: VoiceLabelRow, track: TrackRow) -> float:
    assert label.center_x is not None and label.center_y is not None
    return math.hypot(label.center_x - track.center_x, label.center_y - track.center_y)
