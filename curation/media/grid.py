"""Choose source frames for an even grid of output times: the nearest frame, the first and last held at the ends.

Used wherever frames of any timing become 25 Hz rows or a constant-rate clip. Inside the source the error is at most
half the interval between its frames. Ties go to the earlier frame. Pure; costs a binary search a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

_TIE_S = 1e-9
"""Two distances this close are a tie: far below any container's clock tick, above float64 rounding of times."""


class Timed(Protocol):
    """Anything with a presentation time."""

    @property
    def pts_s(self) -> float:
        """Seconds on the source's clock."""


FrameT = TypeVar("FrameT", bound=Timed)


def frames_on_grid(frames: Iterable[FrameT], t0_s: float, n: int, fps: float) -> Iterator[FrameT]:
    """Yield the nearest frame for each of n grid times, from frames in order of time; holds two at a time.

    Of two that are equally near, the earlier one. Give frames from a little before `t0_s` to a little after
    the last grid time (one frame interval), or the ends are held.

    Raises:
        ValueError: there is no frame, or `fps` is not positive.
    """
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    source = iter(frames)
    current = next(source, None)
    if current is None:
        raise ValueError("no frame to choose from")
    following = next(source, None)
    for i in range(n):
        t_s = t0_s + i / fps
        while following is not None and following.pts_s < t_s:
            current, following = following, next(source, None)
        early = following is None or t_s - current.pts_s <= following.pts_s - t_s + _TIE_S
        yield current if early or following is None else following
