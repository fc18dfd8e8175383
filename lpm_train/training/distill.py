"""Losses that turn a many-step model into a few-step one; pure tensor functions.

Distribution matching (Yin et al. 2024): a frozen teacher knows the score of the data, a critic that of the student's
own output; their difference, as a gradient on that output, moves one distribution onto the other. The loss value says
nothing; the figures to watch are the size of the difference and how the student's spread compares with the data's.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dmd_gradient(y: Tensor, real_x0: Tensor, fake_x0: Tensor) -> Tensor:
    """Return the direction away from the data: (fake - real) / mean |y - real| by sample, 0 where that is not finite.

    Args:
        y: student's output, [B, ...].
        real_x0: teacher's estimate of the data behind the noised output.
        fake_x0: the critic's.
    """
    scale = (y - real_x0).abs().flatten(1).mean(dim=1).clamp_min(torch.finfo(y.dtype).tiny)
    return torch.nan_to_num((fake_x0 - real_x0) / scale.reshape(-1, *[1] * (y.dim() - 1)))


def dmd_loss(y: Tensor, gradient: Tensor) -> Tensor:
    """Return a loss by sample, [B], whose gradient with respect to y is `gradient` / (values in a sample)."""
    target = (y - gradient).detach()
    return 0.5 * (y - target).square().flatten(1).mean(dim=1)


def energy_score(first: Tensor, second: Tensor, data: Tensor) -> Tensor:
    """Score two independent draws against the data, [B]: |first - data| + |second - data| - |first - second|, halved.

    A proper score (Gneiting and Raftery 2007): smallest in expectation when the draws follow the data's distribution;
    both a collapse to the mean and too wide a spread raise it. Distances are RMS over channels and place, by frame.
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean(dim=(2, 3, 4)).sqrt().mean(dim=1)

    return 0.5 * (distance(first, data) + distance(second, data) - distance(first, second))
