"""Whether measured events (smiles, blinks, nods, gestures and others) are those that a person sees.

    python benchmarks/events.py DATASET... [--labels FILE] [--json FILE]

Each DATASET holds labelled clips and was made with `benchmarks/measure_all.yaml`; the rules of this tree are applied to
its stored faces and bodies. Of a clip that several hold the first
counts; labels of clips that none holds are left out. The labels are stretches
in which all events of the listed kinds were marked by eye (kinds of its own where a stretch names them). An event is
right when it meets a label of its name, 0.15 s beside it included; a label is found when an event meets it. What
touches a stretch marked as unsure counts neither way. Stretches of discarded segments have no events and lower the
recall.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
from measured_events import Piece, pieces

from curation import Dataset

SLACK_S = 0.15
SCORED_KINDS = ("facial_action", "head_motion", "body_action")
"""What was seen to happen, not what it may mean."""
LABELS = Path(__file__).with_name("event_labels.json")


@dataclass(frozen=True, slots=True)
class Span:
    """An event's name and time in seconds."""

    name: str
    start_s: float
    end_s: float

    def meets(self, other: Span, slack_s: float = SLACK_S) -> bool:
        """Say whether both are of one name and overlap, or nearly."""
        near = self.start_s < other.end_s + slack_s and other.start_s < self.end_s + slack_s
        return self.name == other.name and near


@dataclass(slots=True)
class Score:
    """How many labels there are, and are found; how many events were measured, and are right."""

    labels: int = 0
    found: int = 0
    measured: int = 0
    right: int = 0

    def figures(self) -> dict[str, Any]:
        """Return the counts with precision and recall, null where there is nothing to divide by."""
        return {
            "labels": self.labels,
            "found": self.found,
            "measured": self.measured,
            "right": self.right,
            "recall": round(self.found / self.labels, 3) if self.labels else None,
            "precision": round(self.right / self.measured, 3) if self.measured else None,
        }


def compare(labels: Sequence[Span], unsure: Sequence[Span], measured: Sequence[Span], score: Score) -> None:
    """Add one stretch's events of one name to a score."""
    for label in labels:
        score.labels += 1
        score.found += any(label.meets(m) for m in measured)
    for m in measured:
        if any(m.meets(label) for label in labels):
            score.measured += 1
            score.right += 1
        elif not any(m.meets(u) for u in unsure):
            score.measured += 1


def scores(labels: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> dict[str, Score]:
    """Return a score for each kind of event; `events` are rows with clip, x, event, start_s and end_s."""
    out: dict[str, Score] = {}
    for stretch in labels["stretches"]:
        here = [
            Span(e["event"], e["start_s"], e["end_s"])
            for e in events
            if e["clip"] == stretch["clip"]
            and stretch["x"][0] <= e["x"] <= stretch["x"][1]
            and e["start_s"] < stretch["end_s"]
            and e["end_s"] > stretch["start_s"]
        ]
        seen, unsure = ([Span(*s) for s in stretch[key]] for key in ("events", "unsure"))
        for name in stretch.get("complete", labels["complete"]):
            said, doubted, measured = ([s for s in spans if s.name == name] for spans in (seen, unsure, here))
            compare(said, doubted, measured, out.setdefault(name, Score()))
    return out


def pieces_of(datasets: Sequence[Path]) -> list[Piece]:
    """Return the measured segments of datasets; of a clip that several hold the first counts."""
    out: list[Piece] = []
    for dataset in datasets:
        clips = {piece.clip for piece in out}
        out += [piece for piece in pieces(Dataset(dataset)) if piece.clip not in clips]
    return out


def main() -> None:
    """Print precision and recall of each kind of event."""
    parser = record.parser(__doc__)
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("--labels", type=Path, default=LABELS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    labels = json.loads(args.labels.read_text(encoding="utf-8"))
    measured = pieces_of(args.datasets)
    clips = {piece.clip for piece in measured}
    labels["stretches"] = [s for s in labels["stretches"] if s["clip"] in clips]
    found = scores(labels, [row for piece in measured for row in piece.rows() if row["kind"] in SCORED_KINDS])
    seconds = sum(s["end_s"] - s["start_s"] for s in labels["stretches"])
    result = {
        **record.today_here(), "stretches": len(labels["stretches"]), "seconds": round(seconds, 1),
        "events": {name: score.figures() for name, score in found.items()},
    }  # fmt: skip
    print(record.as_json(result), end="")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
