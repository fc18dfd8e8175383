"""The script for a lent GPU runs whole on a tiny model, and one part that fails stops no other."""

from __future__ import annotations

import json
from pathlib import Path

import h200
import pytest
import torch


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("part", h200.PARTS)
def test_every_part_runs_tiny(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert h200.run_part(part, "h200_1b3", True, "cpu", 60.0, tmp_path), capsys.readouterr().out
    (file,) = tmp_path.glob(f"h200-*-{part}.json")
    found = json.loads(file.read_text())
    assert found["torch"] == torch.__version__ and found["part"] == part and found["preset"] == "tiny"
    assert "error" not in json.dumps({n: v for n, v in found["found"].items() if n in ("sdpa", "flex", "static, bf16")})
    if part in ("pretrain", "causal", "distill"):
        assert found["found"]["tflop"] > 0 and found["found"]["mfu"] > 0
    if part == "memory":
        assert found["found"]["equal"] is True
    if part == "attention":
        assert found["found"]["largest_difference"] < 1e-4


def test_a_part_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: h200.Case) -> dict[str, object]:
        raise RuntimeError("out of memory")

    monkeypatch.setitem(h200.PARTS, "stream", (broken, ""))
    assert not h200.run_part("stream", "h200_1b3", True, "cpu", 60.0, tmp_path)
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["error"] == "RuntimeError: out of memory"
