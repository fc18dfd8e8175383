"""Flow matching: a straight path from data (t = 0) to noise (t = 1), its loss, and samplers.

x_t = (1 - t) x0 + t eps, the model predicts v = eps - x0, and x0 = x_t - t v. Pure functions; t is continuous and is
always the noise level itself, one for each frame. Noise depends on (sample id, seed parts) only, so that neither
batch size, rank nor resumption changes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lpm_train.batch import Conditions, sample_seed

Velocity = Callable[[Tensor, Tensor], Tensor]
"""A function of (x_BFCHW, t_BF): the velocity, as x."""

GUIDED = ("refs", "text", "speak", "listen")
"""Conditions in the order in which guidance adds them: who, then what, then what must be met frame by frame."""


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


def compared(scales: Sequence[float]) -> list[int]:
    """Return how many of `GUIDED` each pass of `guided` is given, in turn: as few passes as the scales allow.

    Scales of conditions that follow each other merge where they are equal. A first scale of 1 needs no pass without
    conditions, a last scale of 0 none with all.
    """
    ends = [i for i in range(1, len(scales) + 1) if i == len(scales) or scales[i - 1] != scales[i]]
    return [0] * (scales[0] != 1.0) + [i for i in ends if i < len(scales) or scales[-1] != 0.0]


def guided(velocity: Callable[[Conditions], Tensor], cond: Conditions, scales: Sequence[float]) -> Tensor:
    """Return v_0 + sum_i s_i (v_i - v_(i-1)), where v_i has the first i of `GUIDED` and v_0 none of them.

    The chain of Brooks et al. 2023 (InstructPix2Pix, arXiv 2211.09800, equation 3) over four conditions. Equal scales s
    give v_0 + s (v_4 - v_0), classifier-free guidance. Passes are taken in turn (`compared`), so memory is that of one.
    """
    out = before = None
    for given in compared(scales):
        now = velocity(cond.without(**dict.fromkeys(GUIDED[given:], True)) if given else cond.null())
        out = now if out is None or before is None else out + scales[given - 1] * (now - before)
        before = now
    assert out is not None
    return out


def euler(velocity: Velocity, eps: Tensor, levels: Sequence[float]) -> Tensor:
    """Follow the path from noise to data in a straight line a level.

    Args:
        velocity: a function of (x_BFCHW, t_BF).
        eps: noise [B, F, C, H, W].
        levels: noise levels from 1 down, without the final 0.
    """
    x = eps
    for now, then in pairwise([*levels, 0.0]):
        x = x + (then - now) * velocity(x, x.new_full(x.shape[:2], now))
    return x


def dpmpp_2m(velocity: Velocity, eps: Tensor, levels: Sequence[float]) -> Tensor:
    """Follow the path with the data of the last two levels, as straight over log((1 - t) / t): DPM-Solver++ (2M).

    Lu et al. 2022 (arXiv 2211.01095), algorithm 2. A pass a level, as `euler`; its error falls with the square of the
    steps. The first level, 1, has no logarithm and the last one no end: both are walked as Euler walks them.

    Args and result as of `euler`.
    """
    x, before, h_before = eps, eps, math.inf
    for now, then in pairwise([*levels, 0.0]):
        t = x.new_full(x.shape[:2], now)
        x0 = to_x0(x, velocity(x, t), t)
        h = _half_log_snr(then) - _half_log_snr(now)
        ahead = x0 if math.isinf(h) or math.isinf(h_before) else x0 + (x0 - before) * (h / (2 * h_before))
        keep = then / now
        x = keep * x + ((1 - then) - (1 - now) * keep) * ahead
        before, h_before = x0, h
    return x


def _half_log_snr(t: float) -> float:
    """Return log(signal / noise) of a level: infinite at the ends."""
    return math.log((1 - t) / t) if 0 < t < 1 else math.copysign(math.inf, 0.5 - t)


SOLVERS: dict[str, Callable[[Velocity, Tensor, Sequence[float]], Tensor]] = {"euler": euler, "dpmpp_2m": dpmpp_2m}
"""Full samplers by the names of `flow.solver`."""
