"""The numbers of a run for TensorBoard, on request: `--set log.tensorboard=true`, then `tensorboard --logdir RUN`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpm_train.config import ConfigError
from lpm_train.training.log import Board


def summary_writer() -> Any:
    """Return TensorBoard's writer, a class. Raises ConfigError where the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as e:
        raise ConfigError(
            "log.tensorboard=true needs the package tensorboard, which is not installed: pip install "
            "'openlpm[tensorboard]', or leave the setting away (the run's own page, index.html, needs nothing)"
        ) from e
    return SummaryWriter


@contextmanager
def board(out: Path, step: int) -> Iterator[Board]:
    """Write into `out`/tensorboard for a while; what lies there of steps after `step` is hidden from its curves."""
    writer = summary_writer()(str(out / "tensorboard"), purge_step=step + 1)
    try:
        yield writer
    finally:
        writer.close()
