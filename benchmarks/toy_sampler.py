"""What samplers reach on the exact flow of the puppet, and how far a network's loss is from the exact one.

    python benchmarks/toy_sampler.py [build/toy] --json benchmarks/results/toy_sampler.json

All factors of a scene are given but its sway, a Markov chain from pose to pose. On a grid of sways the expected latents
behind noised ones are then exact: forward-backward over the chain, each state's latents drawn and encoded. So the flow
that a perfect network would follow is known, and what a sampler of few steps loses of the spread is the sampler's.
Scene by scene the exact flow begins with the networks' own noise, of sampling and of the loss at each level.
A puppet's sway is cut off at its limit; here the chain ends on the grid's outermost values instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import record
import torch
from torch import Tensor

from lpm_train import flow
from lpm_train.batch import Batch
from lpm_train.data.clip import to_unit
from lpm_train.data.make import Encoders
from lpm_train.proof import toy
from lpm_train.proof.puppet import held_out_scenes, measure, scene_batch
from lpm_train.proof.synthetic import SWAY_LAG1, SWAY_LIMIT_PX, SWAY_STD_PX, Scene, render
from lpm_train.session import load_model, make_encoders
from lpm_train.streaming.rollout import sample_clip
from lpm_train.training.stage import level_loss

HOLD = 4  # frames of a pose, and of a latent
SEED = "bench"  # of the noise that sampling begins with, everywhere

Sampler = tuple[Literal["euler", "dpmpp_2m"], int, float]  # solver, steps and shift

SAMPLERS: tuple[Sampler, ...] = (
    ("euler", 16, 1.0), ("euler", 32, 1.0), ("euler", 64, 1.0), ("euler", 16, 3.0), ("euler", 32, 3.0),
    ("euler", 16, 8.0), ("euler", 64, 8.0), ("dpmpp_2m", 8, 8.0), ("dpmpp_2m", 16, 1.0), ("dpmpp_2m", 16, 4.0),
    ("dpmpp_2m", 16, 8.0), ("dpmpp_2m", 32, 8.0),
)  # fmt: skip

BY_NETWORK: tuple[Sampler, ...] = (
    ("euler", 16, 1.0), ("euler", 48, 1.0), ("dpmpp_2m", 16, 1.0), ("dpmpp_2m", 16, 4.0), ("dpmpp_2m", 16, 8.0),
)  # fmt: skip
"""Those that networks are asked for; the exact flow is asked for them too, with the same noise."""

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def _below(x_G: Tensor) -> Tensor:
    """Return the normal distribution's share below x."""
    return 0.5 * (1 + torch.erf(x_G / math.sqrt(2)))


