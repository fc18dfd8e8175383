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
from h200_parts.case import CONFIGS, make_case
from h200_parts.codec import Undecoded
from train import random_batch, text_places

WAYS = {
    "cache": set(streaming.WAYS),
    "attention": {f"{name}, {way}" for name in ("sdpa", "flex") for way in ("forward", "forward and backward")},
    "attention-step": {"sdpa", "flex"},
    "matmul": {f"{layer}, {kind}" for layer in ("qkv", "out", "up", "down") for kind in ("bf16", "fp8")},
}
"""The ways that a part compares."""
REFUSED = {
    "attention": {"flex, forward and backward"}, "cache": {"static, fp8, compiled, beside"}, "attention-step": {"flex"},
}  # fmt: skip
"""Those that a CPU has not."""
STEPS = ("pretrain", "causal", "consistency", "distill", "backbone", "refiner")


@pytest.fixture(autouse=True)
def _no_graphs_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin and end without compiled graphs; and let nobody listen to how they are made, which takes most of it."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def measured(part: str, file: Path, preset: str = "h200_1b3") -> dict[str, Any]:
    h200.run_part(part, preset, True, "cpu", 60.0, file)
    return dict(json.loads(file.read_text()))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("part", h200.PARTS)
def test_every_way_of_every_part_runs_tiny(part: str, tmp_path: Path) -> None:
    made = measured(part, tmp_path / "part.json")
    assert (made["state"], made["errors"], made.get("error")) == ("finished", [], None)
    assert made["torch"] == torch.__version__ and made["part"] == part and made["tiny"] and made["preset"] == "h200_1b3"
    found = made["found"]
    for way in WAYS.get(part, ()):
        figures = found[way]
        assert figures.get("refused") or max(figures.get(n, 0) for n in ("fps", "s", "mfu")) > 0, way
    refused = {n for n, figure in found.items() if isinstance(figure, dict) and "refused" in figure}
    assert refused == REFUSED.get(part, set()), "each with its reason"
    if part in STEPS:
        assert found["tflop"] > 0 and found["mfu"] > 0 and found["timed"] == 1
    if part == "stream":
        assert found["settings"] == streaming.FASTEST and found["fps"] > 0
    if part == "start":
        assert found["starts"] == 3 and 0 < found["first_chunk_p50_s"] <= found["first_chunk_max_s"]
        assert "first_chunk_p99_s" not in found, "of three there is no slowest hundredth"
    if part == "memory":
        assert found["equal"] is True and found["chunks"] == 14
    if part == "attention":
        assert found["largest_difference"] < 1e-4
    if part == "matmul":
        assert 0 < found["qkv, fp8"]["relative_error"] < 0.2


@pytest.mark.parametrize("preset", ["wan_5b", "wan_14b_i2v"])
@pytest.mark.parametrize("part", ["start", "consistency", "refiner"])
def test_other_forms_run_tiny(preset: str, part: str, tmp_path: Path) -> None:
    """A given picture as a clean latent; and as channels and tokens, with low rank over a base that is drawn."""
    made = measured(part, tmp_path / "part.json", preset)
    assert (made["state"], made["errors"], made.get("error")) == ("finished", [], None)
    case = make_case(preset, True, "cpu", 1.0)
    m = case.config.model
    assert m.kind == "wan" and case.config.data.first_frame and bool(m.picture_width) == ("i2v" in preset)
    assert bool(case.config.lora.rank) == bool(CONFIGS[preset]().lora.rank) == ("14b" in preset)


def test_batches_are_those_of_the_preset() -> None:
    places = {name: text_places(make()) for name, make in CONFIGS.items()}
    assert places == {"toy": 48, "small": 64, "h200_1b3": 64} | {n: 512 for n in CONFIGS if n.startswith("wan_")}
    config = CONFIGS["wan_14b_i2v"]()
    cond = random_batch(config, (3, 4, 6), 2, 512).cond
    assert cond.text_BLD.shape == (2, 512, 4096) and cond.picture_BIP is not None and cond.given_on_BF is not None
    assert cond.picture_BIP.shape == (2, 257, 1280) and cond.given_on_BF.tolist() == [[True, False, False]] * 2
    assert random_batch(CONFIGS["wan_14b"](), (3, 4, 6), 2, 512).cond.given_BFCHW is None


def test_a_codec_that_decodes_nothing_has_the_shapes_of_wans() -> None:
    for channels, side in ((16, 8), (48, 16)):
        codec = Undecoded(channels)
        assert codec.encode(torch.zeros(1, 9, 3, 32, 64)).shape == (1, 3, channels, 32 // side, 64 // side)
        first, state = codec.decode(torch.zeros(1, 3, channels, 4, 8))
        assert first.shape[1] == 9 and codec.decode(torch.zeros(1, 3, channels, 4, 8), state)[0].shape[1] == 12


def test_the_slowest_hundredth_is_told_of_a_hundred_starts() -> None:
    assert "first_chunk_p99_s" not in streaming.first_chunks([0.1] * (streaming.ENOUGH - 1))
    found = streaming.first_chunks([0.1] * 195 + [0.9] * 5)
    assert found["first_chunk_p90_s"] == 0.1 and found["first_chunk_p99_s"] == found["first_chunk_max_s"] == 0.9


def test_files_are_named_apart_and_none_is_lost(tmp_path: Path) -> None:
    head = h200.head_of("stream", "h200_1b3", True, "cpu")
    files = {results.file_of(tmp_path, "2026-11-24", head | other) for other in (
        {}, {"preset": "wan_1b3"}, {"tiny": False}, {"on": "NVIDIA H200"}, {"part": "start"})}  # fmt: skip
    assert len(files) == 5 and tmp_path / "h200-2026-11-24-h200_1b3-tiny-cpu-stream.json" in files
    file = results.file_of(tmp_path, "2026-11-24", head)
    for fps in (1.0, 2.0):
        results.set_aside(file)
        results.Result(file, head, {"fps": fps}).write("finished")
    results.set_aside(file)
    kept = {f.name: json.loads(f.read_text())["found"]["fps"] for f in tmp_path.iterdir()}
    assert kept == {f"{file.stem}.1.json": 1.0, f"{file.stem}.2.json": 2.0}


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
        results.Result(results.file_of(tmp_path, date, head), head, {"fps": 1.0}).write("finished")
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
