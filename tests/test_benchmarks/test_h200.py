"""The script for a lent GPU runs whole on a tiny model, every way of it; what is killed leaves what it had found."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h200
import pytest
import torch
from h200_parts import process, results, streaming

WAYS = {
    "cache": set(streaming.WAYS),
    "attention": {f"{name}, {way}" for name in ("sdpa", "flex") for way in ("forward", "forward and backward")},
    "matmul": {f"{layer}, {kind}" for layer in ("qkv", "out", "up", "down") for kind in ("bf16", "fp8")},
}
"""The ways that a part compares."""
REFUSED = {"attention": {"flex, forward and backward"}, "cache": {"static, fp8, compiled, beside"}}
"""Those that a CPU has not."""


@pytest.fixture(autouse=True)
def _no_graphs_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin and end without compiled graphs; and let nobody listen to how they are made, which takes most of it."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def measured(part: str, file: Path) -> dict[str, Any]:
    h200.run_part(part, "h200_1b3", True, "cpu", 60.0, file)
    return dict(json.loads(file.read_text()))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("part", h200.PARTS)
def test_every_way_of_every_part_runs_tiny(part: str, tmp_path: Path) -> None:
    made = measured(part, tmp_path / "part.json")
    assert (made["state"], made["errors"], made.get("error")) == ("finished", [], None)
    assert made["torch"] == torch.__version__ and made["part"] == part and made["preset"] == "tiny"
    found = made["found"]
    for way in WAYS.get(part, ()):
        figures = found[way]
        assert figures.get("refused") or figures.get("fps", 0) > 0 or figures.get("s", 0) > 0, way
    refused = {n for n, figure in found.items() if isinstance(figure, dict) and "refused" in figure}
    assert refused == REFUSED.get(part, set()), "each with its reason"
    if part in ("pretrain", "causal", "distill"):
        assert found["tflop"] > 0 and found["mfu"] > 0
    if part == "stream":
        assert found["settings"] == streaming.FASTEST and found["fps"] > 0 < found["first_chunk_p99_s"]
    if part == "memory":
        assert found["equal"] is True and found["chunks"] == 14
    if part == "attention":
        assert found["largest_difference"] < 1e-4
    if part == "matmul":
        assert 0 < found["qkv, fp8"]["relative_error"] < 0.2


def test_a_part_that_fails_says_why_and_keeps_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: h200.Case) -> Iterator[tuple[str, object]]:
        yield "first", 1.0
        yield "second", {"error": "RuntimeError: no kernel"}
        raise RuntimeError("out of memory")

    monkeypatch.setitem(h200.PARTS, "stream", (broken, ""))
    made = measured("stream", tmp_path / "part.json")
    assert (made["state"], made["error"], made["errors"]) == ("failed", "RuntimeError: out of memory", ["second"])
    assert made["found"]["first"] == 1.0 and "broken" in made["where"]


def test_a_killed_part_keeps_what_it_found(tmp_path: Path) -> None:
    """Killed by a signal (memory), or at the limit; a part that could write nothing has a file as well."""
    file, head = tmp_path / "part.json", {"part": "stream"}
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from h200_parts.results import Result\n"
        "Result(Path(sys.argv[2]), {'part': 'stream'}).add('fps', 25.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    benchmarks = str(Path(h200.__file__).parent)
    why = process.run_limited([sys.executable, "-c", code, benchmarks, str(file)], 60.0)
    assert why == "ended by signal 9" and json.loads(file.read_text())["state"] == "running"
    results.stopped(file, head, why)
    made = json.loads(file.read_text())
    assert (made["state"], made["error"], made["found"]) == ("stopped", "ended by signal 9", {"fps": 25.0})
    assert not results.finished(file, head) and not list(tmp_path.glob("*.partial"))
    why = process.run_limited([sys.executable, "-c", "import time; time.sleep(600)"], 0.2)
    results.stopped(tmp_path / "none.json", head, why)
    made = json.loads((tmp_path / "none.json").read_text())
    assert (made["state"], made["error"], made["part"]) == ("stopped", "stopped after 0.2 s", "stream")


def test_all_parts_go_on_after_one_is_stopped_and_finished_ones_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = list[tuple[str, float]]()

    def run(command: list[str], limit_s: float) -> str:
        part, date = command[command.index("--part") + 1], command[command.index("--date") + 1]
        begun.append((part, limit_s))
        if part == "cache":
            return "stopped after 600 s"
        head = h200.head_of(part, "h200_1b3", True, "cpu")
        results.Result(tmp_path / f"h200-{date}-{part}.json", head, {"fps": 1.0}).write("finished")
        return ""

    monkeypatch.setattr(h200, "run_limited", run)
    given = ["h200.py", "--tiny", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", given)
    assert h200.main() == 1 and begun == [(part, 600.0) for part in h200.PARTS]
    begun.clear()
    assert h200.main() == 1 and begun == [("cache", 600.0)], "what is finished is left, what was stopped begins again"
    assert "cache: stopped after 600 s" in capsys.readouterr().out
    begun.clear()
    monkeypatch.setattr(sys, "argv", [*given, "--again", "--part", "stream", "memory"])
    assert h200.main() == 0 and [part for part, _ in begun] == ["stream", "memory"]
