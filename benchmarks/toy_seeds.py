"""The toy over several seeds, with Muon and with AdamW: what is reached at 1, 20 and 60 training lengths, and what not.

    python benchmarks/toy_seeds.py build/toy-seeds --seeds 0,1,2 --optim muon --json FILE
    python benchmarks/toy_seeds.py build/toy-seeds --start build/toy --steps 45 --json FILE

Data and what is judged are the same in all runs. With `--start` all begin with the pretrained and the causal model of
that run, so seeds are those of distillation alone (order, windows, noise), and `--optim` its critic's. A run that was
stopped goes on; one that has its metrics.json is not run again. With `--steps` all are judged after as many steps and
none is chosen by what it does. About 30 minutes of one core a run, of which pretraining is 13.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch

from lpm_train.proof import goals, toy

FIGURES = ("sway_std_ratio", "mouth_speech_corr", "nod_user_corr", "silent_mouth", "motion_energy_ratio")


def shown(at: Mapping[str, Any]) -> dict[str, float]:
    """Return what is said of a model at one length."""
    found = {name: at[name] for name in FIGURES} | {"identity": at["identity"]["last"]}
    return {name: round(value, 4) for name, value in (found | {"brightness": at["drift"]["brightness"]}).items()}


def said(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a run: figures by stage and length, and the criteria that are open."""
    lengths = sorted((name for name in metrics["distill"] if name[0] == "x"), key=lambda name: int(name[1:]))
    return {
        "open": goals.missed(metrics),
        "critic_steps": metrics["distill"]["heldout_loss"]["chosen_step"],
        "loss": {name: metrics[name]["heldout_loss"] for name in toy.STAGES},
        "pretrain": shown(metrics["pretrain"]),
        "causal, many steps": shown(metrics["causal"]["many_steps"]),
        "causal, few steps": shown(metrics["causal"]["few_steps"]),
        **{f"student {name}": shown(metrics["distill"][name]) for name in lengths},
    }


def _link(out: Path, start: Path, names: tuple[str, ...]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (out / name).exists():
            (out / name).symlink_to((start / name).resolve())


def main() -> None:
    """Run what is asked for, one after the other, and write what is known after each."""
    parser = record.parser(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--optim", default="muon,adamw")
    parser.add_argument("--start", type=Path, help="a run of `make toy` whose first two stages begin all")
    parser.add_argument("--steps", type=int, help="critic steps of distillation; else as `make toy` stops it")
    parser.add_argument("--people", type=int, default=toy.Budget().long_scenes, help="in the rollouts that are judged")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data, asked = given.start or given.out, toy.Budget(long_scenes=given.people)
    if given.steps:
        asked = replace(asked, distill=given.steps, evaluate_every=given.steps, looks=(2, 1))
    encoders = toy.prepare_data(data, asked, print)
    bench = toy.Bench.make(data, encoders, asked)
    begun = toy.measure_start(data, bench, toy.toy_config("distill")) if given.start else None
    found: dict[str, Any] = record.today_here() | {"seeds of": "distillation" if given.start else "all stages"}
    found |= {"people in clips": asked.scenes, "people in rollouts": asked.long_scenes}
    if given.json and given.json.exists():
        found = json.loads(given.json.read_text(encoding="utf-8")) | found  # runs of an earlier call stay
    for seed in map(int, given.seeds.split(",")):
        for optim in given.optim.split(","):
            out, budget = given.out / f"{optim}{seed}", replace(asked, seed=seed, muon=optim == "muon")
            _link(out, data, ("data", "codec.pt", *(("pretrain", "causal") if given.start else ())))
            if not (out / "metrics.json").exists():
                losses = toy.train_all(out, encoders, bench, budget, print)
                toy.report(out, bench, losses, budget, print, begun)
            run = said(json.loads((out / "metrics.json").read_text(encoding="utf-8")))
            found.setdefault(optim, {})[f"seed {seed}"] = run
            print(optim, seed, json.dumps(run, indent=1), flush=True)
            record.write(given.json, found)


if __name__ == "__main__":
    main()
