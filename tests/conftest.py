"""Shared fixtures: where the real footage is, and where model weights are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MEDIA = Path(os.environ.get("OPENLPM_TEST_MEDIA", ROOT.parent / "shared" / "media"))
_MODELS = ROOT.parent / "shared" / "models"

# A checkout that has a models directory beside it uses it, unless the user has named another one.
if "OPENLPM_MODELS" not in os.environ and _MODELS.is_dir():
    os.environ["OPENLPM_MODELS"] = str(_MODELS)


@pytest.fixture(scope="session")
def media() -> Path:
    """The directory of real footage with ground truth, or a skip that says how to provide it."""
    if not MEDIA.is_dir():
        pytest.skip(f"no footage at {MEDIA}: set OPENLPM_TEST_MEDIA to a directory of clips with truth files")
    return MEDIA
