"""An optional stage between teacher forcing and distillation: jump along the causal model's own path.

Consistency training in latents: neighbouring points of the path must lead to the same data (Song et al. 2023, arXiv
2303.01469). Gives distillation a start that already works in few steps. Costs two more passes a step than `Causal`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lpm_train import flow
from lpm_train.batch import Batch
from lpm_train.config import Config
from lpm_train.streaming.rollout import forced
from lpm_train.training.parallel import Ranks
from lpm_train.training.stages import Causal
from lpm_train.training.start import Start


class Consistency(Causal):
    """Make neighbouring points of the causal model's path agree on the data; its start is its own teacher."""

    name = "consistency"
    judges = ("teacher",)

    def __init__(self, config: Config, where: Ranks, start: Start | None = None) -> None:
        super().__init__(config, where, start)
        self.roles |= {role: self._model(start, trained=False) for role in ("teacher", "target")}

    def step(self, batch: Batch, i: int) -> dict[str, float]:
        """Take optimizer step `i`, then let the target follow."""
        out = super().step(batch, i)
        self.resumed()
        return out

    def resumed(self) -> None:
        """Let the target be the average."""
        self.ema.copy_to(self.roles["target"])

    def _losses(self, batch: Batch, i: int) -> Tensor:
        c, x0 = self.config.consistency, batch.x_BFCHW
        grid = flow.shifted(torch.linspace(1, 0, c.grid + 1, device=x0.device, dtype=x0.dtype), self.config.flow.shift)
        k = (self._by_block(batch, i, "t", self.name) * c.grid).long().clamp_max(c.grid - 1)
        (t, then), context = (grid[k], grid[k + 1]), self._context(batch, i, c.context_noise)

        def velocity(role: str, x: Tensor, t: Tensor) -> Tensor:
            return forced(self.roles[role], x, t, batch.cond, self.layout, context)

        x_t = flow.add_noise(x0, self._noise(batch, "eps", i), t)
        with torch.no_grad():
            x_then = x_t + flow.spread(then - t) * velocity("teacher", x_t, t)
            target = flow.to_x0(x_then, velocity("target", x_then, then), then)
        online = flow.to_x0(x_t, velocity("student", x_t, t), t)
        return (online - target).square().mean(dim=(2, 3, 4)).mean(1)
