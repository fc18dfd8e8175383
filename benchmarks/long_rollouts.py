"""What rollouts beyond the clip are worth on the puppet: drift over 60 clip lengths, by what distillation saw.

    make toy                                            # its pretrained and its causal model begin all arms
    python benchmarks/long_rollouts.py [build/toy] --seeds 0,1 --json benchmarks/results/long_rollouts.json

Every arm takes the same number of distillation steps from the same weights, and is measured at the same steps on the
same scenes, none of them chosen by what came out. An arm is a name and settings: `clip:distill.rollout=12`. Parts of it
with `then` between them share its steps; each begins with the averaged student of the one before and a new critic.
Seeds are those of distillation alone: of the order of data, windows and noise.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch

from lpm_train.config import Config, override
from lpm_train.data.chain_loader import ChainLoader
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.fitting import chained, fitted
from lpm_train.proof import toy
from lpm_train.session import load_model, make_encoders, open_chains
from lpm_train.training.checkpoint import load_weights
from lpm_train.training.loop import train
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import make_stage

ARMS = (
    "clip:distill.rollout=12",
    "long:distill.rollout=60",
    "both:distill.rollout=12 then distill.rollout=60",
    "data:distill.policy=data distill.rollout=0 distill.loss_frames=0",
)  # fmt: skip

FIGURES = (
    "identity.first", "identity.last", "drift.identity_slope", "drift.brightness", "sway_std_ratio", "silent_mouth",
    "mouth_speech_corr", "nod_user_corr", "motion_energy_ratio",
)  # fmt: skip


def _loader(config: Config, encoders: Encoders) -> Loader | ChainLoader:
    if chained(config, encoders):
        return open_chains(config, config.data, encoders)
    return Loader(config.data, encoders, seed=config.run.seed)


def _config(out: Path, stage: str) -> Config:
    config = toy.toy_config(stage, toy.Budget(), out / "codec.pt")
    return replace(config, data=replace(config.data, root=str(out / "data"), where="split = 'train'", workers=1))


def _causal(out: Path, encoders: Encoders, noise: float) -> Path:
    """Return the causal model that was trained with so much noise on its context; trained here where there is none."""
    if noise == toy.toy_config("causal").causal.context_noise:
        return out / "causal"
    to, config = out / f"causal-{noise:g}", override(_config(out, "causal"), [f"causal.context_noise={noise}"])
    stage = make_stage(config, Ranks(), load_weights(out / "pretrain")[1])
    with closing(Loader(config.data, encoders)) as loader:
        train(stage, config, loader, to)
    return to


def _arm(
    out: Path, start: Path, encoders: Encoders, bench: toy.Bench, seed: str, settings: str, steps: list[int]
) -> dict[str, Any]:
    """Distil under settings; returns the figures after each of `steps`, and the CPU seconds of a step."""
    weights, teacher = (load_weights(path)[1] for path in (start, out / "pretrain"))
    found, spent, parts, done = dict[str, Any](), 0.0, settings.split(" then "), 0
    for part in parts:
        share = steps[-1] // len(parts)
        said = [f"run.steps={share}", f"run.seed={seed}", *part.split()]
        config = fitted(override(_config(out, "distill"), said), encoders)
        stage = make_stage(config, Ranks(), weights, teacher)
        with closing(_loader(config, encoders)) as loader:
            for i in range(share):
                batch, began = next(loader), time.process_time()
                stage.step(batch, i)  # type: ignore[arg-type]
                spent, done = spent + time.process_time() - began, done + 1
                if done in steps:
                    with stage.averaged() as model:
                        found[str(done)] = _figures(bench, model, config)
                    print(settings, "seed", seed, "step", done, found[str(done)], flush=True)
        weights = {name: weight.clone() for name, weight in stage.ema.weights.items()}
    return found | {"cpu_s_a_step": round(spent / steps[-1], 3)}


def _figures(bench: toy.Bench, model: Any, config: Config) -> dict[str, float]:
    figures = bench.rollout(model, config.stream, bench.long)
    return {name: round(figures[name], 4) for name in FIGURES}


def main() -> None:
    """Distil every arm with every seed, and write what is measured as it comes."""
    parser = record.parser(__doc__)
    parser.add_argument("toy", type=Path, nargs="?", default=Path("build/toy"))
    parser.add_argument("--arms", nargs="*", default=ARMS)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--context-noise", type=float, default=0.3, help="of the causal model that arms begin with")
    parser.add_argument("--steps", default="30,45,60", help="distillation steps after which to measure")
    parser.add_argument("--lengths", type=int, default=60, help="clip lengths of the rollouts that are measured")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoders = make_encoders(toy.toy_config(codec=given.toy / "codec.pt").data)
    budget = toy.Budget(lengths=(given.lengths,), long_scenes=given.scenes)
    bench = toy.Bench.make(given.toy, encoders, budget)
    steps = [int(n) for n in given.steps.split(",")]
    found: dict[str, Any] = record.today_here() | {"context_noise": given.context_noise}
    found |= {"lengths": given.lengths, "scenes": given.scenes, "arms": {}}
    start = _causal(given.toy, encoders, given.context_noise)
    found["not distilled"] = _figures(bench, load_model(start)[1], toy.toy_config("distill"))
    print("not distilled", found["not distilled"], flush=True)
    for seed in given.seeds.split(","):
        for arm in given.arms:
            name, _, settings = arm.partition(":")
            figures = _arm(given.toy, start, encoders, bench, seed, settings, steps)
            found["arms"].setdefault(name, {"settings": settings})[f"seed {seed}"] = figures
            record.write(given.json, found)


if __name__ == "__main__":
    main()
