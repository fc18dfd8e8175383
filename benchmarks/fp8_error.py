"""How far float8 moves a trained network: its velocity and its held-out loss, with bfloat16 beside, by emulation.

    python benchmarks/fp8_error.py CHECKPOINT DATASET [--batches 2] [--where SQL] [--json FILE]

The large matrices of the blocks are rounded as `stream.fp8` rounds them and multiplied in float32 (`network.fp8`), so
it runs on a CPU and times nothing. `moved` is the RMS of the change over that of the velocity, by noise level.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch
from torch import Tensor

from lpm_train import flow
from lpm_train.batch import Batch
from lpm_train.data.loader import Loader
from lpm_train.network.fp8 import emulated, put_fp8
from lpm_train.network.refine import Performer
from lpm_train.session import load_model, make_encoders
from lpm_train.tools.judge.evaluate import heldout_loss

LEVELS = (0.9, 0.6, 0.3)


@torch.no_grad()
def velocity(model: Performer, batch: Batch, level: float) -> Tensor:
    """Return the velocity of a batch that is noised to a level, both directions in view."""
    t = torch.full(batch.x_BFCHW.shape[:2], level)
    noise = torch.randn(batch.x_BFCHW.shape, generator=torch.Generator().manual_seed(0))
    v: Tensor = model(flow.add_noise(batch.x_BFCHW, noise, t), t, batch.cond).v_BFCHW
    return v.float()


def measured(checkpoint: str, dataset: str, where: str, batches: int) -> dict[str, Any]:
    config, model = load_model(checkpoint)
    narrow, half = copy.deepcopy(model), copy.deepcopy(model)
    layers = put_fp8(narrow, emulated)
    half.to(torch.bfloat16)
    ways = {"float32": model, "bfloat16": half, "float8": narrow}
    data = replace(config.data, root=dataset, where=where, batch=2, workers=1)
    with Loader(data, make_encoders(data), seed=1) as loader:
        held = [next(loader) for _ in range(batches)]  # of two clips each
    causal = config.run.stage.choice != "pretrain"
    out: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters()), "matrices": layers}
    for name, way in ways.items():
        out[name] = {"heldout_loss": heldout_loss(way, held, config.stream if causal else None)["all"]}
    for level in LEVELS:
        exact = torch.stack([velocity(model, b, level) for b in held])
        for name in ("bfloat16", "float8"):
            other = torch.stack([velocity(ways[name], b, level) for b in held])
            out[name][f"moved.{level}"] = float((other - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    return out


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("dataset")
    parser.add_argument("--where", default="")
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measured(args.checkpoint, args.dataset, args.where, args.batches)
    print(record.as_json(found))
    record.write(args.json, {**record.today_here(), **found})


if __name__ == "__main__":
    main()
