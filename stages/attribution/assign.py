"""Which voice is whose: the assignment of voices to faces with the most evidence, and when it is too close. Pure.

Rows are those of BINDINGS: one a (voice, face) pair, with active speaker scores and sync while the voice is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy

from schemas.tables.attribution import BindingRow
from schemas.time import Interval


def contested(
    pair: BindingRow,
    bound: Sequence[BindingRow],
    rows: Sequence[BindingRow],
    shots: Mapping[str, str],
    min_margin: float,
    min_strength: float,
    spans: Mapping[str, Interval] | None = None,
    min_sync_margin: float = 3.0,
) -> bool:
    """Say whether another face in view moves its lips nearly as well to this voice: then nobody owns it surely.

    Where that face has been given a voice of its own, the exchange of the two is what counts. Faces of one shot that
    are never seen together (`spans`: their times; none given = all are) are no rivals: one person's track may break.
    """
    shot = shots[pair.track_id]
    row = {(r.speaker_id, r.track_id): r for r in rows if shots[r.track_id] == shot}
    voice_of = {r.track_id: r.speaker_id for r in bound if shots[r.track_id] == shot}
    for (speaker, track), rival in row.items():
        if speaker != pair.speaker_id or track == pair.track_id or rival.strength < min_strength:
            continue
        if not _together(pair.track_id, track, spans):
            continue
        other = voice_of.get(track)
        exchange: list[tuple[BindingRow, BindingRow]] = [(pair, rival)]
        if other is not None and (other, pair.track_id) in row:
            exchange.append((row[other, track], row[other, pair.track_id]))
        if _margin(exchange, lambda r: r.sync_log_odds, min_sync_margin):
            continue
        if _margin(exchange, lambda r: r.asd_mean, min_margin):
            continue
        return True
    return False


def _margin(
    exchange: Sequence[tuple[BindingRow, BindingRow]], measure: Callable[[BindingRow], float | None], least: float
) -> bool:
    """Say whether the pairs as they are beat the exchanged ones by `least`; False where a measure is missing."""
    gain = 0.0
    for own, rival in exchange:
        mine, theirs = measure(own), measure(rival)
        if mine is None or theirs is None:
            return False
        gain += mine - theirs
    return gain >= least


def _together(a: str, b: str, spans: Mapping[str, Interval] | None) -> bool:
    return spans is None or spans[a].overlap_s(spans[b]) > 0


def assign(
    rows: Sequence[BindingRow],
    shots: Mapping[str, str],
    min_strength: float,
    min_heard_s: float,
    spans: Mapping[str, Interval] | None = None,
) -> list[BindingRow]:
    """Return the bound pairs: in each shot the one-to-one assignment of voices to faces with the most evidence.

    Evidence of a pair is the sum over heard frames of its mean score, and its sync log-odds; pairs below the limits,
    and those whose lips do not belong to the voice, are out of the question.
    With `spans` (times of the tracks), faces left over then join the voice they fit best, as long as they are never
    seen together with a face that has it.
    """
    out = []
    for shot in sorted(set(shots.values())):
        mine = [r for r in rows if shots[r.track_id] == shot]
        good = [
            r
            for r in mine
            if r.strength >= min_strength and r.heard_s >= min_heard_s and r.asd_mean > 0 and r.binding != "unsynced"
        ]
        speakers = sorted({r.speaker_id for r in good})
        tracks = sorted({r.track_id for r in good})
        value: npt.NDArray[np.float64] = np.zeros((len(speakers), len(tracks)))
        table = {(r.speaker_id, r.track_id): r for r in good}
        for (speaker, track), r in table.items():
            value[speakers.index(speaker), tracks.index(track)] = _value(r)
        chosen = [
            table[speakers[i], tracks[j]]
            for i, j in zip(*scipy.optimize.linear_sum_assignment(-value), strict=True)
            if (speakers[i], tracks[j]) in table
        ]
        out += chosen if spans is None else [*chosen, *_left_over(good, chosen, spans)]
    return out


_FLOOR = -50.0


def _value(row: BindingRow) -> float:
    """Return what a pair is worth: its active speaker score over the time heard, plus its sync log-odds.

    An assignment is found for all voices and faces of a shot together; the floor keeps one pair that is certainly wrong
    from deciding everything.
    """
    sync = row.sync_log_odds
    return float(row.asd_mean * row.heard_s + (0.0 if sync is None else max(sync, _FLOOR)))


def _left_over(good: list[BindingRow], chosen: list[BindingRow], spans: Mapping[str, Interval]) -> list[BindingRow]:
    """Return pairs of faces without a voice and voices whose faces they are never seen with, best evidence first."""
    taken, found = list(chosen), []
    order = sorted(good, key=lambda r: (-_value(r), r.speaker_id, r.track_id))
    for r in order:
        has_voice = any(x.track_id == r.track_id for x in taken)
        rivals = [x.track_id for x in taken if x.speaker_id == r.speaker_id]
        if not has_voice and not any(_together(r.track_id, x, spans) for x in rivals):
            taken.append(r)
            found.append(r)
    return found
