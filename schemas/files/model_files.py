"""Where model files are looked for: the directories of OPENLPM_MODELS, then the cache (OPENLPM_CACHE)."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return the directory fetched weights are kept in."""
    named = os.environ.get("OPENLPM_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "openlpm" / "models"


def cache_folder(name: str) -> Path:
    """Return a folder for what is kept beside fetched weights: of OPENLPM_CACHE, or of `~/.cache/openlpm`."""
    named = os.environ.get("OPENLPM_CACHE")
    return (cache_directory() if named else cache_directory().parent) / name


def model_directories() -> list[Path]:
    """Return the directories of OPENLPM_MODELS, in order."""
    return [Path(part) for part in os.environ.get("OPENLPM_MODELS", "").split(os.pathsep) if part]
