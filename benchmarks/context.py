"""What ranks that share a sample keep and send: processes on this machine over gloo, a small network, one pass forward.

    python benchmarks/context.py [--ranks 1 2 4] [--json benchmarks/results/context.json]

For both directions and for teacher forcing: bytes that autograd keeps for the backward pass on the rank with most
frames, as a share of what one rank alone keeps; bytes that it sends to others, beside 4 L D (n - 1) / n^2 numbers a
layer; and by how much velocities and gradients differ from one rank's. Two references of 21 latents; no GPU is needed,
and nothing is timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from lpm_train.batch import Conditions
from lpm_train.config import Config, Stream
from lpm_train.network import context
from lpm_train.network.context import join
from lpm_train.network.model import DiT
from lpm_train.presets import toy
from lpm_train.streaming.rollout import forced

FRAMES, SIDE, REFS, CHANNELS = 21, 32, 2, 12  # 21 latents of 256 tokens
LAYOUTS: dict[str, Stream | None] = {"both directions": None, "teacher forcing": Stream(block=3, window=9)}


def conditions(config: Config) -> Conditions:
    """Draw what drives one clip."""
    m, on = config.model, torch.ones(1, FRAMES, dtype=torch.bool)
    sound = torch.randn(2, 1, FRAMES * m.audio_steps, m.audio_width)
    return Conditions(
        speak_BTA=sound[0], listen_BTA=sound[1], speak_on_BF=on, listen_on_BF=on, text_BLD=torch.randn(1, 16, 64),
        text_mask_BL=torch.ones(1, 16, dtype=torch.bool), ref_BKCHW=torch.randn(1, REFS, CHANNELS, SIDE, SIDE),
        ref_mask_BK=torch.ones(1, REFS, dtype=torch.bool), ref_kind_BK=torch.zeros(1, REFS, dtype=torch.int64),
    )  # fmt: skip


class Kept:
    """Bytes that autograd keeps, each storage once, weights aside."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self._sizes: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no address is used twice

    def pack(self, x: Tensor) -> Tensor:
        """Count a tensor."""
        place = x.untyped_storage().data_ptr()
        if place not in self._weights:
            self._sizes[place] = x.untyped_storage().nbytes()
            self._alive.append(x)
        return x

    @property
    def total(self) -> int:
        """Bytes so far."""
        return sum(self._sizes.values())


def one_pass(config: Config, rank: int, ranks: int, layout: Stream | None) -> dict[str, Any]:
    """Go forward and back as one of the ranks; returns what was kept and sent, velocity and gradient."""
    torch.manual_seed(0)
    model = DiT(config.model)
    for p in model.parameters():
        nn.init.normal_(p, std=0.05)
    model.context = join(config, rank, ranks)
    cond, x = conditions(config), torch.randn(1, FRAMES, CHANNELS, SIDE, SIDE)
    sent, real, kept = [0], context.exchange, Kept(model)

    def counted(parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], group: dist.ProcessGroup) -> list[Tensor]:
        sent[0] += sum(p.numel() * p.element_size() for i, p in enumerate(parts) if i != rank)
        return real(parts, shapes, group)

    context.exchange = counted
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda x: x):
        v = forced(model, x, torch.full((1, FRAMES), 0.5), cond, layout, x)
    context.exchange = real
    v.square().mean().backward()  # type: ignore[no-untyped-call]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    gradient = torch.cat([g.flatten() for g in gradients])
    if ranks > 1:
        dist.all_reduce(gradient)
    return {"kept": kept.total, "sent": sent[0], "v": v.detach(), "gradient": gradient / ranks}


def work(rank: int, ranks: int, folder: str) -> None:
    """Be one of the ranks; the first writes what it found."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{ranks}", rank=rank, world_size=ranks)
    preset = toy()
    config = replace(
        preset, model=replace(preset.model, width=192, heads=8, channels=CHANNELS),
        run=replace(preset.run, context=ranks),
    )  # fmt: skip
    found = {name: one_pass(config, rank, ranks, layout) for name, layout in LAYOUTS.items()}
    if rank == 0:
        torch.save({"depth": config.model.depth, "width": config.model.width, **found}, f"{folder}/{ranks}.pt")
    dist.destroy_process_group()


def main() -> None:
    """Measure, print and write."""
    parser = record.parser(__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for n in given.ranks:
            spawn(work, (n, folder), nprocs=n)
        found = {n: torch.load(f"{folder}/{n}.pt") for n in given.ranks}
    result: dict[str, Any] = {**record.today_here(), "latents": FRAMES, "references": REFS, "layouts": {}}
    for name in LAYOUTS:
        alone, rows = found[1][name], {}
        for n in given.ranks:
            here, most = found[n][name], -(-FRAMES // n)
            tokens = FRAMES * (SIDE // 2) ** 2 * (1 + (LAYOUTS[name] is not None))
            said = 4 * tokens * found[n]["width"] * (n - 1) / n**2 * found[n]["depth"] * 8  # bytes of float64
            rows[n] = {
                "share_of_frames": round(most / FRAMES, 3), "kept": round(here["kept"] / alone["kept"], 3),
                "sent_over_formula": round(here["sent"] / said, 3) if said else None,
                "velocity_difference": float((here["v"] - alone["v"]).abs().max()),
                "gradient_difference": float((here["gradient"] - alone["gradient"]).abs().max()),
            }  # fmt: skip
        result["layouts"][name] = rows
    print(record.as_json(result))
    record.write(given.json, result)


if __name__ == "__main__":
    main()
