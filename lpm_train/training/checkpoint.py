"""Checkpoints: everything a run needs to continue to the bit, on any number of ranks.

A directory `step_00000100/` holds weights and optimizers of all roles that are trained, and the student's average
(torch.distributed.checkpoint: each rank writes its shards, any number of ranks reads them), `config.json`, and
`meta.json` with the step, the loader's place and the figures so far. There is no generator state, for all randomness is
a function of (seed, step, sample). What a judge was read from and the hash of its weights are named, not its weights.
A checkpoint that is there is whole (`lpm_train.training.checkpoint_files`). Tensors only are read.

A snapshot is copied, and written by a thread while training goes on, one at a time.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from lpm_train.config import Config, ConfigError, from_json, to_json
from lpm_train.network.base import same_base
from lpm_train.network.model import DiT
from lpm_train.training.checkpoint_files import WHOLE, Folder, Place, below, placed
from lpm_train.training.stage import Stage
from lpm_train.training.start import skeleton


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
    judges: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # place and sha256 of roles that never change


def _alone() -> bool:
    """Tell whether this process is the only one; hush PyTorch's notice that it is, given even when told so."""
    warnings.filterwarnings("ignore", message=".*assuming the intent is to (save|load) in a single process")
    return not dist.is_initialized()


def _read(tree: dict[str, Any], path: Place, alone: bool) -> None:
    folder, name = _split(path)
    state_dict_loader.load(tree, storage_reader=folder.reader(name), no_dist=alone)


def _split(path: Place) -> tuple[Folder, str]:
    """Return the folder of a checkpoint, and its name there."""
    path = placed(path)
    if isinstance(path, Path):
        return Folder(path.absolute().parent), path.absolute().name
    home, _, name = path.rpartition("/")
    return Folder(home), name


def _tensors(stage: Stage) -> dict[str, Any]:
    kept = {n: m for n, m in stage.roles.items() if n in stage.optimizers or n in stage.held}
    return {
        "roles": {n: _own(get_model_state_dict(m), m) for n, m in kept.items()},
        "optimizers": {n: get_optimizer_state_dict(kept[n], o) for n, o in stage.optimizers.items()},
        "ema": stage.ema.weights,
    }


def _own(weights: dict[str, Any], model: DiT) -> dict[str, Any]:
    """Leave out what belongs to a frozen base."""
    return {n: w for n, w in weights.items() if n not in model.frozen}


def home(out: Place, checkpoints: str = "") -> Place:
    """Return where the checkpoints of a run lie.

    Args:
        out: the run's directory; or, on its own, a place that holds checkpoints.
        checkpoints: `run.checkpoints` of its configuration.
    """
    out = placed(out)
    if not checkpoints or not isinstance(out, Path):
        return out
    return below(placed(checkpoints), out.absolute().name)


def steps(out: Place) -> list[int]:
    """List the complete checkpoints of a run, oldest first; `out` is where they lie."""
    return sorted(int(n[5:]) for n in Folder(out).whole() if n.startswith("step_"))


def path_of(out: Place, step: int) -> Place:
    """Return where the checkpoint of a step lies: a Path, or of a URI a text."""
    return below(placed(out), _name(step))


def _name(step: int) -> str:
    return f"step_{step:08d}"


