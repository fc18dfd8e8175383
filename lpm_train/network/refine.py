"""A backbone and the refiner of what it leaves: two networks that generate one stream (`rollout.RefinedRollout`)."""

from __future__ import annotations

from typing import Any

from torch import nn

from lpm_train.config import Model
from lpm_train.network.model import DiT


class Refined(nn.Module):
    """Two networks of one form; in a single pass it is the refiner, which like any causal model sees a clean past."""

    def __init__(self, backbone: DiT, refiner: DiT) -> None:
        super().__init__()
        self.backbone, self.refiner = backbone, refiner

    @property
    def config(self) -> Model:
        """The form of both."""
        return self.refiner.config

    def forward(self, *args: Any, **options: Any) -> Any:
        """Run the refiner, see `DiT.forward`."""
        return self.refiner(*args, **options)


Performer = DiT | Refined
"""What generates a stream."""
