"""The limits of hand strokes, chosen without each labelled clip in turn and judged on it.

    python benchmarks/fit_gestures.py DATASET [--labels FILE] [--json FILE]

DATASET is as for `benchmarks/events.py`. Limits are chosen by F0.5, which weighs precision over recall: a caption that
tells of a gesture nobody makes harms more than one that leaves it out. Beside it stands the score of the limits in use.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import events as scoring
import record

from annotators.body.gestures import REST_SPEED, STROKE_SPEED, gestures
from annotators.body.series import BodySignals
from curation import Dataset
from schemas import tables as t
from schemas.tables.body import BodyFrameRow
from stages.performance.body import body_signals

NAME = "gesture"
LIMITS = [(on, off) for on, off in product((0.6, 0.7, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0), (0.3, 0.4, 0.5, 0.6)) if off < on]

Body = tuple[str, float, BodySignals]


def bodies(dataset: Dataset) -> list[Body]:
    """Return each segment's clip, place and body."""
    names = {r["source_id"]: Path(r["name"]).name for r in dataset.table(t.INPUTS).to_pylist()}
    places = {r["track_id"]: r["center_x"] for r in dataset.table(t.TRACKS).to_pylist()}
    rows: dict[str, list[BodyFrameRow]] = defaultdict(list)
    for r in t.BODY_FRAMES.rows(dataset.table(t.BODY_FRAMES)):
        rows[r.segment_id].append(r)
    return [
        (
            names[mine[0].source_id],
            places[mine[0].track_id],
            body_signals(sorted(mine, key=lambda r: r.k)),
        )
        for _, mine in sorted(rows.items())
    ]


def found(measured: Sequence[Body], limits: tuple[float, float]) -> list[dict[str, Any]]:
    """Return the gestures that limits find, as rows for the scores of events."""
    return [
        {"clip": clip, "x": x, "event": NAME, "start_s": e.start_s, "end_s": e.end_s}
        for clip, x, body in measured
        for e in gestures(body, *limits)
    ]


def score(rows: Sequence[Mapping[str, Any]], stretches: Sequence[Mapping[str, Any]]) -> scoring.Score:
    """Return the score of gestures in some labelled stretches."""
    return scoring.scores({"complete": [NAME], "stretches": stretches}, rows).get(NAME, scoring.Score())


def f_half(s: scoring.Score) -> float:
    """Return F0.5; 0 where nothing is right."""
    if not s.right or not s.found:
        return 0.0
    precision, recall = s.right / s.measured, s.found / s.labels
    return 1.25 * precision * recall / (0.25 * precision + recall)


def main() -> None:
    """Print the limits in use and the held-out figures."""
    parser = record.parser(__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--labels", type=Path, default=scoring.LABELS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    labels = json.loads(args.labels.read_text(encoding="utf-8"))
    stretches = [s for s in labels["stretches"] if NAME in s.get("complete", labels["complete"])]
    measured = bodies(Dataset(args.dataset))
    rows = {limits: found(measured, limits) for limits in LIMITS}
    total, clips = scoring.Score(), {}
    for clip in sorted({s["clip"] for s in stretches}):
        others = [s for s in stretches if s["clip"] != clip]
        chosen = max(LIMITS, key=lambda limits: f_half(score(rows[limits], others)))
        held_out = score(rows[chosen], [s for s in stretches if s["clip"] == clip])
        clips[clip] = {"limits": chosen, **held_out.figures()}
        for name in ("labels", "found", "measured", "right"):
            setattr(total, name, getattr(total, name) + getattr(held_out, name))
    in_use = (STROKE_SPEED, REST_SPEED)
    result = {
        **record.today_here(), "in_use": {"limits": in_use, **score(found(measured, in_use), stretches).figures()},
        "held_out": total.figures(), "clips": clips,
    }  # fmt: skip
    print(record.as_json(result), end="")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
