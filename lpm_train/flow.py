"""Flow matching: a straight path from data (t = 0) to noise (t = 1), its loss, and samplers.

x_t = (1 - t) x0 + t eps, the model predicts v = eps - x0, and x0 = x_t - t v. Pure functions; t is continuous and is
always the noise level itself, one for each frame. Noise depends on (sample id, seed parts) only, so that neither
batch size, rank nor resumption changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lpm_train.batch import Conditions, sample_seed


def noise(ids: Sequence[str], shape: Sequence[int], like: Tensor, *seed: object) -> Tensor:
    """Draw N(0, 1) of `shape` for each sample: [len(ids), *shape], of `like`'s type and place."""
    return _draw(torch.randn, ids, shape, like, seed)


def uniform(ids: Sequence[str], shape: Sequence[int], like: Tensor, *seed: object) -> Tensor:
    """Draw U(0, 1) of `shape` for each sample."""
    return _draw(torch.rand, ids, shape, like, seed)


def _draw(
    how: Callable[..., Tensor], ids: Sequence[str], shape: Sequence[int], like: Tensor, seed: tuple[object, ...]
) -> Tensor:
    rows = []
    for sample_id in ids:
        generator = torch.Generator(like.device).manual_seed(sample_seed(*seed, sample_id))
        rows.append(how(tuple(shape), generator=generator, device=like.device, dtype=torch.float32))
    return torch.stack(rows).to(like.dtype)


def shifted(u: Tensor, shift: float) -> Tensor:
    """Move levels toward noise: t = s u / (1 + (s - 1) u)."""
    return shift * u / (1 + (shift - 1) * u)


def spread(t_BF: Tensor) -> Tensor:
    """Add the axes of a latent: [B, F] -> [B, F, 1, 1, 1]."""
    return t_BF[..., None, None, None]


def add_noise(x0: Tensor, eps: Tensor, t_BF: Tensor) -> Tensor:
    """Put data on the path: (1 - t) x0 + t eps."""
    t = spread(t_BF)
    return (1 - t) * x0 + t * eps


def to_x0(x_t: Tensor, v: Tensor, t_BF: Tensor) -> Tensor:
    """Return the data that a velocity points to; float32 or wider, for half precision loses it at small t."""
    return x_t - spread(t_BF) * v


def frame_loss(v: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    """Return the mean squared error of the velocity by sample and frame, [B, F]."""
    return (v - (eps - x0)).square().mean(dim=(2, 3, 4))


def levels(steps: int, shift: float) -> Tensor:
    """Return noise levels from 1 down, without the final 0: [steps]."""
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1], shift)


def guided(velocity: Callable[[Conditions], Tensor], cond: Conditions, scale: float) -> Tensor:
    """Return v_un + scale (v_con - v_un), v_un without conditions; one pass only where scale is 1."""
    v = velocity(cond)
    if scale == 1.0:
        return v
    base = velocity(cond.null())
    return base + scale * (v - base)


def euler(velocity: Callable[[Tensor, Tensor], Tensor], eps: Tensor, steps: int, shift: float) -> Tensor:
    """Follow the path from noise to data in Euler steps; `velocity` is a function of (x_BFCHW, t_BF)."""
    ts = [*levels(steps, shift).tolist(), 0.0]
    x = eps
    for now, then in pairwise(ts):
        x = x + (then - now) * velocity(x, x.new_full(x.shape[:2], now))
    return x
