"""Begin stages on this rank and say what memory each took.

python -m start_worker OUT MODE ...: fresh (pretraining), saved (distillation from a checkpoint), base (public weights),
lora (distillation's three networks over a frozen base), half (likewise, in bfloat16); or write (the checkpoint and the
base that the others read)."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import train_case as case
import wan_case as wan
from torch import Tensor

from lpm_train.config import Config, override
from lpm_train.training.checkpoint import Meta, Saved, save
from lpm_train.training.parallel import Ranks, ranks
from lpm_train.training.stage import Stage, make_stage

WIDTH, DEPTH, HEADS = 512, int(os.environ.get("START_DEPTH", "5")), 8  # 24 MB a block, the largest weight 6 MB
OVER_ONE = ("lora", "half")  # modes of one frozen base


def settings(out: Path, mode: str, small: bool) -> Config:
    """Choose a model of 120 MB (at five blocks), or one that only lets everything be imported."""
    plain = case.config()
    size = {"width": 18, "depth": 1, "heads": 3} if small else {"width": WIDTH, "depth": DEPTH, "heads": HEADS}
    plain = replace(plain, model=replace(plain.model, **size))
    if mode in ("base", *OVER_ONE):
        plain = wan.settings(out / f"base-{small}", plain, **{"rank": 2} if mode in OVER_ONE else {})
    stage = "distill" if mode in ("saved", *OVER_ONE) else "pretrain"
    return override(plain, [f"run.stage={stage}", f"run.bf16={str(mode == 'half').lower()}"])


def begin(out: Path, mode: str, where: Ranks, small: bool) -> Stage:
    chosen = settings(out, mode, small)
    start = Saved(out / f"start-{small}") if mode == "saved" else None
    return make_stage(chosen, where, start, start)


def held(weights: Iterable[Tensor]) -> int:
    """Count the bytes of weights, of each its rows here, and what is shared once."""
    local = [getattr(w, "to_local", lambda w=w: w)() for w in weights]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in local}.values())


def kept(stage: Stage) -> int:
    """Count the bytes of all that a stage holds at its start."""
    return held([*(p for model in stage.roles.values() for p in model.parameters()), *stage.ema.weights.values()])


def frozen(stage: Stage, *roles: str) -> int:
    """Count the bytes of a frozen base in some roles."""
    return held(p for role in roles for n, p in stage.roles[role].named_parameters() if n in stage.student.frozen)


def memory(name: str) -> int:
    """Read a figure of this process, bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return 1024 * int(line.split()[1])


def write(out: Path, small: bool) -> None:
    chosen = settings(out, "fresh", small)
    save(out / f"start-{small}", make_stage(chosen), chosen, Meta(step=0), 1)
    heads = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 40}
    if not small:
        heads = {"num_attention_heads": 4, "attention_head_dim": 128, "num_layers": DEPTH, "ffn_dim": 4 * WIDTH}
    network = wan.network(text_dim=case.DT, in_channels=case.C, out_channels=case.C, **heads)
    network.save_pretrained(out / f"base-{small}")


def measure(out: Path, mode: str, where: Ranks) -> dict[str, int]:
    """Begin a stage; returns bytes that it holds, and those that beginning it took at most."""
    begin(out, mode, where, small=True)  # imports, threads, buffers of the process group
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    stage = begin(out, mode, where, small=False)
    said = {"kept": kept(stage), "took": memory("VmHWM") - before}
    if mode in OVER_ONE:
        stage.step(case.batch(["abcd"[where.rank]]), 0)  # sharding settles its memory in the first pass
        said |= {"frozen": frozen(stage, "student"), "frozen of all": frozen(stage, *stage.roles)}
    return said


def main(out: Path, *modes: str) -> None:
    os.environ["OPENLPM_CACHE"] = str(out / "cache")  # the base is large enough that its hash is remembered
    if modes == ("write",):
        for small in (True, False):
            write(out, small)
        return
    with ranks(settings(out, "fresh", True)) as where:
        for mode in modes:
            (out / f"{mode}-{where.size}-{where.rank}.json").write_text(json.dumps(measure(out, mode, where)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
