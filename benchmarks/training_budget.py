"""What the recipe's three stages cost on one and on eight H200, counted from shapes: nothing here is measured.

    python benchmarks/training_budget.py [--mfu 0.4] [--json FILE]

Operations are those of `lpm_train.tools.flops`, times are operations over the peak of the data sheet at an assumed MFU,
and eight GPUs take an eighth. Memory is that of weights, gradients, averages and AdamW's states by the table in
docs/training.md, split over the GPUs, and of what activation checkpointing keeps: the tokens before each layer, in
bfloat16. With low rank a frozen base is held once, of the types that a run holds it in; low-rank changes and what was
added (sound, references) are trained, in each role its own. What is left out: the judges' guidance beyond its passes,
and what PyTorch keeps besides.

Encoding is counted for a clip of the preset's frames and size, `data.max_refs` reference pictures, one caption padded
to all its places, and both sounds. `lpm train precompute` does it once for each clip; without a precomputed set each
sample of each step is encoded anew. umT5 is taken in bfloat16, all else in float32 at TF32's peak, half of bfloat16's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch
import transformers

from lpm_train.config import Base, Config
from lpm_train.encoders.codec import latent_frames, latent_size
from lpm_train.network.lora import halve_frozen
from lpm_train.presets import PRESETS
from lpm_train.tools.budget import TEXTS, bare_codec, encode_work, sound_work, text_work
from lpm_train.tools.flops import H200_BF16, distill_flops, forward_flops
from lpm_train.training.start import skeleton

STEPS = {"pretrain": 10_000, "causal": 5_000, "distill": 5_000}
"""Steps of each stage, of distillation those of the critic: a fine-tuning such as others report, for comparison."""
BYTES = {"pretrain": 4 + 4 + 4 + 8, "causal": 4 + 4 + 4 + 8, "distill": 12 + 4 + 4 + 16}
"""Of each weight that is trained: weights of all roles, average, gradients, AdamW's states (of student and critic)."""
HALVED = ("umt5",)
"""Text encoders that are read in bfloat16, as docs/training.md has it."""


