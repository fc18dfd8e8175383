"""Run a training function on the machines of a Ray cluster; torchrun stays the reference.

Ray Train starts the workers, sets the variables that torchrun would, and joins the process group; `parallel.ranks`
then finds all as usual. Checkpoints are those of the loop, so the output directory must be one that every machine
sees, and a worker that is lost costs the steps since the last of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from lpm_train.config import ConfigError


def launch(
    function: Callable[..., Any], arguments: Mapping[str, Any], workers: int, *, gpu: bool = True, cpus: int = 4,
    retries: int = 2, storage: str | None = None,
) -> None:  # fmt: skip
    """Call `function(**arguments)` on every worker, and again from its last checkpoint when one is lost.

    Args:
        function: importable on every machine, for instance `session.run_stage`.
        arguments: its arguments.
        workers: processes; one GPU each if `gpu`.
        gpu: False for CPU workers (gloo).
        cpus: CPU cores a worker.
        retries: how often to start again.
        storage: where Ray keeps its own records; None: its default.

    Raises:
        ConfigError: Ray Train is not installed.
    """
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as e:
        raise ConfigError("Ray Train is not installed: pip install 'ray[train]', or start with torchrun") from e

    def worker(values: dict[str, Any]) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        function(**values)

    TorchTrainer(
        worker,
        train_loop_config=dict(arguments),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=retries), storage_path=storage),
    ).fit()
