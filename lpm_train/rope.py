"""Rotary position embedding over (time, row, column) as a pure function of positions.

There is no table indexed by a grid: references sit at negative times, a rolling window is re-indexed when it is read,
and neither needs a special case. Angles are kept in float32 or wider; half precision would blur late positions.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def positions(times_F: Tensor, height: int, width: int) -> Tensor:
    """Lay out the tokens of frames at the given times, row by row: [F] -> [F*height*width, 3] of (t, y, x)."""
    y = torch.arange(height, dtype=times_F.dtype, device=times_F.device)
    x = torch.arange(width, dtype=times_F.dtype, device=times_F.device)
    grid = torch.meshgrid(times_F, y, x, indexing="ij")
    return torch.stack(grid, dim=-1).reshape(-1, 3)


def angles(positions_L3: Tensor, head_width: int, theta: float) -> Tensor:
    """Rotate each channel pair by position / theta**(i/n): [L, 3] -> angles [L, E/2].

    Of E/2 pairs a third (rounded down) turns with each space axis, the rest with time (Wan 2.1's split).
    """
    if head_width % 2 or head_width < 6:
        raise ValueError(
            f"heads of {head_width} channels cannot be split over three axes: use an even number from 6 on"
        )
    space = head_width // 2 // 3
    parts = []
    for axis, pairs in enumerate((head_width // 2 - 2 * space, space, space)):
        exponent = torch.arange(pairs, dtype=positions_L3.dtype, device=positions_L3.device) / pairs
        parts.append(positions_L3[:, axis, None] * theta**-exponent)
    return torch.cat(parts, dim=-1)


@lru_cache(maxsize=64)
def frame_rotation(
    start: int, stop: int, height: int, width: int, head_width: int, theta: float, device: torch.device, wide: bool
) -> tuple[Tensor, Tensor]:
    """Return (cos, sin) [(stop-start)*height*width, E/2] for frames at times start, ..., stop-1; float64 if `wide`."""
    times = torch.arange(start, stop, dtype=torch.float64, device=device)
    angle = angles(positions(times, height, width), head_width, theta)
    dtype = torch.float64 if wide else torch.float32
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x_BNLE: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys [B, N, L, E] by (cos, sin) [L, E/2]; pairs are (i, i + E/2)."""
    cos, sin = rotation
    a, b = x_BNLE.to(torch.promote_types(x_BNLE.dtype, cos.dtype)).chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x_BNLE.dtype)
