"""LR-ASD's visual encoder, nearly all of its cost, in PyTorch and in onnxruntime: time, and whether scores agree.

    python benchmarks/asd_runtime.py [--frames 400] [--seconds 20] [--json benchmarks/results/asd_runtime.json]

One thread each, on random crops (the cost does not depend on what they show). "3-d" is the network as published;
"folded" the same function with norms folded and two-dimensional convolutions on channels-last memory. "context": the
face is read in chunks of 50 frames with 9 more on either side, which are computed and cut off; "pieces": without, as
the stage runs it. The least of some rounds, by turns. Exporting needs `pip install onnxscript`, which nothing else here
does; without it the rows of onnxruntime are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np
import record
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from annotators.lips.active_speaker import LR_ASD_WEIGHT, LrAsdActiveSpeaker
from annotators.lips.lr_asd import CONTEXT_FRAMES, LrAsd
from annotators.lips.lr_asd_folded import PIECE_FRAMES, FoldedVisualEncoder
from annotators.models import weights

Floats = NDArray[np.float32]
CHUNK = 50
"""Frames of a chunk that is read with its context."""
Run = Callable[[Floats], Floats]


class _Folded(nn.Module):
    def __init__(self, encoder: FoldedVisualEncoder) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, crops: Tensor) -> Tensor:
        return self._encoder(crops)


def onnx_encoder(module: nn.Module) -> Run:
    """Export a module for crops [1, 68, 112, 112], a chunk with its context, and return it in onnxruntime."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "encoder.onnx"
        torch.onnx.export(
            module.eval(),
            (torch.zeros(1, CHUNK + 2 * CONTEXT_FRAMES, 112, 112),),
            str(path),
            dynamo=True,
            verbose=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda crops: np.asarray(session.run(None, {name: crops})[0], np.float32)


def torch_encoder(module: Callable[[Tensor], Tensor]) -> Run:
    """Return a PyTorch module as a function of arrays."""

    def run(crops: Floats) -> Floats:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(crops)).numpy(), np.float32)

    return run


def in_chunks(run: Run) -> Run:
    """Return a function of a whole face that reads it in chunks of one length, each with its context."""

    def whole_face(crops: Floats) -> Floats:
        around = np.pad(crops, ((0, 0), (CONTEXT_FRAMES, CONTEXT_FRAMES), (0, 0), (0, 0)), mode="edge")
        firsts = range(0, crops.shape[1], CHUNK)
        parts = [run(around[:, n : n + CHUNK + 2 * CONTEXT_FRAMES]) for n in firsts]
        return np.concatenate([part[:, CONTEXT_FRAMES:-CONTEXT_FRAMES] for part in parts], axis=1)

    return whole_face


def in_pieces(encoder: FoldedVisualEncoder) -> Run:
    """Return the encoder as the stage runs it."""
    return torch_encoder(lambda crops: torch.cat(list(encoder.pieces(crops.split(PIECE_FRAMES, dim=1))), dim=1))


def ways(encoder: nn.Module, folded: FoldedVisualEncoder) -> dict[str, Run]:
    """Return each way to run the encoder over a whole face."""
    found = {
        "PyTorch, 3-d, context": in_chunks(torch_encoder(encoder)),
        "PyTorch, folded, context": in_chunks(torch_encoder(folded)),
        "PyTorch, folded, pieces (in use)": in_pieces(folded),
    }
    if util.find_spec("onnxscript") is None:
        print("onnxscript is not installed: onnxruntime is left out")
        return found
    return found | {
        "onnxruntime, 3-d, context": in_chunks(onnx_encoder(encoder)),
        "onnxruntime, folded, context": in_chunks(onnx_encoder(_Folded(folded))),
    }


def timed(runs: dict[str, Run], crops: Floats, rounds: int) -> dict[str, dict[str, float]]:
    """Return the least CPU time a frame of each, by turns, and its largest difference from the first one's result."""
    least: dict[str, float] = {}
    outs: dict[str, Floats] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            outs[name] = run(crops)
            least[name] = min(least.get(name, float("inf")), time.process_time() - began)
    own = slice(CONTEXT_FRAMES, -CONTEXT_FRAMES)  # at a face's two ends chunks of one length see other frames
    reference = next(iter(outs.values()))[:, own]
    return {
        name: {
            "cpu_ms_per_face_frame": round(1000 * least[name] / crops.shape[1], 3),
            "largest_difference": float(f"{np.abs(out[:, own] - reference).max() / np.abs(reference).max():.1e}"),
        }
        for name, out in outs.items()
    }


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
    parser.add_argument("--frames", type=int, default=400, help="length of the face in each way; chunks of 50")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    if args.frames % CHUNK:
        parser.error(f"--frames is {args.frames}, not a multiple of {CHUNK}")
    torch.set_num_threads(1)
    network = LrAsd()
    network.load_state_dict(torch.load(weights.resolve(LR_ASD_WEIGHT), map_location="cpu", weights_only=True))
    encoder = network.eval().requires_grad_(False).model.visualEncoder
    crops = np.random.default_rng(0).integers(0, 255, (1, args.frames, 112, 112)).astype(np.float32)
    rows = timed(ways(encoder, FoldedVisualEncoder(encoder)), crops, args.rounds)
    for name, row in rows.items():
        print(f"{name:<34}{row['cpu_ms_per_face_frame']:>8.2f} ms a frame, off {row['largest_difference']}")
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
