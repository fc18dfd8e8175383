"""Directories of models that are not in the registry: by path, by name in OPENLPM_MODELS, or from Hugging Face's hub.

The network is used by `gated` alone, for a repository that the user names, with a token that the environment holds
and that is never shown.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from annotators.models import weights
from annotators.models.weights_registry import WeightsNotFound

TOKEN = "HF_TOKEN"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def directory(name: str) -> Path:
    """Return the directory of a model: a path, a name in OPENLPM_MODELS, or a hub's name that its cache here holds.

    Uses no network. Raises WeightsNotFound with what to do.
    """
    try:
        found = weights.locate(name, folders=True)
    except WeightsNotFound as missing:
        cached = _cached(name)
        if cached is None:
            raise WeightsNotFound(
                f"no model directory {name!r}: give the path of one, or put it into a directory of OPENLPM_MODELS; "
                "a name on the hub is taken from its cache on this machine alone (`hf download NAME` fills it)"
            ) from missing
        return cached
    if not found.is_dir():
        raise WeightsNotFound(f"{found} is no directory: give that of the model with all its files")
    return found


def gated(name: str) -> Path:
    """Return the directory of a model, fetched from the hub into its cache with the token of HF_TOKEN where needed.

    Raises WeightsNotFound, which says in a sentence why it cannot be had.
    """
    try:
        return directory(name)
    except WeightsNotFound:
        if not _REPOSITORY.fullmatch(name):
            raise
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise WeightsNotFound(
            f"{name} is not on this machine, and a gated model of the hub is fetched with a token: set {TOKEN}, or "
            "give the path of its directory"
        )
    return _fetched(name, token)


def _cached(name: str) -> Path | None:
    if not _REPOSITORY.fullmatch(name):
        return None
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, IncompleteSnapshotError, HFValidationError):
        return None


def _fetched(name: str, token: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(huggingface_hub.snapshot_download(name, token=token))
    except HfHubHTTPError as e:
        status = getattr(e.response, "status_code", None)
        why = f"the hub answered {status}: accept the model's conditions on its page, and check the token of {TOKEN}"
    except Exception as e:  # of several network libraries, whose messages may show what was sent
        why = f"the hub cannot be reached ({type(e).__name__}); give the path of the model's directory, or try again"
    raise WeightsNotFound(f"{name} cannot be fetched: {why}")
