"""Find, check and fetch the model files named in `weights.toml`.

A weight is looked for in the directories of OPENLPM_MODELS, in the cache (OPENLPM_CACHE, default
`~/.cache/openlpm/models`), inside installed packages, and only then fetched into the cache. Whatever is
returned has the SHA-256 of the registry: a measurement can name the exact bytes that made it. Hashing costs
about 3 ms per MB, once per file and process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from annotators.models.weights_fetch import Downloads, FetchError
from annotators.models.weights_registry import (
    Installed,
    Weight,
    WeightFile,
    WeightsMismatch,
    WeightsNotFound,
    lookup,
    registry,
)
from schemas.files.model_files import cache_directory, model_directories

__all__ = [
    "Weight",
    "WeightFile",
    "WeightStatus",
    "WeightsMismatch",
    "WeightsNotFound",
    "cache_directory",
    "check",
    "fetch",
    "find",
    "here",
    "licence",
    "locate",
    "model_directories",
    "registry",
    "resolve",
    "sha256",
    "sha256_of_files",
]


@dataclass(frozen=True)
class WeightStatus:
    """Where a weight was found: `ok` with a path, `missing`, or `wrong` with the reason."""

    weight: Weight
    state: Literal["ok", "missing", "wrong"]
    path: Path | None
    detail: str


def resolve(name: str) -> Path:
    """Return the path of the weight called `name`, fetching it into the cache where needed.

    Raises KeyError for an unknown name, WeightsMismatch for a file with other bytes than the registry says,
    and WeightsNotFound with every place tried and how to provide the file by hand.
    """
    with Downloads() as downloads:
        return _resolve(lookup(name), downloads)


def find(name: str) -> Path | None:
    """Return the path of the weight called `name` if this machine has it, without using the network."""
    return _find(lookup(name))


def fetch(names: Iterable[str]) -> list[Path]:
    """Resolve several weights, downloading a package that holds more than one of them only once."""
    with Downloads() as downloads:
        return [_resolve(lookup(name), downloads) for name in names]


def check(names: Iterable[str] | None = None) -> list[WeightStatus]:
    """Say for each named weight (default: all) whether this machine has the right bytes; uses no network."""
    return [_status(lookup(name)) for name in (registry() if names is None else names)]


def licence(name: str) -> str | None:
    """Return a weight's licence: the registry's, ours for what ships with the project, None where it is not known."""
    if name in registry():
        return lookup(name).licence
    ours = {file.name for file in Path(__file__).parent.iterdir()}
    return "Apache-2.0" if name in ours else None


def sha256(name: str) -> str:
    """Return the SHA-256 of a weight, for fingerprints: the registry's, or that of a file of the user's own."""
    return lookup(name).sha256 if name in registry() else _digest(locate(name))


def sha256_of_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a directory, hidden ones left out, by its path inside it."""
    inside = {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
    shown = {n: f for n, f in inside.items() if not any(part.startswith(".") for part in n.parts)}
    return {name.as_posix(): _digest(file) for name, file in shown.items()}


def here(name: str) -> bool:
    """Say whether this machine has a weight, or a file of the user's own, without using the network."""
    if name in registry():
        return find(name) is not None
    try:
        return locate(name).is_file()
    except WeightsNotFound:
        return False


def locate(name: str, *, folders: bool = False) -> Path:
    """Return a model file that is not in the registry: by path, or by name in OPENLPM_MODELS, the cache, or here.

    With `folders` a directory of that name will do. Raises WeightsNotFound with the places that were tried.
    """
    places = [Path(name), *(d / name for d in (*model_directories(), cache_directory(), Path(__file__).parent))]
    for place in places:
        if place.is_file() or (folders and place.is_dir()):
            return place.absolute()
    raise WeightsNotFound(
        f"no model file {name!r}: looked for {', '.join(map(str, places))}. Put it into a directory of OPENLPM_MODELS"
    )


def _resolve(weight: Weight, downloads: Downloads) -> Path:
    found = _find(weight)
    if found is not None:
        return found
    home = cache_directory() / weight.name if weight.is_directory else cache_directory()
    for file in weight.files:
        if not (home / file.name).is_file():
            _obtain(weight, file, home / file.name, downloads)
    return home if weight.is_directory else home / weight.name


def _find(weight: Weight) -> Path | None:
    for root in [*model_directories(), cache_directory()]:
        home = root / weight.name if weight.is_directory else root
        if all((home / file.name).is_file() for file in weight.files):
            for file in weight.files:
                _verify(file, home / file.name)
            return home if weight.is_directory else home / weight.name
    if weight.is_directory:
        return None
    # Another version of the package may carry other bytes under the same name: not this weight, and no error.
    file = weight.files[0]
    return next((path for path in _installed(file) if _has_right_bytes(file, path)), None)


def _installed(file: WeightFile) -> Iterator[Path]:
    for place in file.places:
        if not isinstance(place, Installed):
            continue
        spec = importlib.util.find_spec(place.package)  # of a top-level package: runs none of its code
        for directory in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(directory) / place.member
            if path.is_file():
                yield path


def _obtain(weight: Weight, file: WeightFile, target: Path, downloads: Downloads) -> None:
    """Fetch one file to `target`, through a temporary name so that no reader ever sees half of it."""
    tried: list[str] = []
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as directory:
        partial = Path(directory) / file.name
        for place in file.places:
            if isinstance(place, Installed):
                copies = [path for path in _installed(file) if _has_right_bytes(file, path)]
                if not copies:
                    tried.append(f"{place}: not there, or another version")
                    continue
                shutil.copyfile(copies[0], partial)
            else:
                try:
                    downloads.write(place, partial, file.size)
                except FetchError as error:
                    tried.append(f"{place}: {error}")
                    continue
            _verify(file, partial, shown=f"{file.name} from {place}")
            partial.replace(target)
            return
    raise WeightsNotFound(_how_to_provide(weight, file, tried))


def _how_to_provide(weight: Weight, file: WeightFile, tried: list[str]) -> str:
    wanted = f"{weight.name}/{file.name}" if weight.is_directory else file.name
    directories = ", ".join(str(path) for path in model_directories()) or "(OPENLPM_MODELS is not set)"
    places = "; ".join(tried) or "the registry names no place to fetch it from"
    return (
        f"model file {wanted} ({weight.about}) was not found. Looked in {directories}, in the cache "
        f"{cache_directory()}, and tried: {places}. To provide it by hand, put the file with SHA-256 "
        f"{file.sha256} ({file.size} bytes) into a directory as {wanted} and name that directory in "
        "OPENLPM_MODELS."
    )


def _status(weight: Weight) -> WeightStatus:
    try:
        path = _find(weight)
    except WeightsMismatch as error:
        return WeightStatus(weight, "wrong", None, str(error))
    if path is None:
        places = "; ".join(str(place) for place in weight.files[0].places)
        return WeightStatus(weight, "missing", None, f"can come from {places}")
    return WeightStatus(weight, "ok", path, "")


def _verify(file: WeightFile, path: Path, shown: str | None = None) -> None:
    got = _digest(path)
    if got != file.sha256:
        raise WeightsMismatch(
            f"{shown or path} is not the file it should be: expected SHA-256 {file.sha256}, got {got}. "
            f"Delete it, or replace it by the right version of {file.name}."
        )


def _has_right_bytes(file: WeightFile, path: Path) -> bool:
    return path.stat().st_size == file.size and _digest(path) == file.sha256


def _digest(path: Path) -> str:
    facts = path.stat()
    return _digest_of(path, facts.st_size, facts.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file; size and time are part of the memory's key, so that a changed file is hashed anew."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
