"""Read media in a process beside this one, for what a command, a page or a report shows, with one error for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from av.error import FFmpegError

from curation.media.errors import MediaError
from curation.pythons.apart import apart
from curation.pythons.limits import Limits
from curation.pythons.worker import WorkerDiedError

P = ParamSpec("P")
R = TypeVar("R")

A_FILE = Limits(seconds=600.0, bytes=4 << 30)
"""What one look may take: a minute of 4K that is encoded anew takes minutes, a frame of 8K a gigabyte or two."""


class ReaderEndedError(MediaError):
    """A file that ended the process that read it, held it or took its memory; the message says which."""

    def __init__(self, how: str) -> None:
        super().__init__("decode_failed", f"the process that read it {how}")


def media_apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that reads media in a process of its own; it is of a module, and all arguments can be pickled.

    Raises:
        ReaderEndedError: the process did not come to an end of it.
        MediaError: as the function does.
        OSError: as the function does.
    """
    assert not kwargs, "arguments go by their order"
    try:
        found: R = apart(A_FILE, _called, function, args)
    except WorkerDiedError as e:
        raise ReaderEndedError(e.how) from e
    return found


def _called(function: Callable[..., R], args: tuple[object, ...]) -> R:
    try:
        return function(*args)
    except FFmpegError as e:  # some of these cannot be sent to another process
        raise MediaError("decode_failed", str(e)) from None
