"""A gesture rule's limits, chosen without each labelled clip in turn and judged on it.

    python benchmarks/fit_gestures.py {hands,head} DATASET... [--labels FILE] [--json FILE]

`hands`: wrist speeds from which a hand strokes and below which it rests. `head`: how much larger nods and shakes of a
person who speaks must be, and how much slower one half of a nod may be. The DATASETs are as for `benchmarks/events.py`.
Limits are chosen by F0.5, which weighs precision over recall: a caption that tells of a gesture nobody makes harms more
than one that leaves it out. Beside it stands the score of the limits in use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import events as scoring
import record
from measured_events import Piece

from annotators.body.gestures import REST_SPEED, STROKE_SPEED, gestures
from annotators.face.sizes import LEAST_PX, face_px
from annotators.performance.head_gestures import SLOW_NOD, SPEAKING_FACTOR, head_gestures
from annotators.performance.signal_series import Event, in_profile
from annotators.picture.camera_moves import panned

Limits = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule finds (`names`), with which limits it may, and which it uses."""

    names: tuple[str, ...]
    limits: tuple[Limits, ...]
    in_use: Limits
    find: Callable[[Piece, Limits], list[Event]]


def strokes(piece: Piece, limits: Limits) -> list[Event]:
    """Return the hands' strokes."""
    return gestures(piece.body, *limits) if piece.body is not None else []


def swings(piece: Piece, limits: Limits) -> list[Event]:
    """Return nods and shakes, as `performance_signals.measure` lets them be told."""
    if not piece.face.valid.any() or face_px(piece.face) < LEAST_PX["swings"]:
        return []
    face = piece.face.filled()
    unread = in_profile(face) | panned(piece.camera)
    return head_gestures(face, piece.baseline, piece.speaking, unread, *limits)


SPEEDS = tuple(
    (on, off) for on, off in product((0.6, 0.7, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0), (0.3, 0.4, 0.5, 0.6)) if off < on
)
FACTORS = tuple(product((1.0, 1.3, 1.6, 2.0, 2.5, 3.0), (1.0, 1.25, 1.5, 2.0)))
RULES = {
    "hands": Rule(("gesture",), SPEEDS, (STROKE_SPEED, REST_SPEED), strokes),
    "head": Rule(("nod", "shake"), FACTORS, (SPEAKING_FACTOR, SLOW_NOD), swings),
}


def found(rule: Rule, pieces: Sequence[Piece], limits: Limits) -> list[dict[str, Any]]:
    """Return what limits find, as rows for the scores of events."""
    return [
        {"clip": p.clip, "x": p.x, "event": e.name, "start_s": e.start_s, "end_s": e.end_s}
        for p in pieces
        for e in rule.find(p, limits)
        if e.name in rule.names
    ]


def score(rule: Rule, rows: Sequence[Mapping[str, Any]], stretches: Sequence[Mapping[str, Any]]) -> scoring.Score:
    """Return the score of a rule's events in some labelled stretches, all its names together."""
    labels = {"complete": [], "stretches": [{**s, "complete": rule.names} for s in stretches]}
    return total(scoring.scores(labels, rows).values())


def total(scores: Any) -> scoring.Score:
    """Return the sum of scores."""
    out = scoring.Score()
    for one in scores:
        for name in ("labels", "found", "measured", "right"):
            setattr(out, name, getattr(out, name) + getattr(one, name))
    return out


def f_half(s: scoring.Score) -> float:
    """Return F0.5; 0 where nothing is right."""
    if not s.right or not s.found:
        return 0.0
    precision, recall = s.right / s.measured, s.found / s.labels
    return 1.25 * precision * recall / (0.25 * precision + recall)


def main() -> None:
    """Print the limits in use and the held-out figures."""
    parser = record.parser(__doc__)
    parser.add_argument("rule", choices=sorted(RULES))
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("--labels", type=Path, default=scoring.LABELS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rule = RULES[args.rule]
    labels = json.loads(args.labels.read_text(encoding="utf-8"))
    pieces = scoring.pieces_of(args.datasets)
    clips = {piece.clip for piece in pieces}
    stretches = [
        s
        for s in labels["stretches"]
        if s["clip"] in clips and {*rule.names} <= {*s.get("complete", labels["complete"])}
    ]
    rows = {limits: found(rule, pieces, limits) for limits in rule.limits}
    held_out, by_clip = [], {}
    for clip in sorted({s["clip"] for s in stretches}):
        others = [s for s in stretches if s["clip"] != clip]
        chosen = max(rule.limits, key=lambda limits: f_half(score(rule, rows[limits], others)))
        held_out.append(score(rule, rows[chosen], [s for s in stretches if s["clip"] == clip]))
        by_clip[clip] = {"limits": chosen, **held_out[-1].figures()}
    in_use = score(rule, found(rule, pieces, rule.in_use), stretches)
    result = {
        **record.today_here(), "in_use": {"limits": rule.in_use, **in_use.figures()},
        "held_out": total(held_out).figures(), "clips": by_clip,
    }  # fmt: skip
    print(record.as_json(result), end="")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
