"""The example notebook: its cells run in order on a packed dataset, as Jupyter would run them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from reader_case import packed
from toy import filled

from curation.dataset import Dataset
from curation.storage.store import table_file
from schemas import tables as t

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "example.ipynb"


def made(folder: Path) -> Dataset:
    dataset = packed(folder)
    rule = {"id": "longer", "on": "segments", "step": "conversation", "keep": "duration_s >= 3", "says": "it is short"}
    dataset.store.write_json("workflow.json", {"policy": {"name": "case", "rules": [rule]}})
    own = {"unit": "segments", "duration_s": 1.2, "step": "conversation", "rule": "longer"}
    decided = [
        filled(t.DECISIONS, **own, unit_id="a", decided_by="a", outcome="filtered", measured='{"duration_s": 1.2}'),
        filled(t.DECISIONS, unit="segments", unit_id="b", decided_by="b", outcome="kept"),
    ]
    dataset.store.write_table(table_file(t.DECISIONS), t.DECISIONS, t.DECISIONS.from_rows(decided))
    return dataset


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves the last shard open
def test_the_example_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATASET", made(tmp_path / "d").store.root)
    names: dict[str, Any] = {}
    shown = []
    for n, cell in enumerate(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]):
        assert not cell.get("outputs"), "the notebook is kept without outputs"
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, f"cell {n}", "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), f"cell {n}", "eval"), names))
    counts, outcomes, first = (x for x in shown if x is not None)
    assert counts["clips"].sum() == len(names["seen"]) > 0 and len(outcomes) and len(first)
    said = capsys.readouterr().out
    assert "speak.flac" in said and "a - it is short; duration 1.2 s, wanted at least 3 s" in said
