"""Checkpoints: everything a run needs to continue to the bit, on any number of ranks.

A directory `step_00000100/` holds weights, averages and optimizers of all roles (torch.distributed.checkpoint: each
rank writes its shards, any number of ranks reads them), `config.json`, and `meta.json` with the step, the loader's
place and the figures so far. There is no generator state, for all randomness is a function of (seed, step, sample).
It is written under another name and renamed when complete: a directory that exists is whole. Tensors only are read.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from lpm_train.base import skeleton
from lpm_train.config import Config, ConfigError, from_json, to_json
from lpm_train.model import DiT
from lpm_train.stage import Stage


class CheckpointError(RuntimeError):
    """A checkpoint is missing, or belongs to another run."""


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What is known about a checkpoint beside its tensors."""

    step: int  # steps done
    loader: Mapping[str, Any] = field(default_factory=dict)
    first: Mapping[str, float] = field(default_factory=dict)  # figures before the first step
    now: Mapping[str, float] = field(default_factory=dict)  # figures of the last evaluation
    best: float | None = None
    best_step: int | None = None
    stale: int = 0  # evaluations since the best one


def _dcp(function: Callable[..., Any], tree: dict[str, Any], path: Path, alone: bool | None = None) -> None:
    """Save or load a tree of tensors; hush PyTorch's notice that a single process is one, given even when told so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to (save|load) in a single process")
        no_dist = not dist.is_initialized() if alone is None else alone
        function(tree, checkpoint_id=str(path / "tensors"), no_dist=no_dist)


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()


def _tensors(stage: Stage) -> dict[str, Any]:
    return {
        "roles": {n: _own(get_model_state_dict(m), m) for n, m in stage.roles.items()},
        "optimizers": {n: get_optimizer_state_dict(stage.roles[n], o) for n, o in stage.optimizers.items()},
        "ema": stage.ema.weights,
    }


def _own(weights: dict[str, Any], model: DiT) -> dict[str, Any]:
    """Leave out what belongs to a frozen base."""
    return {n: w for n, w in weights.items() if n not in model.frozen}


def steps(out: Path) -> list[int]:
    """List the complete checkpoints of a run, oldest first."""
    return sorted(int(p.name[5:]) for p in out.glob("step_*") if (p / "meta.json").exists())


def path_of(out: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return out / f"step_{step:08d}"


def save(out: Path, stage: Stage, config: Config, meta: Meta, keep: int) -> Path:
    """Write a checkpoint; afterwards `keep` are left, and the best one besides. Every rank must call it."""
    final, partial = path_of(out, meta.step), out / f"partial_{meta.step:08d}"
    first = not dist.is_initialized() or dist.get_rank() == 0
    if first:
        for left in out.glob("partial_*"):
            shutil.rmtree(left)
        partial.mkdir(parents=True)
    _wait()
    _dcp(state_dict_saver.save, _tensors(stage), partial)
    if first:
        (partial / "config.json").write_text(to_json(config))
        (partial / "meta.json").write_text(json.dumps(asdict(meta), indent=2))
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        for step in set(steps(out)[:-keep]) - {meta.best_step}:
            shutil.rmtree(path_of(out, step))
    _wait()
    return final


def read_meta(path: Path) -> Meta:
    """Read what lies beside the tensors."""
    return Meta(**json.loads((path / "meta.json").read_text()))


def load(path: Path, stage: Stage, config: Config) -> Meta:
    """Put a checkpoint's state into a stage; every rank must call it.

    Raises:
        CheckpointError: model, stage, data or seed are not those of the checkpoint.
    """
    saved = read_config(path)

    def fixed(c: Config) -> dict[str, Any]:
        data = replace(c.data, workers=0, prefetch=0, root="")
        run = {"run.stage": c.run.stage, "run.seed": c.run.seed, "distill.role": c.distill.role}
        return {"model": c.model, "base": c.base.sha256, "lora": c.lora, "stream": c.stream, **run, "data": data}

    for (name, ours), theirs in zip(fixed(config).items(), fixed(saved).values(), strict=True):
        if ours != theirs:
            raise CheckpointError(
                f"{path} was written with another {name}:\n  there {theirs}\n  here  {ours}\n"
                "use the same settings to continue, or another directory for a new run"
            )
    tensors = _tensors(stage)
    _dcp(state_dict_loader.load, tensors, path)
    for name, model in stage.roles.items():
        set_model_state_dict(model, tensors["roles"][name], options=StateDictOptions(strict=not model.frozen))
    for name, optimizer in stage.optimizers.items():
        set_optimizer_state_dict(stage.roles[name], optimizer, tensors["optimizers"][name])
    return read_meta(path)


def read_config(path: Path) -> Config:
    """Read the configuration beside a checkpoint. Raises ConfigError, with the file's name."""
    file = path / "config.json"
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from e


def find(out: Path) -> Path:
    """Return a run's best checkpoint, or else its last; `out` may be a checkpoint itself.

    Raises:
        CheckpointError: there is none.
    """
    if (out / "meta.json").exists():
        return out
    there = steps(out)
    if not there:
        raise CheckpointError(f"no checkpoint in {out}")
    best = read_meta(path_of(out, there[-1])).best_step
    return path_of(out, best if best in there else there[-1])


def load_weights(path: Path, role: str = "student") -> tuple[Config, dict[str, Tensor]]:
    """Read a student's averaged weights on the CPU, but those of a frozen base: to start the next stage, to generate.

    `path` is a checkpoint, or a run's directory (then its best one, see `find`). Another `role`, a refiner's backbone,
    has no average: its weights are as they are.
    """
    path = find(path)
    config = read_config(path)
    model = skeleton(config)
    weights = {n: torch.empty(p.shape) for n, p in model.named_parameters() if n not in model.frozen}
    tree = {"ema": weights} if role == "student" else {"roles": {role: weights}}
    _dcp(state_dict_loader.load, tree, path, alone=True)
    return config, weights
