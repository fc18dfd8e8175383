"""Batches that shrink where memory does not suffice: half as many at once, and on it goes, down to one.

How much fits on a GPU depends on what else is on it, so no setting can be right everywhere. Whoever halves says so: a
warning that the run prints and keeps with its costs (`runs/<run_id>/steps/`). Costs nothing where memory suffices.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)

# torch has a type for it on a GPU alone; its CPU, onnxruntime, cuBLAS, cuDNN and CTranslate2 say it in words.
_WORDS = ("out of memory", "allocate memory", "bad_alloc", "alloc_failed")


class OutOfMemoryError(RuntimeError):
    """One item alone does not fit into memory; the message says what to do."""


def in_batches(items: Sequence[T], batch: int, run: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
    """Return what `run` returns for all items, in their order, at most `batch` (>= 1) of them at once.

    Where memory does not suffice, what is left goes on in batches of half the size. `run` must give one result an item
    and have no other effect; a batch of another size may change the last bits. Raises OutOfMemoryError where one item
    alone does not fit, and ValueError where `run` returns another number of results than it got items.
    """
    done: list[R] = []
    while len(done) < len(items):
        some = items[len(done) : len(done) + batch]
        if (made := _tried(run, some)) is not None:
            if len(made) != len(some):
                raise ValueError(f"{len(some)} items went in and {len(made)} results came back")
            done += made
            continue
        _give_back()
        if len(some) == 1:
            raise OutOfMemoryError(
                "out of memory with a single item; give the stage more memory (resources of the workflow: a larger "
                "share of the GPU), choose a smaller model, or run it on the CPU"
            )
        batch = len(some) // 2
        _log.warning("out of memory with %d at once; going on with %d", len(some), batch)
    return done


def _tried(run: Callable[[Sequence[T]], Sequence[R]], some: Sequence[T]) -> Sequence[R] | None:
    """Return the results, or None where memory did not suffice; the error, which holds on to memory, is gone then."""
    try:
        return run(some)
    except Exception as e:
        if not out_of_memory(e):
            raise
        return None


def out_of_memory(e: BaseException) -> bool:
    """Say whether an error means that there was too little memory, on the GPU or off it."""
    if isinstance(e, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(e, torch.OutOfMemoryError):
        return True
    of_a_runtime = isinstance(e, RuntimeError) or type(e).__module__.startswith("onnxruntime")
    return of_a_runtime and any(word in str(e).lower() for word in _WORDS)


def _give_back() -> None:
    """Let torch return what it keeps for later, so that another runtime, or a smaller batch, finds it in one piece."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
