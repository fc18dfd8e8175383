"""A base that holds nothing but its shapes: low-rank training asks for one, and its cost does not depend on which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lpm_train.config import Base, Config
from lpm_train.network.base_names import pieces
from lpm_train.network.model import DiT
from lpm_train.training import start

_DRAWN = 1 << 22  # values, which come again and again: 14 B of their own would take minutes


class _Drawn:
    """Answers as a base that was found (`lpm_train.network.base.Opened`)."""

    files = SimpleNamespace(match=lambda sha256: sha256 == "drawn")

    def read(self, expected: DiT, rows: Any) -> Iterator[tuple[str, Tensor]]:
        values = 0.02 * torch.randn(_DRAWN)
        for piece in pieces(expected.config):
            shape = expected.get_parameter(piece.ours).shape
            whole = values.repeat(-(-shape.numel() // _DRAWN))[: shape.numel()].reshape(shape)
            yield piece.ours, whole[rows(len(whole))]

    def added(self, rows: Any) -> Iterator[tuple[str, Tensor]]:
        return iter(())


@contextmanager
def drawn_base(config: Config) -> Iterator[Config]:
    """Give a configuration of low rank a base that is drawn; leave any other as it is."""
    if not config.lora.rank:
        yield config
        return
    plain = start.open_base
    start.open_base = lambda weights: _Drawn()  # type: ignore[assignment, return-value]
    try:
        yield replace(config, base=Base(weights="drawn", sha256="drawn"))
    finally:
        start.open_base = plain
