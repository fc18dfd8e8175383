"""The benchmark of events: what counts as right, found, and neither; and that its labels are well-formed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.samples.vocabulary import BODY_ACTIONS, FACIAL_ACTIONS, HEAD_MOTIONS

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def program() -> Any:
    """The benchmark as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("event_benchmark", BENCHMARKS / "events.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_labels_name_known_events_inside_their_stretch() -> None:
    labels = json.loads((BENCHMARKS / "event_labels.json").read_text(encoding="utf-8"))
    known = {*FACIAL_ACTIONS.names, *HEAD_MOTIONS.names, *BODY_ACTIONS.names}
    for s in labels["stretches"]:
        complete = s.get("complete", labels["complete"])
        assert set(complete) <= known
        assert 0 <= s["x"][0] < s["x"][1] <= 1 and s["start_s"] < s["end_s"]
        for name, start_s, end_s in (*s["events"], *s["unsure"]):
            assert name in complete
            assert s["start_s"] <= start_s < end_s <= s["end_s"]


def test_right_found_missed_false_and_unsure(program: Any) -> None:
    labels = {
        "complete": ["smile", "blink", "nod"],
        "stretches": [
            {"clip": "a.mp4", "x": [0.4, 0.6], "start_s": 10.0, "end_s": 20.0, "unsure": [["blink", 18.0, 19.0]],
             "events": [["smile", 11.0, 13.0], ["smile", 15.0, 16.0], ["blink", 12.0, 12.2]]},
        ],
    }  # fmt: skip

    def event(name: str, start_s: float, end_s: float, x: float = 0.5, clip: str = "a.mp4") -> dict[str, Any]:
        return {"event": name, "start_s": start_s, "end_s": end_s, "x": x, "clip": clip}

    measured = [
        event("smile", 11.5, 14.0), event("smile", 17.0, 18.0), event("blink", 12.3, 12.4), event("blink", 18.2, 18.4),
        event("nod", 13.0, 14.0), event("nod", 13.0, 14.0, x=0.9), event("nod", 13.0, 14.0, clip="b.mp4"),
        event("nod", 5.0, 6.0),
    ]  # fmt: skip
    found = {name: score.figures() for name, score in program.scores(labels, measured).items()}
    assert (found["smile"]["recall"], found["smile"]["precision"]) == (0.5, 0.5)
    assert (found["blink"]["recall"], found["blink"]["precision"], found["blink"]["measured"]) == (1.0, 1.0, 1)
    assert (found["nod"]["recall"], found["nod"]["precision"]) == (None, 0.0)
