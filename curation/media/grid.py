"""Choose source frames for an even grid of output times: the nearest frame, the first and last held at the ends.

Used wherever frames of any timing become 25 Hz rows or a constant-rate clip. Inside the source the error is at most
half the interval between its frames. Ties go to the earlier frame. Pure; microseconds a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

_TIE_S = 1e-9
"""Two distances this close are a tie: far below any container's clock tick, above float64 rounding of times."""


class Timed(Protocol):
    """Anything with a presentation time."""

    @property
    def pts_s(self) -> float:
        """Seconds on the source's clock."""


FrameT = TypeVar("FrameT", bound=Timed)


class OnGrid(Generic[FrameT]):
    """Chooses the nearest frame for each of n grid times from frames that are handed to it in order of time.

    Of two that are equally near, the earlier one. Holds one frame. Where frames do not reach from a little before
    `t0_s` to a little after the last grid time (one frame interval), the ends are held.
    """

    def __init__(self, t0_s: float, n: int, fps: float) -> None:
        """Raises ValueError where `fps` is not positive."""
        if fps <= 0:
            raise ValueError(f"fps must be positive, got {fps}")
        self._t0_s, self._n, self._fps = t0_s, n, fps
        self._held: FrameT | None = None
        self._i = 0

    @property
    def done(self) -> bool:
        """Whether all grid times have their frame."""
        return self._i >= self._n

    def add(self, frame: FrameT) -> list[FrameT]:
        """Take the next frame; return those of the grid times that it settles, in order."""
        held, self._held, out = self._held, frame, []
        while held is not None and not self.done and (t_s := self._t0_s + self._i / self._fps) <= frame.pts_s:
            out.append(held if t_s - held.pts_s <= frame.pts_s - t_s + _TIE_S else frame)
            self._i += 1
        return out

    def rest(self) -> list[FrameT]:
        """Return the last frame for every grid time that is left. Raises ValueError where there was no frame."""
        if self._held is None:
            raise ValueError("no frame to choose from")
        left, self._i = self._n - self._i, self._n
        return [self._held] * left


def frames_on_grid(frames: Iterable[FrameT], t0_s: float, n: int, fps: float) -> Iterator[FrameT]:
    """Yield the nearest frame for each of n grid times, from frames in order of time, as `OnGrid` chooses.

    Raises:
        ValueError: there is no frame, or `fps` is not positive.
    """
    grid: OnGrid[FrameT] = OnGrid(t0_s, n, fps)
    for frame in frames:
        yield from grid.add(frame)
        if grid.done:
            return
    yield from grid.rest()
