"""Link segments of one exchange: somebody speaks while somebody else listens to that voice. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.tables.pairing import SegmentRow

_REVERSE_SHOT_S = 10.0
"""A listener's shot belongs to the speaker's shot before or after it up to this far away (seconds)."""


def link_exchanges(source_id: str, segments: Sequence[SegmentRow]) -> list[SegmentRow]:
    """Return the segments with `pair_id` for listening ones and for the speaking ones they overlap in time.

    Segments are one exchange when one listens to the voice with which the other speaks; exchanges that share a
    segment are one. Where nobody in view speaks with that voice at the time (shot and reverse shot), the partner's
    nearest speaking segment within ten seconds takes part. A listener to a voice from off screen is an exchange of
    its own. Ids count in order of time. A speaker's partner is the face that listens to it longest within the segment.
    """
    order = sorted(range(len(segments)), key=lambda i: (segments[i].start_s, segments[i].segment_id))
    parent = {i: i for i in order}
    rank = {i: n for n, i in enumerate(order)}

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    listeners = [i for i in order if segments[i].state == "listen" and segments[i].partner is not None]
    speakers = [i for i in order if segments[i].state in ("speak", "both")]
    longest: dict[int, float] = {}
    listener_of: dict[int, str] = {}
    for i in listeners:
        answered = False
        for j in speakers:
            a, b = segments[i], segments[j]
            overlap = min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
            if overlap > 0 and a.track_id != b.track_id and a.speaker_id == b.speaker_id:
                x, y = root(i), root(j)
                parent[max(x, y, key=rank.__getitem__)] = min(x, y, key=rank.__getitem__)
                answered = True
                if overlap > longest.get(j, 0.0):
                    longest[j] = overlap
                    listener_of[j] = a.track_id
        if not answered:
            near = _reverse_shot(segments[i], [segments[j] for j in speakers])
            if near is not None:
                x, y = root(i), root(speakers[near])
                parent[max(x, y, key=rank.__getitem__)] = min(x, y, key=rank.__getitem__)
    names: dict[int, str] = {}
    linked = set(listeners) | {j for j in speakers if any(root(j) == root(i) for i in listeners)}
    out = list(segments)
    for i, track in listener_of.items():
        out[i] = out[i].but(partner=f"track:{track}", partner_track_id=track)
    for i in order:
        if i in linked:
            out[i] = out[i].but(pair_id=names.setdefault(root(i), f"{source_id}-p{len(names):04d}"))
    return out


def _reverse_shot(listener: SegmentRow, speakers: Sequence[SegmentRow]) -> int | None:
    """Return the index of the partner's speaking segment nearest in time, None when none is near enough."""

    def far(s: SegmentRow) -> float:
        return max(s.start_s - listener.end_s, listener.start_s - s.end_s)

    fits = [
        (far(s), n)
        for n, s in enumerate(speakers)
        if s.track_id == listener.partner_track_id and far(s) <= _REVERSE_SHOT_S
    ]
    return min(fits)[1] if fits else None
