"""The pictures of a source's clips: what lies near in time is decoded once, for all the clips that show it.

People who are seen at the same time have clips over the same frames, and a clip in the midst of a group of pictures
needs all that comes before it in the group. So clips whose times overlap or nearly meet are written side by side, each
by an encoder of its own, from one pass over the frames. What a clip shows does not depend on the others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from curation.media.encode import ClipEncoder, EncodedClip
from curation.media.frame import Frame
from curation.media.grid import OnGrid
from curation.media.video import iter_frames
from schemas.samples.sample import FPS
from schemas.time import Interval
from stages.clip_plan.crop_path import CropPath
from stages.packing.picture import Picture, cropped

_LEAD_S = 1.0
"""Frames from this long before a clip are looked at, so that a frame shown across its start is found."""

_GAP_S = 2.0
"""Clips that are no further apart are decoded in one pass: to seek costs half a group of pictures on average, and
those of video on the web last 2 to 10 s."""

_ROUNDING_S = 5e-4
"""Frames are stamped on the container's clock: half a millisecond guards against rounding at the cut."""


@dataclass(frozen=True, slots=True)
class Take:
    """The picture of one clip: `n_frames` at 25 Hz from `span.start_s` on, of one shot, cut along `path` to `size`."""

    name: str
    shot: Interval
    span: Interval
    n_frames: int
    path: CropPath
    size: tuple[int, int]
    """width, height of the encoded picture in pixels, even"""

    @property
    def reach(self) -> Interval:
        """The time whose frames are looked at: no frame of another shot."""
        first_s = max(self.shot.start_s, self.span.start_s - _LEAD_S) - _ROUNDING_S
        return Interval(first_s, max(first_s, min(self.shot.end_s, self.span.end_s + _LEAD_S) - _ROUNDING_S))


class ClipPictures:
    """Encodes takes of one source, group by group, when the first of a group is asked for; a context manager."""

    def __init__(self, media: Path, takes: Iterable[Take], encoder: Callable[[Path], ClipEncoder]) -> None:
        self._media, self._encoder = media, encoder
        self._groups = {take.name: group for group in groups(takes) for take in group}
        self._done: dict[str, EncodedClip | Exception] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="clips-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def take(self, name: str) -> tuple[bytes, EncodedClip]:
        """Return the MP4 of a take, once. Raises what reading or encoding it raised."""
        if name not in self._done:
            self._encode(self._groups[name])
        done = self._done.pop(name)
        if isinstance(done, Exception):
            raise done
        file = self._file(name)
        data = file.read_bytes()
        file.unlink()
        return data, done

    def _file(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.mp4"

    def _encode(self, group: Sequence[Take]) -> None:
        waiting = [_Writing(take, self._encoder(self._file(take.name))) for take in group]
        try:
            for frame in iter_frames(self._media, group[0].reach.start_s, max(t.reach.end_s for t in group)):
                for one in [w for w in waiting if w.is_over(frame)]:
                    waiting.remove(one)
                    self._try(one, one.finish)
                for one in [w for w in waiting if w.shows(frame)]:
                    if not self._try(one, partial(one.add, frame)):
                        waiting.remove(one)
                if not waiting:
                    break
            while waiting:
                one = waiting.pop()
                self._try(one, one.finish)
        except Exception as e:  # the file could not be read on: the fault of none of them, and told of each
            self._done |= dict.fromkeys((w.take.name for w in waiting), e)
        finally:
            for one in waiting:
                one.encoder.abandon()

    def _try(self, one: _Writing, work: Callable[[], EncodedClip | None]) -> bool:
        """Do a step of one take; what it raises is its own and kept for whoever asks for it. Return whether it went."""
        try:
            done = work()
        except Exception as e:
            one.encoder.abandon()
            self._done[one.take.name] = e
            return False
        if done is not None:
            self._done[one.take.name] = done
        return True


def groups(takes: Iterable[Take]) -> list[list[Take]]:
    """Return takes by their start, those in one list that are decoded in one pass."""
    out: list[list[Take]] = []
    end_s = -np.inf
    for take in sorted(takes, key=lambda t: (t.reach.start_s, t.name)):
        if take.reach.start_s > end_s + _GAP_S:
            out.append([])
        out[-1].append(take)
        end_s = max(end_s, take.reach.end_s)
    return out


class _Writing:
    """A take that is being written."""

    def __init__(self, take: Take, encoder: ClipEncoder) -> None:
        self.take, self.encoder = take, encoder
        self._reach = take.reach
        self._grid: OnGrid[Frame] = OnGrid(take.span.start_s, take.n_frames, FPS)
        self._last: tuple[float, Picture] | None = None

    def shows(self, frame: Frame) -> bool:
        """Say whether a frame lies in the time that is looked at."""
        return self._reach.start_s <= frame.pts_s < self._reach.end_s

    def is_over(self, frame: Frame) -> bool:
        """Say whether neither this frame nor a later one is needed."""
        return frame.pts_s >= self._reach.end_s or self._grid.done

    def add(self, frame: Frame) -> None:
        """Write the pictures that are settled by the next frame."""
        for chosen in self._grid.add(frame):
            self._write(chosen)

    def finish(self) -> EncodedClip:
        """Write what is left and complete the file."""
        if not self._grid.done:
            for chosen in self._grid.rest():
                self._write(chosen)
        return self.encoder.finish()

    def _write(self, frame: Frame) -> None:
        # The crop lies where it belongs when the frame was shown, so that a picture held twice does not move.
        if self._last is None or self._last[0] != frame.pts_s:
            box: Any = self.take.path.at(frame.pts_s - self.take.span.start_s)
            x, y, w, h = (float(v) for v in box)
            picture = cropped(frame.rgb(), (x, y, w, h), self.take.size, exact=self.take.path.moves)
            self._last = frame.pts_s, picture
        self.encoder.add(self._last[1])