def umt5_weights() -> int:
    """Count the weights of umT5-XXL's encoder, with Wan's vocabulary."""
    _, layers, width, hidden = TEXTS["umt5"]
    shape = {"d_model": width, "d_kv": 64, "d_ff": hidden, "num_layers": layers, "num_heads": width // 64}
    with torch.device("meta"):
        model = transformers.UMT5EncoderModel(transformers.UMT5Config(vocab_size=256_384, **shape))
    return sum(p.numel() for p in model.parameters())


def encoding(config: Config, mfu: float) -> dict[str, Any]:
    """Count what encoding takes: a clip, a thousand clips once, and anew for each sample of each stage's steps."""
    d, codec = config.data, bare_codec(config)
    picture = 1 if codec.first_alone else codec.stride[0]
    work = {
        "clip": encode_work(codec, d.frames, d.height, d.width),
        "references": encode_work(codec, picture, d.height, d.width) * d.max_refs,
        "text": text_work(config)[1],
        "sound": sound_work(config, d.frames),
    }
    peaks = {part: H200_BF16 / 2 for part in work} | ({"text": H200_BF16} if d.text.choice in HALVED else {})
    seconds = {part: w.flops / (peaks[part] * mfu) for part, w in work.items()}
    a_clip = sum(seconds.values())
    F, (H, W) = latent_frames(codec, d.frames), latent_size(codec, d.height, d.width)
    return {
        "tflop_a_clip": {part: w.flops / 1e12 for part, w in work.items()},
        "h200_s_a_clip": seconds,
        "pflop_a_thousand_clips": sum(w.flops for w in work.values()) / 1e12,
        "h200_hours_a_thousand_clips": 1000 * a_clip / 3600,
        "h200_hours_anew_at_every_step": {stage: n * d.batch * a_clip / 3600 for stage, n in STEPS.items()},
        "mb_of_latents_a_clip": 2 * codec.channels * H * W * (F + d.max_refs) / 1e6,
    }  # fmt: skip


def held(config: Config) -> dict[str, int]:
    """Count weights: all, those that are trained, and the bytes of a frozen base, which all roles share."""
    named = Base(weights="wan:unread") if config.lora.rank else config.base
    model = skeleton(replace(config, base=named))
    if config.run.bf16:
        halve_frozen(model)
    weights = dict(model.named_parameters())
    base = [weights[n] for n in model.frozen]
    total = sum(p.numel() for p in weights.values())
    frozen = {"trained": total - sum(p.numel() for p in base), "frozen_bytes": sum(p.nbytes for p in base)}
    return {"weights": total, **frozen}


def counted(config: Config) -> dict[str, Any]:
    """Count the stages of a preset."""
    d, s, codec = config.data, config.stream, bare_codec(config)
    F, (H, W) = latent_frames(codec, d.frames), latent_size(codec, d.height, d.width)
    given = {"refs": d.max_refs, "text": TEXTS[d.text.choice][0]}
    sample = {
        "pretrain": 3 * forward_flops(config.model, F, H, W, **given),
        "causal": 3 * forward_flops(config.model, F, H, W, **given, block=s.block, window=s.window),
        "distill": distill_flops(config, F, H, W, **given),
    }
    tokens = F * H * W / config.model.patch**2
    kept = {"pretrain": 1, "causal": 2, "distill": 1}  # copies of the tokens: clean and noisy ones in teacher forcing
    return {
        **held(config), "tokens": tokens, "batch": d.batch,
        "tflop_a_sample": {n: x / 1e12 for n, x in sample.items()},
        "activations_gb": {n: 2 * k * tokens * config.model.width * config.model.depth / 1e9 for n, k in kept.items()},
    }  # fmt: skip


def cost(found: dict[str, Any], mfu: float) -> dict[str, Any]:
    """Return hours and memory of each stage on one and on eight GPUs."""
    out: dict[str, Any] = {}
    for stage, steps in STEPS.items():
        hours = steps * found["batch"] * found["tflop_a_sample"][stage] * 1e12 / (H200_BF16 * mfu) / 3600
        state = {}
        for gpus in (1, 8):
            kept = BYTES[stage] * found["trained"] + found["frozen_bytes"]
            state[f"{gpus}"] = kept / gpus / 1e9 + found["activations_gb"][stage]
        out[stage] = {"steps": steps, "h200_hours": hours, "hours_on_eight": hours / 8, "gb_a_gpu": state}
    return out


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--presets", default="h200_1b3,wan_1b3,wan_14b")
    parser.add_argument("--mfu", type=float, default=0.4)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        **record.today_here(), "counted, not measured": True, "mfu": args.mfu, "umt5_weights": umt5_weights(),
        "presets": {},
    }  # fmt: skip
    print(f"umT5: {result['umt5_weights'] / 1e9:.2f} billion weights")
    for name in args.presets.split(","):
        config = PRESETS[name]()
        config = replace(config, data=replace(config.data, auto_sizes=0))
        found = counted(config)
        found["encoding"] = made = encoding(config, args.mfu)
        found["stages"] = cost(found, args.mfu)
        result["presets"][name] = found
        parts = ", ".join(f"{part} {x:.2f}" for part, x in made["tflop_a_clip"].items())
        print(
            f"{name:10s} encoding  {parts} TFLOP a clip; a thousand clips {made['pflop_a_thousand_clips']:.0f} PFLOP, "
            f"{made['h200_hours_a_thousand_clips']:.2f} H200 hours, once or each epoch; "
            f"{made['mb_of_latents_a_clip']:.1f} MB of latents a clip"
        )
        for stage, x in found["stages"].items():
            gb = x["gb_a_gpu"]
            print(
                f"{name:10s} {stage:9s} {found['tflop_a_sample'][stage]:8.0f} TFLOP a sample, {x['steps']} steps of "
                f"{found['batch']}: {x['h200_hours']:8.0f} H200 hours, {x['hours_on_eight']:7.0f} h on eight; "
                f"{gb['1']:.0f} GB on one, {gb['8']:.0f} on each of eight; encoding at every step "
                f"{made['h200_hours_anew_at_every_step'][stage]:.0f} H200 hours more"
            )
    record.write(args.json, result)


if __name__ == "__main__":
    main()
