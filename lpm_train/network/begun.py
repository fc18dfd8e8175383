"""A clip that begins with a given picture, for networks that know it by its noise level alone, as Wan 2.2's 5B."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from lpm_train.batch import Conditions
from lpm_train.config import Model


class Begun(NamedTuple):
    """Frames that are given, for a network that has no channels for them: clean latents among noisy ones.

    They are seen as they are, at noise level 0, and the velocity there is the straight way to them from whatever noise
    stood in their place. So samplers end at them, their loss is 0, and a judge finds nothing to say of them.
    """

    x_BFCHW: Tensor
    on_BF: Tensor  # bool: which frames are given

    @classmethod
    def of(cls, config: Model, cond: Conditions, start: int, frames: int) -> Self | None:
        """Return which of frames [start, start + frames) are given; None where a network sees them beside the rest."""
        if cond.given_BFCHW is None or cond.given_on_BF is None or config.image_channels:
            return None
        return cls(*(v[:, start : start + frames] for v in (cond.given_BFCHW, cond.given_on_BF)))

    def seen(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and noise levels with the given frames among them; of [2B] rows those of both copies."""
        on, given = ((torch.cat([v, v]) if len(x) > len(v) else v) for v in (self.on_BF, self.x_BFCHW))
        return torch.where(on[..., None, None, None], given.to(x), x), torch.where(on, 0.0, t)

    def toward(self, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """Return a velocity that leads to the given frames from `x` at `t`."""
        straight = (x - self.x_BFCHW) / t.clamp_min(1e-6)[..., None, None, None]
        return torch.where(self.on_BF[..., None, None, None], straight.to(v), v)
