"""A user's pyannote pipeline as its config.yaml says it, with every model as a directory of this machine.

pyannote itself would fetch what a configuration names while it loads; here all is found first, so that each file's hash
can be recorded and nothing is fetched later. Reads YAML: costs milliseconds, imports nothing of pyannote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from annotators.models import hub
from annotators.models.weights_registry import WeightsNotFound

CONFIG = "config.yaml"
_CLASSES = ("SpeakerDiarization", "pyannote.audio.pipelines.SpeakerDiarization")
_MODELS = ("segmentation", "embedding", "plda")
_INSIDE = "$model/"
_WANTS_PLDA = "VBxClustering"


@dataclass(frozen=True)
class Configured:
    """The arguments of `SpeakerDiarization`, models as directories or files, and its hyper-parameters (None: its own).

    `folders` names every directory that is read, by the name before its files in the provenance.
    """

    arguments: Mapping[str, Any]
    parameters: Mapping[str, Any] | None
    folders: Mapping[str, Path]


def configured(name: str) -> Configured:
    """Return the pipeline of a directory, or of a name on the hub, fetched with a token where it is not here.

    Raises WeightsNotFound, which says what is missing or not understood.
    """
    folder = hub.gated(name)
    config = _read(folder / CONFIG)
    pipeline = config.get("pipeline")
    if not isinstance(pipeline, Mapping) or str(pipeline.get("name")).rpartition(".")[2] != _CLASSES[0]:
        raise WeightsNotFound(f"{folder / CONFIG} describes no pipeline of the class {_CLASSES[1]}: give one that does")
    arguments = dict(pipeline.get("params") or {})
    folders = {"pipeline": folder}
    for model in _MODELS:
        value = arguments.get(model)
        if value is None and (model != "plda" or arguments.get("clustering", _WANTS_PLDA) == _WANTS_PLDA):
            raise WeightsNotFound(f"{folder / CONFIG} names no {model}: add it to the pipeline's params")
        if value is None:
            continue
        if not isinstance(value, str):
            raise WeightsNotFound(f"{folder / CONFIG}: {model} must be {_INSIDE}FOLDER, a path, or a name on the hub")
        arguments[model] = place = _place(folder, value)
        if not place.is_relative_to(folder):
            folders[model] = place if place.is_dir() else place.parent
    for secret in ("token", "use_auth_token", "cache_dir"):
        arguments.pop(secret, None)
    return Configured(arguments, config.get("params"), folders)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsNotFound(f"{file} is missing: a pipeline's directory has one beside its models") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise WeightsNotFound(f"{file} cannot be read ({type(e).__name__}): write it again") from e
    if not isinstance(found, Mapping):
        raise WeightsNotFound(f"{file} holds no settings: a pipeline's has `pipeline:` and `params:`")
    return found


def _place(folder: Path, value: str) -> Path:
    """Return where a model lies that a configuration in `folder` names."""
    if value.startswith(_INSIDE):
        inside = (folder / value.removeprefix(_INSIDE).partition("@")[0]).absolute()
        if not inside.exists():
            raise WeightsNotFound(f"{inside} is missing, which {folder / CONFIG} names")
        return inside
    for path in (Path(value), folder / value):
        if path.exists():
            return path.absolute()
    return hub.gated(value)
