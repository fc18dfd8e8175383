"""How MediaPipe tasks are opened here: silent, and without reporting to their maker.

The tasks library sends usage metrics over HTTPS from a background thread and offers no switch for it. It takes the
path of the certificate bundle as an option, though: with an empty bundle no connection can be trusted, so nothing is
ever sent. (Seen against a local server: with the default bundle each task posts about 200 bytes when created; with
the empty one the TLS handshake fails.) The library also writes some fifty lines to the C-level standard error while a
model loads, whatever the logging variables say; they are held back unless loading fails. It is imported with the first
model, since it takes more than a second (it imports Matplotlib, to draw), and most processes that know of a model never
open it.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  (must register its hook before the one below)
import functools
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from annotators.protocols import Image

_stderr_lock = threading.RLock()


def vision() -> Any:
    """Return MediaPipe's module of vision tasks."""
    from mediapipe.tasks.python import vision

    return vision


@functools.cache
def _local() -> Any:
    from mediapipe.tasks.python import BaseOptions

    class LocalOptions(BaseOptions):  # type: ignore[misc]  # the library is untyped
        """Task options whose network client trusts no server, so that no metrics leave the machine."""

        def to_ctypes(self) -> Any:
            """Return the C structure with an empty certificate bundle."""
            options = super().to_ctypes()
            options.ca_bundle_path = os.devnull.encode()
            return options

    return LocalOptions


def local_options(model: Path) -> Any:
    """Return task options for a model file, on the CPU, without usage metrics."""
    return _local()(model_asset_path=str(model))


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what native code writes to file descriptor 2; an exception gets it as a note.

    The descriptor belongs to the whole process, so keep the block short: loading or closing a model.
    """
    with _stderr_lock, tempfile.TemporaryFile() as sink:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except Exception as error:
            sink.seek(0)
            error.add_note(sink.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


class Task:
    """A MediaPipe vision task that closes once, silently, and is a context manager."""

    def __init__(self, task: Any) -> None:
        self.task: Any | None = task
        _open_tasks.add(self)

    def detect(self, rgb: Image) -> Any:
        """Return what the task finds in a picture. Raises RuntimeError when closed, ValueError for no RGB picture."""
        import mediapipe as mp

        if self.task is None:
            raise RuntimeError("this model is closed: make a new one")
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise ValueError(f"expected an RGB image uint8 [height, width, 3], got {rgb.dtype} {rgb.shape}")
        return self.task.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(rgb)))

    def close(self) -> None:
        """Release the model."""
        task, self.task = self.task, None
        if task is not None:
            with quiet_stderr():
                task.close()


_open_tasks: weakref.WeakSet[Task] = weakref.WeakSet()


def _close_all() -> None:
    for task in list(_open_tasks):
        task.close()


# MediaPipe closes a task through a thread pool, which is gone by the time destructors or atexit handlers run; this
# hook, the one thread pools themselves use, runs just before.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