@dataclass(frozen=True)
class Exact:
    """A scene whose sway is not known: its latents for each sway of a grid."""

    sway_G: Tensor
    latents_GFCHW: Tensor
    first_G: Tensor  # log probability of the first pose's sway
    next_GG: Tensor  # of the next one's

    @classmethod
    def of(cls, scene: Scene, encoders: Encoders, size: int = 43) -> Exact:
        """Draw the scene with every sway and encode it."""
        grid = torch.linspace(-SWAY_LIMIT_PX, SWAY_LIMIT_PX, size, dtype=torch.float64)
        edges = torch.cat([torch.tensor([-torch.inf]), (grid[1:] + grid[:-1]) / 2, torch.tensor([torch.inf])])
        apart = SWAY_STD_PX * math.sqrt(1 - SWAY_LAG1**2)
        first = _below(edges / SWAY_STD_PX).diff()
        then = _below((edges - SWAY_LAG1 * grid[:, None]) / apart).diff(dim=1)
        poses = slice(None, None, HOLD)
        many = replace(
            scene, states=scene.states[poses] * size, speech=np.tile(scene.speech[poses], size),
            user=np.tile(scene.user[poses], size), sway=np.repeat(grid.numpy(), scene.n_frames // HOLD),
        )  # fmt: skip
        pictures = torch.from_numpy(render(many).repeat(HOLD, axis=0)).permute(0, 3, 1, 2)
        x = encoders.codec.encode(to_unit(pictures)[None])[0]
        return cls(grid, x.reshape(size, -1, *x.shape[1:]), (first + 1e-30).log(), (then + 1e-30).log())

    def x0(self, x_FCHW: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Return the expected data behind x_t, [F, C, H, W], and the expected sway, [F]."""
        far = (x_FCHW - (1 - t) * self.latents_GFCHW).square().flatten(2).sum(-1).double()
        seen_FG = (-far / (2 * t * t)).T
        ahead, back = [self.first_G + seen_FG[0]], [torch.zeros_like(self.first_G)]
        for i in range(1, len(seen_FG)):
            ahead.append(torch.logsumexp(ahead[-1][:, None] + self.next_GG, 0) + seen_FG[i])
            back.append(torch.logsumexp(self.next_GG + seen_FG[-i] + back[-1], 1))
        p_FG = torch.softmax(torch.stack(ahead) + torch.stack(back[::-1]), -1)
        return torch.einsum("fg,gfchw->fchw", p_FG.float(), self.latents_GFCHW), p_FG @ self.sway_G

    def sample(self, eps_FCHW: Tensor, sampler: Sampler) -> Tensor:
        """Follow the exact flow; returns the sway that the last step expects, [F] in pixels."""
        solver, steps, shift = sampler
        levels, sway = flow.levels(steps, shift).tolist(), torch.zeros(0)

        def velocity(x_BFCHW: Tensor, t_BF: Tensor) -> Tensor:
            nonlocal sway
            x0, sway = self.x0(x_BFCHW[0], float(t_BF[0, 0]))
            return (x_BFCHW - x0) / t_BF[0, 0]

        flow.SOLVERS[solver](velocity, eps_FCHW[None], levels)
        return sway


def _named(sampler: Sampler) -> str:
    solver, steps, shift = sampler
    return f"{solver}, {steps} steps, shift {shift:g}"


def _exact(scenes: list[Scene], encoders: Encoders, batch: Batch) -> dict[str, Any]:
    samplers = dict.fromkeys(SAMPLERS + BY_NETWORK)
    loss, spread = dict.fromkeys(LEVELS, 0.0), dict.fromkeys(samplers, 0.0)
    for scene, x0, name in zip(scenes, batch.x_BFCHW, batch.sample_ids, strict=True):
        exact = Exact.of(scene, encoders)
        for t in LEVELS:
            eps = flow.noise([name], x0.shape, x0, "probe", t)[0]  # as `level_loss` draws it
            x_t = (1 - t) * x0 + t * eps
            loss[t] += float(((x_t - exact.x0(x_t, t)[0]) / t - (eps - x0)).square().mean()) / len(scenes)
        eps = flow.noise([name], x0.shape, x0, "clip", SEED)[0]  # as `sample_clip` draws it
        for sampler in samplers:
            spread[sampler] += float(exact.sample(eps, sampler).square().mean()) / len(scenes)
    return {
        "loss": {f"t{t:g}": round(x, 4) for t, x in loss.items()},
        "spread": {_named(sampler): round(math.sqrt(x) / SWAY_STD_PX, 3) for sampler, x in spread.items()},
    }


def _network(run: Path, scenes: list[Scene], encoders: Encoders) -> dict[str, Any]:
    batch, model = scene_batch(scenes, encoders, 2), load_model(run / "pretrain")[1]
    size = (batch.x_BFCHW.shape[2], batch.x_BFCHW.shape[3], batch.x_BFCHW.shape[4])
    spread = {}
    with torch.no_grad():
        loss = {f"t{t:g}": round(float(level_loss(model, batch, None, t).mean()), 4) for t in LEVELS}
    for sampler in BY_NETWORK:
        solver, steps, shift = sampler
        asked = replace(toy.toy_config().flow, steps=steps, shift=shift, solver=solver)
        z = sample_clip(model, batch.cond, size, batch.sample_ids, asked, SEED)
        spread[_named(sampler)] = round(measure(z, scenes, encoders, toy.FRAMES)["sway_std_ratio"], 3)
    return {"loss": loss, "spread": spread}


def main() -> None:
    """Measure the exact flow, and the pretrained network of every run that is named."""
    parser = record.parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="*", default=[Path("build/toy")])
    parser.add_argument("--scenes", type=int, default=48)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoders = make_encoders(toy.toy_config(codec=given.runs[0] / "codec.pt").data)
    scenes = held_out_scenes(given.scenes, toy.FRAMES, run_frames=(16, 40))
    found: dict[str, Any] = record.today_here() | {"people": given.scenes}
    found["exact"] = _exact(scenes, encoders, scene_batch(scenes, encoders, 1))
    print(found["exact"], flush=True)
    record.write(given.json, found)
    for run in given.runs:
        found[run.name] = _network(run, scenes, encoders)
        print(run.name, found[run.name], flush=True)
        record.write(given.json, found)


if __name__ == "__main__":
    main()
