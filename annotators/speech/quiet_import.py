"""pyannote and whisperx imported quietly: no usage reports, no log on standard output, nothing fetched.

Costs the import: seconds.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import warnings
from types import ModuleType

from annotators.models import torchvision_ops
from annotators.optional_parts import of_the_full_set


def imported(module: str) -> ModuleType:
    """Import a module that imports pyannote, which reports its use to its makers unless it is told not to.

    Raises ImportError, and OSError for a library of torchaudio that wants CUDA.
    """
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"  # read at each use
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it tells that a checkpoint was read
    log = logging.getLogger("whisperx")
    if not log.handlers:  # it would else write to standard output from the first message on
        log.addHandler(logging.NullHandler())
    torchvision_ops.importable()
    with warnings.catch_warnings():
        # It warns that it cannot decode files without torchcodec; it is given decoded sound alone.
        warnings.filterwarnings("ignore", r"\s*torchcodec is not installed correctly", UserWarning)
        return importlib.import_module(module)


def version(asked: str, instead: str) -> dict[str, str]:
    """Return whisperx's version by its name, without importing it. Raises PartNotInstalledError."""
    try:
        return {"whisperx": importlib.metadata.version("whisperx")}
    except importlib.metadata.PackageNotFoundError as e:
        raise of_the_full_set(asked, "whisperx", instead) from e


def whisperx(asked: str, instead: str) -> ModuleType:
    """Import what is used of whisperx. Raises PartNotInstalledError where it, or what it needs, is missing."""
    try:
        return imported("annotators.words.whisperx_parts")
    except (ImportError, OSError) as e:
        raise of_the_full_set(asked, "whisperx", instead, e) from e
