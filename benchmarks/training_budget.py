"""What the recipe's three stages cost on one and on eight H200, counted from shapes: nothing here is measured.

    python benchmarks/training_budget.py [--mfu 0.4] [--json FILE]

Operations are those of `lpm_train.tools.flops`, times are operations over the peak of the data sheet at an assumed MFU,
and eight GPUs take an eighth. Memory is that of weights, gradients, averages and AdamW's states by the table in
docs/training.md, split over the GPUs, and of what activation checkpointing keeps: the tokens before each layer, in
bfloat16. What is left out: the encoding of clips (precomputed once), the judges' guidance beyond its passes, and what
PyTorch keeps besides.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch

from lpm_train.config import Config
from lpm_train.encoders.codec import latent_frames, latent_size
from lpm_train.network.wan import make_model
from lpm_train.presets import PRESETS
from lpm_train.tools.budget import TEXTS, bare_codec
from lpm_train.tools.flops import H200_BF16, distill_flops, forward_flops

STEPS = {"pretrain": 10_000, "causal": 5_000, "distill": 5_000}
"""Steps of each stage, of distillation those of the critic: a fine-tuning such as others report, for comparison."""
BYTES = {"pretrain": 16, "causal": 16, "distill": 12 + 4 + 4 + 16}
"""Of each weight that is trained whole: weights, average, gradients, AdamW's states of student and critic."""
LORA_BYTES = {"pretrain": 4, "causal": 4, "distill": 4}
"""Of each weight of a frozen base, which all roles share."""


def counted(config: Config) -> dict[str, Any]:
    """Count the stages of a preset."""
    d, s, codec = config.data, config.stream, bare_codec(config)
    F, (H, W) = latent_frames(codec, d.frames), latent_size(codec, d.height, d.width)
    given = {"refs": d.max_refs, "text": TEXTS[d.text.choice][0]}
    with torch.device("meta"):
        weights = sum(p.numel() for p in make_model(config.model).parameters())
    sample = {
        "pretrain": 3 * forward_flops(config.model, F, H, W, **given),
        "causal": 3 * forward_flops(config.model, F, H, W, **given, block=s.block, window=s.window),
        "distill": distill_flops(config, F, H, W, **given),
    }
    tokens = F * H * W / config.model.patch**2
    kept = {"pretrain": 1, "causal": 2, "distill": 1}  # copies of the tokens: clean and noisy ones in teacher forcing
    return {
        "weights": weights, "tokens": tokens, "batch": d.batch,
        "tflop_a_sample": {n: x / 1e12 for n, x in sample.items()},
        "activations_gb": {n: 2 * k * tokens * config.model.width * config.model.depth / 1e9 for n, k in kept.items()},
    }  # fmt: skip


def cost(found: dict[str, Any], lora: bool, mfu: float) -> dict[str, Any]:
    """Return hours and memory of each stage on one and on eight GPUs."""
    out: dict[str, Any] = {}
    for stage, steps in STEPS.items():
        hours = steps * found["batch"] * found["tflop_a_sample"][stage] * 1e12 / (H200_BF16 * mfu) / 3600
        state = {}
        for gpus in (1, 8):
            held = LORA_BYTES[stage] if lora else BYTES[stage]
            state[f"{gpus}"] = held * found["weights"] / gpus / 1e9 + found["activations_gb"][stage]
        out[stage] = {"steps": steps, "h200_hours": hours, "hours_on_eight": hours / 8, "gb_a_gpu": state}
    return out


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--presets", default="h200_1b3,wan_1b3,wan_14b")
    parser.add_argument("--mfu", type=float, default=0.4)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {**record.today_here(), "counted, not measured": True, "mfu": args.mfu, "presets": {}}
    for name in args.presets.split(","):
        config = PRESETS[name]()
        found = counted(replace(config, data=replace(config.data, auto_sizes=0)))
        found["stages"] = cost(found, bool(config.lora.rank), args.mfu)
        result["presets"][name] = found
        for stage, x in found["stages"].items():
            gb = x["gb_a_gpu"]
            print(
                f"{name:10s} {stage:9s} {found['tflop_a_sample'][stage]:8.0f} TFLOP a sample, {x['steps']} steps of "
                f"{found['batch']}: {x['h200_hours']:8.0f} H200 hours, {x['hours_on_eight']:7.0f} h on eight; "
                f"{gb['1']:.0f} GB on one, {gb['8']:.0f} on each of eight"
            )
    record.write(args.json, result)


if __name__ == "__main__":
    main()
