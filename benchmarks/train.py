"""What a training step costs: samples a second and MFU for each stage, on the machine at hand.

    python benchmarks/train.py [--preset toy|small|h200_1b3] [--steps 10] [--peak-tflops N] [--json FILE]

Data are random tensors of the preset's shapes, so that the loader is not measured (see `benchmarks/loader.py`). MFU is
model operations (`lpm_train.tools.flops`, backward twice forward, recomputation not counted) over time times the peak;
the peak is 989 TFLOP/s on an H200. On a CPU it is what one core reaches in a float32 matrix product of 1024, measured.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch
from torch import Tensor

from lpm_train import parts
from lpm_train.batch import Batch, Conditions
from lpm_train.config import Config
from lpm_train.presets import PRESETS
from lpm_train.proof.toy import toy_config
from lpm_train.tools.budget import TEXTS
from lpm_train.tools.flops import H200_BF16, mfu, sample_flops
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import make_stage

SHAPES = {"toy": (12, 8, 8), "small": (15, 32, 32), "h200_1b3": (21, 60, 104)}
"""Latent frames, height and width of a clip."""
PICTURE = 257
"""Tokens of CLIP's image encoder, as Wan 2.1 reads them."""


def text_places(config: Config) -> int:
    """Return the places of a text, to which its encoder pads it."""
    text = config.data.text
    return text.build().length if text.choice == "hashed-words" else TEXTS[text.choice][0]


def random_batch(config: Config, shape: tuple[int, int, int], size: int, texts: int) -> Batch:
    """Draw what a loader gives: all places of a text, and where clips begin with a picture that picture.

    Args:
        config: model and data.
        shape: latent frames, height and width.
        size: samples.
        texts: places of a text.
    """
    F, H, W = shape
    m, K = config.model, config.data.max_refs
    on, more = torch.rand(size, F) < 0.5, dict[str, Tensor]()
    if config.data.first_frame:
        more |= {"given_BFCHW": torch.randn(size, F, m.channels, H, W)}
        more |= {"given_on_BF": (torch.arange(F) == 0).expand(size, F)}
    if m.picture_width:
        more |= {"picture_BIP": torch.randn(size, PICTURE, m.picture_width)}
    cond = Conditions(
        speak_BTA=torch.randn(size, F * m.audio_steps, m.audio_width),
        listen_BTA=torch.randn(size, F * m.audio_steps, m.audio_width), speak_on_BF=on, listen_on_BF=~on,
        text_BLD=torch.randn(size, texts, m.text_width), text_mask_BL=torch.ones(size, texts, dtype=torch.bool),
        ref_BKCHW=torch.randn(size, K, m.channels, H, W), ref_mask_BK=torch.ones(size, K, dtype=torch.bool),
        ref_kind_BK=torch.zeros(size, K, dtype=torch.long), **more,
    )  # fmt: skip
    return Batch(
        x_BFCHW=torch.randn(size, F, m.channels, H, W), cond=cond, state_BF=torch.ones(size, F, dtype=torch.int8),
        sample_ids=tuple(f"sample-{i}" for i in range(size)),
    )  # fmt: skip


def cpu_peak() -> float:
    a = torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2 * 1024**3 / best


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--preset", default="toy", choices=sorted(SHAPES))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--peak-tflops", type=float, default=0.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cuda = torch.cuda.is_available()
    peak = args.peak_tflops * 1e12 or (H200_BF16 if cuda else cpu_peak())
    result: dict[str, Any] = {
        **record.accelerator(torch.cuda.get_device_name() if cuda else None),
        "peak_tflops": peak / 1e12,
        "stages": {},
    }
    for name in ("pretrain", "causal", "distill"):
        config = toy_config(name) if args.preset == "toy" else PRESETS[args.preset]()
        run = replace(config.run, stage=parts.stage(name), device="cuda" if cuda else "cpu")
        config = replace(config, run=run)
        if not cuda:
            config = replace(config, run=replace(config.run, bf16=False, compile=False, attention="sdpa"))
        shape, size = SHAPES[args.preset], args.batch or (8 if args.preset == "toy" else 1)
        if name == "distill":
            shape = (max(config.distill.rollout, shape[0]), *shape[1:])
        torch.manual_seed(0)
        stage = make_stage(config, Ranks(device=torch.device(config.run.device)))
        texts = text_places(config)
        batch = random_batch(config, shape, size, texts)
        stage.step(batch, 0)
        times = []
        for i in range(1, args.steps + 1):
            began = time.perf_counter()
            stage.step(batch, i)
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        step_s = sorted(times)[len(times) // 2]
        figures = {"step_s": step_s, "samples_per_s": size / step_s, "latent_frames": shape[0]}
        if name != "distill":
            flops = size * sample_flops(config, *shape, refs=config.data.max_refs, text=texts)
            figures |= {"tflop_per_step": flops / 1e12, "mfu": mfu(flops, step_s, peak)}
        if cuda:
            figures["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        result["stages"][name] = figures
    print(record.as_json(result), end="")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
