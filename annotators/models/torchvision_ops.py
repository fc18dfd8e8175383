"""Make torchvision importable beside a torch that its binaries were not built for, such as a torch without CUDA.

Its Python parts (image transforms) work without them; only the operators that it registers must have been declared.
"""

from __future__ import annotations

import importlib
import sys

_KEPT: list[object] = []  # torch forgets a library's operators with the library


def importable() -> None:
    """Import torchvision, its binary operators declared if they cannot be loaded; where it is absent, do nothing."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare()
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        importlib.import_module("torchvision")


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _KEPT.append(library)
