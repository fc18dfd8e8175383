"""Make frames of fields, where the decoder says that a picture was recorded as two.

FFmpeg's `bwdif` (Weston's filter of three fields with edge-directed interpolation) fills the second field from its
neighbours in space and time. It gives one picture a frame, so times and numbers stay those of the decoder. A stream
never flagged as interlaced does not pass through it. Costs about 2 ms a 720x576 frame on one core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import av
from av.filter import Graph

_FILTER = "bwdif" if "bwdif" in av.filter.filters_available else "yadif"
_OPTIONS = "mode=send_frame:parity=auto:deint=interlaced"

_MIN_SIDE_PX = 16
"""Smaller pictures are left as they are: the filter wants at least three lines in every plane."""


def deinterlaced(frames: Iterator[Any], sought: bool) -> Iterator[tuple[Any, Any]]:
    """Yield every decoded frame with its picture: itself where it is progressive, deinterlaced otherwise.

    The filter looks at the frame before. After a seek the first frame has none, so it is not given if it is interlaced:
    a picture must not depend on where reading began.

    Args:
        frames: a decoder's frames in order of presentation.
        sought: whether they begin elsewhere than at the file's start.
    """
    fields: _Fields | None = None
    before: Any | None = None
    for n, raw in enumerate(frames):
        if fields is None and (n == 0 and sought and _is_interlaced(raw)):
            before = raw
            continue
        if fields is None and not _is_interlaced(raw):
            before = raw
            yield raw, raw
            continue
        if fields is None:
            fields = _Fields(raw, before)
        elif not fields.fits(raw):
            yield from fields.give(None)
            fields = _Fields(raw, None)
        before = None
        yield from fields.give(raw)
    if fields is not None:
        yield from fields.give(None)


def _is_interlaced(raw: Any) -> bool:
    return bool(raw.interlaced_frame) and min(raw.width, raw.height) >= _MIN_SIDE_PX


def _form(raw: Any) -> tuple[int, int, str]:
    return raw.width, raw.height, raw.format.name


class _Fields:
    """The filter at work on pictures of one size and format; holds two frames back, as the filter does."""

    def __init__(self, first: Any, before: Any | None) -> None:
        """Set up for frames like `first`; `before` is the frame shown before it, if there is one."""
        self._form = _form(first)
        self._waiting: deque[Any] = deque()
        self._n_known = 0
        self._graph = Graph()
        self._graph.threads = 1
        ends = (
            self._graph.add_buffer(width=first.width, height=first.height, format=first.format,
                                   time_base=first.time_base),
            self._graph.add(_FILTER, _OPTIONS),
            self._graph.add("buffersink"),
        )  # fmt: skip
        self._graph.link_nodes(*ends).configure()
        if before is not None and self.fits(before):
            self._n_known = 1
            self._push(before)

    def fits(self, raw: Any) -> bool:
        """Say whether a frame has the size and format that the filter was set up for."""
        return _form(raw) == self._form

    def give(self, raw: Any | None) -> Iterator[tuple[Any, Any]]:
        """Put in a frame, or None at the end, and yield what is ready: the filter gives one for each, in order."""
        self._push(raw)
        while True:
            try:
                picture = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            source = self._waiting.popleft()
            if self._n_known:  # it was given before the filter was needed
                self._n_known -= 1
                continue
            yield source, picture if source.interlaced_frame else source

    def _push(self, raw: Any | None) -> None:
        if raw is not None:
            self._waiting.append(raw)
        self._graph.vpush(raw)
