"""What two steps of a backbone and one of a refiner are worth beside four steps of one network, on the puppet.

    make toy                                            # its pretrained and its causal model begin all arms
    python benchmarks/refiner.py [build/toy] --seeds 0,1 --json benchmarks/results/refiner.json

An arm is a name and the settings of one distillation, or of several with `then` between them. All begin with the causal
model and are judged by the pretrained one; a refiner is trained behind the backbone of the part before it. `off` is
distillation off the policy, on the data's latents. Every part takes the same number of steps. Every arm is measured on
the same scenes: many of one clip length, and a rollout of 60 clip lengths over its first 20 and over all. Nothing is
chosen by what came out. CPU seconds of a block of latents, in a stream of one character, are measured by turns before
all else, and are given over those of the first arm; `--seeds none` measures nothing more.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import record
import torch

from lpm_train.config import Config, override
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.fitting import fitted
from lpm_train.network.refine import Performer
from lpm_train.proof import toy
from lpm_train.proof.puppet import measure
from lpm_train.session import make_encoders
from lpm_train.streaming.rollout import begin, near, roll
from lpm_train.training.checkpoint import load_weights
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import make_stage
from lpm_train.training.stages import Distill
from lpm_train.training.start import Weights

_BOTH = "stream.steps=2 stream.refine=true distill.role"
_OFF = "distill.policy=data distill.rollout=0 distill.loss_frames=0"

ARMS = (
    "four: stream.steps=4",
    f"both: {_BOTH}=backbone then {_BOTH}=refiner",
    "three: stream.steps=3",
    f"off, both: {_BOTH}=backbone {_OFF} then {_BOTH}=backbone then {_BOTH}=refiner",
)

FIGURES = (
    "sway_std_ratio", "mouth_speech_corr", "nod_user_corr", "silent_mouth", "motion_energy_ratio", "identity.last",
    "drift.brightness",
)  # fmt: skip


def _config(out: Path, seed: str, steps: int, settings: str, encoders: Encoders) -> Config:
    config = toy.toy_config("distill", toy.Budget(), out / "codec.pt")
    data = replace(config.data, root=str(out / "data"), where="split = 'train'", workers=1)
    said = [f"run.seed={seed}", f"run.steps={steps}", *settings.split()]
    return fitted(override(replace(config, data=data), said), encoders)


def _distilled(out: Path, encoders: Encoders, seed: str, steps: int, settings: str) -> tuple[Config, Distill, float]:
    """Distil part by part; returns the last one's settings and stage, its average in place, and CPU seconds a step."""
    causal, teacher = (load_weights(out / name)[1] for name in ("causal", "pretrain"))
    start: Weights = causal
    backbone: Weights | None = None
    spent, parts = 0.0, settings.split(" then ")
    for part in parts:
        config = _config(out, seed, steps, part, encoders)
        refines = config.distill.role == "refiner"
        stage = make_stage(config, Ranks(), causal if refines else start, teacher, backbone if refines else None)
        assert isinstance(stage, Distill)
        with closing(Loader(config.data, encoders, seed=config.run.seed)) as loader:
            for i in range(steps):
                batch, began = next(loader), time.process_time()
                stage.step(batch, i)
                spent += time.process_time() - began
        start = backbone = {name: weight.clone() for name, weight in stage.ema.weights.items()}
        stage.ema.copy_to(stage.student)
    return config, stage, spent / (steps * len(parts))


@torch.no_grad()
def _figures(bench: toy.Bench, model: Performer, config: Config) -> dict[str, Any]:
    found = {"x1": bench.rollout(model, config.stream, bench.short)}
    scenes, batch = bench.long
    z, clip = roll(model, batch.cond, bench.size, batch.sample_ids, config.stream, "bench"), toy.FRAMES // 4
    for n in (n for n in (20, 60) if n * clip <= z.shape[1]):
        found[f"x{n}"] = measure(z[:, : n * clip], scenes, bench.encoders, toy.FRAMES)
    return {length: {name: round(figures[name], 4) for name in FIGURES} for length, figures in found.items()}


@torch.no_grad()
def _costs(out: Path, encoders: Encoders, bench: toy.Bench, arms: list[str], rounds: int = 60) -> dict[str, float]:
    """Return the CPU seconds of a block of each arm's stream over the first arm's, by turns and with full caches."""
    batch, causal, turns = bench.short[1].select([0]), load_weights(out / "causal")[1], {}
    for arm in arms:
        name, _, settings = arm.partition(": ")
        config = _config(out, "0", 1, settings.split(" then ")[-1], encoders)
        stage = make_stage(config, Ranks(), causal)  # cost does not depend on weights
        assert isinstance(stage, Distill)
        model, stream = stage.performer(stage.student.eval()), config.stream
        part, start = near(batch.cond, 6, 6 + stream.block, model)
        turns[name] = (begin(model, batch.cond, stream), part, start)
    noise = torch.zeros(1, stream.block, *bench.size)
    spent: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, (rollout, part, start) in turns.items():
            began = time.process_time()
            rollout.block(part, start, lambda _: noise)
            spent[name].append(time.process_time() - began)
    seconds = {name: median(times[rounds // 3 :]) for name, times in spent.items()}
    return {name: round(s / next(iter(seconds.values())), 3) for name, s in seconds.items()}


def main() -> None:
    """Distil every arm with every seed, and write what is measured as it comes."""
    parser = record.parser(__doc__)
    parser.add_argument("toy", type=Path, nargs="?", default=Path("build/toy"))
    parser.add_argument("--arms", nargs="*", default=ARMS)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--steps", type=int, default=45, help="distillation steps of each part of an arm")
    parser.add_argument("--lengths", type=int, default=60, help="clip lengths of the rollouts that are measured")
    parser.add_argument(
        "--scenes", type=int, default=6, help="of those rollouts; of one clip length are eight times these"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoders = make_encoders(toy.toy_config(codec=given.toy / "codec.pt").data)
    budget = toy.Budget(lengths=(given.lengths,), long_scenes=given.scenes, scenes=8 * given.scenes)
    bench = toy.Bench.make(given.toy, encoders, budget)
    asked = {"steps": given.steps, "lengths": given.lengths, "scenes": given.scenes}
    found: dict[str, Any] = record.today_here() | asked | {"arms": {}}
    found["cpu_of_a_block"] = _costs(given.toy, encoders, bench, given.arms)
    print(found["cpu_of_a_block"], flush=True)
    record.write(given.json, found)
    for seed in given.seeds.split(",") if given.seeds != "none" else ():
        for arm in given.arms:
            name, _, settings = arm.partition(": ")
            config, stage, step_s = _distilled(given.toy, encoders, seed, given.steps, settings)
            model = stage.performer(stage.student.eval())
            figures = _figures(bench, model, config) | {"cpu_s_a_step": round(step_s, 3)}
            found["arms"].setdefault(name, {"settings": settings})[f"seed {seed}"] = figures
            print(name, "seed", seed, figures, flush=True)
            record.write(given.json, found)


if __name__ == "__main__":
    main()
