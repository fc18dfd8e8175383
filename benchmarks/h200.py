"""What training and streaming reach on one GPU: parts of at most ten minutes each, each into a file of its own.

    python benchmarks/h200.py --list
    python benchmarks/h200.py --part stream --out DIR [--preset h200_1b3]
    python benchmarks/h200.py --out DIR                     # all parts; a failure stops none

Each part is a process of its own, killed after `--timeout-s` (600). Its file, named after date, preset, GPU and part,
is written after each finding, so that a killed part leaves what it had found; the same command again goes on with the
parts that are not finished (`--again`: with all of them), and files of before get a number. A file says what it was
measured on, and why a way was refused or what went wrong.

Weights are random: cost does not depend on them; low rank has a base of random numbers. `--tiny --device cpu` runs the
same code on a tiny model of the preset's form in seconds and measures nothing of use. Wan's codec has random weights
too, where diffusers is installed; else latents stay undecoded, and the file says so. What is measured is in
`h200_parts/`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import datetime
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import record
import torch
from h200_parts.case import CONFIGS, Case, Figures, make_case, no_compiler
from h200_parts.kernels import attention_part, matmul_part
from h200_parts.process import run_limited
from h200_parts.results import Result, file_of, finished, set_aside, stopped
from h200_parts.streaming import cache_part, memory_part, start_part, stream_part
from h200_parts.training import attention_step_part, train_part

PARTS: dict[str, tuple[Callable[[Case], Figures], str]] = {
    "stream": (stream_part, "pictures a second, and latency of a block"),
    "start": (start_part, "latency of the first chunk, over up to 200 starts"),
    "cache": (cache_part, "static against eager cache, compiled against not, decoding beside against after"),
    "attention": (attention_part, "flex against sdpa, forward and backward"),
    "matmul": (matmul_part, "bf16 against fp8 products"),
    "pretrain": (partial(train_part, name="pretrain"), "MFU of pretraining steps"),
    "causal": (partial(train_part, name="causal"), "MFU of teacher-forced steps"),
    "consistency": (partial(train_part, name="consistency"), "MFU of consistency steps"),
    "distill": (partial(train_part, name="distill"), "MFU of distillation: a student's update and its critic's"),
    "backbone": (partial(train_part, name="distill", role="backbone"), "the same, of a backbone"),
    "refiner": (partial(train_part, name="distill", role="refiner"), "the same, of a refiner behind a backbone"),
    "attention-step": (attention_step_part, "teacher-forced steps with flex beside sdpa"),
    "memory": (memory_part, "memory at chunk 10 and at chunk 1,000"),
}


def head_of(part: str, preset: str, tiny: bool, device: str) -> dict[str, Any]:
    """Return what a part's figures depend on."""
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else None
    return {"part": part, "preset": preset, "tiny": tiny, "device": device, "on": gpu or "CPU",
            "torch": torch.__version__, "cuda": torch.version.cuda}  # fmt: skip


def run_part(part: str, preset: str, tiny: bool, device: str, limit_s: float, file: Path) -> bool:
    """Run a part here and write its file as it goes; returns whether nothing went wrong."""
    began, head = time.perf_counter(), head_of(part, preset, tiny, device)
    on = head["on"] if head["on"] != "CPU" else None
    result = Result(
        file, {**record.accelerator(on), **head, "time": datetime.datetime.now().isoformat(timespec="seconds")}
    )  # fmt: skip
    result.write("running")
    state, more = "finished", dict[str, Any]()
    try:
        torch.manual_seed(0)
        with no_compiler(device):
            case = make_case(preset, tiny, device, limit_s)
            result.head["notes"] = list(case.notes)
            for name, figure in PARTS[part][0](case):
                result.add(name, figure)
    except Exception as e:  # it is written down, and the other parts go on
        state, more = "failed", {"error": f"{type(e).__name__}: {e}", "where": traceback.format_exc()}
    written = result.write(state, part_s=time.perf_counter() - began, **more)
    wrong = written.get("error") or ", ".join(written["errors"])
    print(f"{part}: {wrong or 'measured'} ({written['part_s']:.0f} s)", flush=True)
    return not wrong


def main() -> int:
    parser = record.parser(__doc__)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--part", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("build/h200"))
    parser.add_argument("--preset", default="h200_1b3", choices=sorted(CONFIGS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--limit-s", type=float, default=480.0, help="no new measurement begins after so long")
    parser.add_argument("--timeout-s", type=float, default=600.0, help="a part is killed after so long")
    parser.add_argument("--again", action="store_true", help="measure parts anew that are finished")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="of the files' names")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process: what a part's is told
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:10s} {what}" for name, (_, what) in PARTS.items()))
        return 0
    failed = 0
    for part in args.part:
        head = head_of(part, args.preset, args.tiny, args.device)
        file = file_of(args.out, args.date, head)
        if args.here:
            failed += not run_part(part, args.preset, args.tiny, args.device, args.limit_s, file)
            continue
        if finished(file, head) and not args.again:
            print(f"{part}: finished before ({file})", flush=True)
            continue
        set_aside(file)
        given = ["--here", "--part", part, "--out", str(args.out), "--preset", args.preset, "--device", args.device,
                 "--limit-s", str(args.limit_s), "--date", args.date, *["--tiny"] * args.tiny]  # fmt: skip
        if why := run_limited([sys.executable, __file__, *given], args.timeout_s):
            failed += 1
            stopped(file, head, why)
            print(f"{part}: {why}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
