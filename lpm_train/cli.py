"""`lpm train run`: a thin edge over the trainer; every expected error is one sentence.

Commands print for people and return the exit code: 0 all well, 1 the request could not be carried out (2 is wrong
usage). Called from Python they are plain functions that raise. torch is imported inside of them, so that `lpm` stays
quick to start for those who do not train. The commands around training are in `lpm_train.tools.cli`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

train = typer.Typer(no_args_is_help=True)

Dataset = Annotated[str, typer.Argument(help="a packed dataset: a directory or an s3:// prefix")]
Where = Annotated[str | None, typer.Option(help="SQL over the manifest, e.g. \"state = 'listen' AND duration_s >= 4\"")]
Preset = Annotated[str | None, typer.Option(help="toy, small, wan_1b3, ... or a YAML file of settings over one")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="section.field=value, e.g. optim.lr=1e-4")]

_F = TypeVar("_F", bound=Callable[..., int])


def told(function: _F) -> Callable[..., None]:
    """Make a command of a function: its result is the exit code, and errors that answer the user are one sentence."""

    @functools.wraps(function)
    def run(*args: object, **options: object) -> None:
        from lpm_train.config import ConfigError
        from lpm_train.storage import DataError
        from lpm_train.training.checkpoint import CheckpointError
        from lpm_train.training.loop import TrainingError
        from schemas.files.places import StoreError
        from schemas.settings.use import UseError

        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)  # last: modules of one's own are found here, and shadow nothing
        try:
            code = function(*args, **options)
        except (CheckpointError, ConfigError, DataError, StoreError, TrainingError, UseError) as e:
            typer.echo(f"lpm: {e}", err=True)
            code = 1
        raise typer.Exit(code)

    return run


def command(name: str) -> Callable[[_F], _F]:
    """Register a function as `lpm train NAME`; the function itself stays as it is."""

    def register(function: _F) -> _F:
        train.command(name)(told(function))
        return function

    return register


@train.callback()
def group() -> None:
    """Train a generator on packed shards."""  # keeps `run` a word of the command line where it is the only one


@command("run")
def run(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="directory of the run: checkpoints, configuration, log")],
    preset: Preset = None,
    stage: Annotated[str | None, typer.Option(help="pretrain, causal, consistency or distill")] = None,
    init: Annotated[str | None, typer.Option(help="run or checkpoint of the stage before; also at s3://")] = None,
    base: Annotated[str | None, typer.Option(help="public weights to begin with: wan:DIRECTORY")] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="distill: run that judges; default: --init, unless distilled itself; a run that goes on keeps its own"
        ),
    ] = None,
    where: Where = None,
    settings: Settings = None,
    backbone: Annotated[str | None, typer.Option(help="distill.role=refiner: run before it; default: --init")] = None,
) -> int:
    """Run one stage, or go on with it: pretrain, then causal, then distill, each from the best of the one before.

    Without --preset, settings are those of the run that is continued, else those of --init, else the preset small.

    Several ranks (torchrun -m lpm_train.cli run ...) split weights, gradients and optimizer states between all of them,
    or between --set run.shard=N of them. Checkpoints are written while training goes on (--set run.background=false:
    not so), to --set run.checkpoints=s3://BUCKET/PREFIX if not into the run's directory. A run that goes on reads its
    teacher again from where it was, or from --teacher.
    """
    from lpm_train.resolve import resolve
    from lpm_train.session import run_stage
    from lpm_train.tools.flops import step_flops
    from lpm_train.tools.outputs import must_hold
    from lpm_train.tools.watch.watching import watch

    must_hold(out)
    chosen = [*(settings or []), *([f"run.stage={stage}"] if stage else [])]
    config = resolve(preset, dataset, where, chosen, out, init, base=base)
    run_stage(config, out, init, teacher, step_flops, watch, backbone)
    return 0


if __name__ == "__main__":
    train(prog_name="lpm train")  # what torchrun starts
