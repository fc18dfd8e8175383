"""Weaker back-ends at work are said: of LR-ASD's two networks either or both may be missing, and a run remembers it."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotators.lips.active_speaker import LR_ASD_WEIGHTS
from annotators.models import weights
from curation.dataset import Dataset
from curation.engine.workflow import resolve
from curation.report.content import overview
from curation.report.run_warnings import run_warnings
from curation.report.status import render_status
from curation.storage.store import Store
from workflows import catalog
from workflows.stand_ins import sentence, stand_ins

TALKSET, AVA = LR_ASD_WEIGHTS


@pytest.mark.parametrize(
    "here, expected",
    [
        (set(), {TALKSET: "lip-motion-envelope-heuristic", AVA: "lip-motion-envelope-heuristic"}),
        ({TALKSET}, {AVA: "lr-asd(talkset)"}),
        ({AVA}, {TALKSET: "lr-asd(ava)"}),
        ({TALKSET, AVA}, {}),
    ],
)
def test_what_stands_in_for_lr_asd(here: set[str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = weights.find

    def find(name: str) -> Path | None:
        return (Path(name) if name in here else None) if name in LR_ASD_WEIGHTS else found(name)

    monkeypatch.setattr(weights, "find", find)
    said = stand_ins(resolve(catalog.workflow("conversation")))
    assert {name: weaker for name, weaker in said.items() if name in LR_ASD_WEIGHTS} == expected


def test_the_newest_runs_warnings_stand_in_status_and_report(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_json("dataset.json", {"format": 1})
    assert run_warnings(Dataset(str(tmp_path))) == []
    store.write_json("runs/20260101T000000-aaaaaa/run.json", {"warnings": ["an old one"]})
    store.write_json("runs/20260102T000000-bbbbbb/run.json", {"warnings": [sentence(TALKSET, "lr-asd(ava)")]})
    dataset = Dataset(str(tmp_path))
    assert run_warnings(dataset) == [sentence(TALKSET, "lr-asd(ava)")]
    assert overview(dataset)["run_warnings"] == run_warnings(dataset)
    assert f"warning: {sentence(TALKSET, 'lr-asd(ava)')}" in render_status(dataset)
