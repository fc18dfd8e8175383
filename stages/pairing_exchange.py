"""Link segments of one exchange: somebody speaks while somebody else listens to that voice. Pure."""

from __future__ import annotations

from typing import Any


def link_exchanges(source_id: str, segments: list[dict[str, Any]]) -> None:
    """Set `pair_id` of listening segments and of the speaking ones they overlap in time, in place.

    Segments are one exchange when one listens to the voice with which the other speaks; exchanges that share a
    segment are one. A listener to a voice from off screen is an exchange of its own. Ids count in order of time.
    A speaker's partner is the face that listens to it longest within the segment.
    """
    order = sorted(range(len(segments)), key=lambda i: (segments[i]["start_s"], segments[i]["segment_id"]))
    parent = {i: i for i in order}
    rank = {i: n for n, i in enumerate(order)}

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    listeners = [i for i in order if segments[i]["state"] == "listen" and segments[i]["partner"] is not None]
    speakers = [i for i in order if segments[i]["state"] in ("speak", "both")]
    longest: dict[int, float] = {}
    for i in listeners:
        for j in speakers:
            a, b = segments[i], segments[j]
            overlap = min(a["end_s"], b["end_s"]) - max(a["start_s"], b["start_s"])
            if overlap > 0 and a["track_id"] != b["track_id"] and a["speaker_id"] == b["speaker_id"]:
                x, y = root(i), root(j)
                parent[max(x, y, key=rank.__getitem__)] = min(x, y, key=rank.__getitem__)
                if overlap > longest.get(j, 0.0):
                    longest[j] = overlap
                    b["partner"], b["partner_track_id"] = f"track:{a['track_id']}", a["track_id"]
    names: dict[int, str] = {}
    linked = set(listeners) | {j for j in speakers if any(root(j) == root(i) for i in listeners)}
    for i in order:
        if i in linked:
            segments[i]["pair_id"] = names.setdefault(root(i), f"{source_id}-p{len(names):04d}")
