"""LR-ASD's visual encoder, nearly all of its cost, in PyTorch and in onnxruntime: time, and whether scores agree.

    python benchmarks/asd_runtime.py [--seconds 8] [--json benchmarks/results/asd_runtime.json]

One thread each, on random crops (the cost does not depend on what they show). "3-d" is the network as published;
"folded" the same function with norms folded and two-dimensional convolutions on channels-last memory, as the stage runs
it. Exporting needs `pip install onnx onnxscript`, which nothing else here does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from annotators.lips.active_speaker import LR_ASD_WEIGHT, LrAsdActiveSpeaker
from annotators.lips.lr_asd import FoldedVisualEncoder, LrAsd
from annotators.models import weights

Floats = NDArray[np.float32]
CHUNK = 68
"""Frames in a call: 50 with 9 of context on either side, as the stage makes them."""


class _Folded(nn.Module):
    def __init__(self, encoder: FoldedVisualEncoder) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, crops: Tensor) -> Tensor:
        return self._encoder(crops)


def onnx_encoder(module: nn.Module, optimise: bool = True) -> Callable[[Floats], Floats]:
    """Export a module for crops [1, 68, 112, 112] and return it as a function that runs in onnxruntime."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "encoder.onnx"
        torch.onnx.export(module.eval(), (torch.zeros(1, CHUNK, 112, 112),), str(path), dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda crops: np.asarray(session.run(None, {name: crops})[0], np.float32)


def torch_encoder(module: Callable[[Tensor], Tensor]) -> Callable[[Floats], Floats]:
    """Return a PyTorch module as a function of arrays."""

    def run(crops: Floats) -> Floats:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(crops)).numpy(), np.float32)

    return run


def timed(run: Callable[[Floats], Floats], crops: Floats, rounds: int) -> tuple[float, Floats]:
    """Return (least CPU seconds of a call, its result)."""
    out, best = run(crops), float("inf")
    for _ in range(rounds):
        began = time.process_time()
        run(crops)
        best = min(best, time.process_time() - began)
    return best, out


def whole(seconds: float) -> dict[str, float]:
    """Return the cost of scoring one face, with its sound's features and the detector, as a multiple of real time."""
    rng = np.random.default_rng(1)
    n = round(seconds * 25)
    crops = rng.integers(0, 255, (n, 112, 112), np.uint8)
    audio = rng.normal(0, 0.1, n * 640).astype(np.float32)
    scorer = LrAsdActiveSpeaker()
    scorer.scores(crops[:75], audio[: 75 * 640])
    began = time.process_time()
    scorer.scores(crops, audio)
    return {"cpu_s_per_face_s": round((time.process_time() - began) / seconds, 4)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the face that is scored as a whole")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = LrAsd()
    network.load_state_dict(torch.load(weights.resolve(LR_ASD_WEIGHT), map_location="cpu", weights_only=True))
    encoder = network.eval().requires_grad_(False).model.visualEncoder
    folded = FoldedVisualEncoder(encoder)
    crops = np.random.default_rng(0).integers(0, 255, (1, CHUNK, 112, 112)).astype(np.float32)
    ways = {
        "PyTorch, 3-d": torch_encoder(encoder),
        "PyTorch, folded (in use)": torch_encoder(folded),
        "onnxruntime, 3-d": onnx_encoder(encoder),
        "onnxruntime, folded": onnx_encoder(_Folded(folded)),
    }
    rows: dict[str, Any] = {}
    reference: Floats | None = None
    for name, run in ways.items():
        cpu_s, out = timed(run, crops, args.rounds)
        reference = out if reference is None else reference
        rows[name] = {
            "cpu_ms_per_face_frame": round(1000 * cpu_s / CHUNK, 3),
            "largest_difference": float(f"{np.abs(out - reference).max() / np.abs(reference).max():.1e}"),
        }
        print(
            f"{name:<26}{rows[name]['cpu_ms_per_face_frame']:>8.2f} ms a frame, off {rows[name]['largest_difference']}"
        )
    result = {
        "command": "python benchmarks/asd_runtime.py",
        **record.today_here(),
        "visual_encoder": rows,
        "whole_scorer": whole(args.seconds),
    }
    print(f"whole scorer: {result['whole_scorer']} of real time a face")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