class Writer:
    """Writes the checkpoints of a run; every rank has one, and calls it alike."""

    def __init__(self, out: Place, keep: int = 1, background: bool = False) -> None:
        """Write to `out`; the best and the last `keep` stay. `background`: return before they are written."""
        self.out, self.keep, self._background = placed(out), keep, background
        self._alone = _alone()
        # Of its own: what threads say to each other must not come between what training says.
        self._group = None if self._alone else dist.new_group(backend="gloo")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None

    def save(self, stage: Stage, config: Config, meta: Meta) -> None:
        """Begin to write a checkpoint, once the one before is written. Raises what went wrong with that one."""
        self.wait()
        meta = replace(meta, judges=stage.judged_by)
        tree, files = _tensors(stage), {"config.json": to_json(config), WHOLE: json.dumps(asdict(meta), indent=2)}
        if not self._background:
            self._write(tree, files, meta)
            return
        stager = DefaultStager(StagingOptions(False, False, False, False))
        copy = stager.stage(tree)
        stager.close()
        _alone()
        self._under_way = self._pool.submit(self._write, copy, files, meta)

    def wait(self) -> None:
        """Wait until what was begun is written. Raises what went wrong."""
        begun, self._under_way = self._under_way, None
        if begun is not None:
            begun.result()

    def close(self) -> None:
        """Wait, and let go of the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def _write(self, tree: Any, files: dict[str, str], meta: Meta) -> None:
        try:
            self._put(tree, files, meta)
        except (OSError, CheckpointException) as e:
            why = next(iter(e.failures.values()))[0] if isinstance(e, CheckpointException) else e
            raise CheckpointError(f"{path_of(self.out, meta.step)} was not written: {why}") from e

    def _put(self, tree: Any, files: dict[str, str], meta: Meta) -> None:
        folder, name = Folder(self.out), _name(meta.step)
        under = self._by_first(lambda: folder.begin(name))
        state_dict_saver.save(
            tree, storage_writer=folder.writer(under), process_group=self._group, no_dist=self._alone
        )  # fmt: skip
        self._by_first(lambda: folder.finish(under, name, files))
        self._by_first(lambda: self._prune(folder, meta.best_step))

    def _prune(self, folder: Folder, best: int | None) -> None:
        for step in set(steps(self.out)[: -self.keep]) - {best}:
            folder.drop(_name(step))

    def _by_first(self, function: Callable[[], Any]) -> Any:
        """Let the first rank do something for all; what goes wrong there is raised on all."""
        said: list[Any] = [None, None]
        if self._alone or dist.get_rank() == 0:
            try:
                said[0] = function()
            except OSError as e:
                said[1] = e
        if self._group is not None:
            dist.broadcast_object_list(said, src=0, group=self._group)
        if said[1] is not None:
            raise said[1]
        return said[0]


def save(out: Place, stage: Stage, config: Config, meta: Meta, keep: int) -> Place:
    """Write a checkpoint; afterwards `keep` are left, and the best one besides. Every rank must call it."""
    writer = Writer(out, keep)
    writer.save(stage, config, meta)
    writer.close()
    return path_of(out, meta.step)


def read_meta(path: Place) -> Meta:
    """Read what lies beside the tensors."""
    folder, name = _split(path)
    return Meta(**json.loads(folder.store.read(f"{name}/{WHOLE}")))


def must_go_on(path: Place, config: Config) -> None:
    """See that a run of these settings goes on from a checkpoint: to be asked before its weights are read.

    Raises:
        CheckpointError: model, stage, optimizer, data or seed are not those of the checkpoint.
        ConfigError: `network.base.same_base` has to read the base, and cannot.
    """
    saved = read_config(path)

    def fixed(c: Config) -> dict[str, Any]:
        data = replace(c.data, workers=0, prefetch=0, root="")
        run = {"run.stage": c.run.stage, "run.seed": c.run.seed, "distill.role": c.distill.role}
        critic = c.optim.muon if c.distill.critic_muon is None else c.distill.critic_muon
        run |= {"optim.muon": c.optim.muon, "distill.critic_muon": critic}
        return {"model": c.model, "base": c.base.sha256, "lora": c.lora, "stream": c.stream, **run, "data": data}

    for (name, ours), theirs in zip(fixed(config).items(), fixed(saved).values(), strict=True):
        if ours != theirs and not (name == "base" and same_base(config.base, saved.base)):
            raise CheckpointError(
                f"{path} was written with another {name}:\n  there {theirs}\n  here  {ours}\n"
                "use the same settings to continue, or another directory for a new run"
            )


def load(path: Place, stage: Stage, config: Config) -> Meta:
    """Put a checkpoint's state into a stage; every rank must call it.

    Raises:
        CheckpointError: model, stage, optimizer, data, seed or a judge are not those of the checkpoint.
        ConfigError: `network.base.same_base` has to read the base, and cannot.
    """
    must_go_on(path, config)
    meta = read_meta(path)
    for role, judge in meta.judges.items():
        if judge["sha256"] != (now := stage.judged_by[role])["sha256"]:
            raise CheckpointError(
                f"the {role} of {path} was {_told(judge)}, and this one is {_told(now)}: name the former "
                "(--teacher, or --init where that was it), or begin a new run"
            )
    tensors = _tensors(stage)
    _read(tensors, path, _alone())
    for name, weights in tensors["roles"].items():
        model = stage.roles[name]
        set_model_state_dict(model, weights, options=StateDictOptions(strict=not model.frozen))
    for name, optimizer in stage.optimizers.items():
        set_optimizer_state_dict(stage.roles[name], optimizer, tensors["optimizers"][name])
    stage.resumed()
    return meta


def _told(judge: Mapping[str, str]) -> str:
    at = f" ({judge['place']})" if judge["place"] else ""
    return f"{judge['sha256'][:12]}{at}"


def read_config(path: Place) -> Config:
    """Read the configuration beside a checkpoint, or a run's. Raises ConfigError, with the file's name."""
    folder, name = _split(path)
    try:
        return from_json(folder.store.read(f"{name}/config.json").decode())
    except ConfigError as e:
        raise ConfigError(f"{below(placed(path), 'config.json')}: {e}") from e


def find(out: Place) -> Place:
    """Return a run's best checkpoint, or else its last; `out` may be a checkpoint itself, or where those of a run lie.

    Raises:
        CheckpointError: there is none.
    """
    out = placed(out)
    folder, name = _split(out)
    if name in folder.whole():
        return out
    there = steps(out)
    if not there and isinstance(out, Path) and (out / "config.json").exists():
        out = home(out, read_config(out).run.checkpoints)
        there = steps(out)
    if not there:
        raise CheckpointError(f"no checkpoint in {out}")
    best = read_meta(path_of(out, there[-1])).best_step
    return path_of(out, best if best in there else there[-1])


class Saved:
    """The averaged weights of a checkpoint's student, read when a model asks: by each rank its own rows.

    Another `role`, a refiner's backbone, has no average: its weights are as they are.
    """

    def __init__(self, path: Place, role: str = "student") -> None:
        """Name a checkpoint, or a run (then its best one, see `find`)."""
        self._role = role
        self.path = find(path)
        self.config = read_config(self.path)
        self.place = str(self.path)

    def read(self, into: Mapping[str, Tensor]) -> None:
        """Overwrite tensors, whole or sharded ones, with the weights of their names; every rank calls it."""
        alone = _alone()
        tree = {"ema": dict(into)} if self._role == "student" else {"roles": {self._role: dict(into)}}
        _read(tree, self.path, alone or not any(isinstance(w, DTensor) for w in into.values()))


def load_weights(path: Place, role: str = "student") -> tuple[Config, dict[str, Tensor]]:
    """Read a student's averaged weights on the CPU, but those of a frozen base: to start the next stage, to generate.

    `path` is a checkpoint, or a run's directory (then its best one, see `find`); `role` as of `Saved`.
    """
    saved = Saved(path, role)
    model = skeleton(saved.config)
    weights = {n: torch.empty(p.shape) for n, p in model.named_parameters() if n not in model.frozen}
    saved.read(weights)
    return saved.config, weights
