"""Parts: the back-ends that a stage is made of, declared in its settings by protocol and default.

    vad: Part[VoiceActivity] = part({"silero": "annotators.speech.vad:SileroVoiceActivity"}, "speech or not")

A workflow chooses another by `vad: {use: "my_vad:MyVad", threshold: 0.4}`, or by the short name of a shipped one. Any
class that fulfils the protocol will do; its settings are its constructor's arguments. What stands in fingerprints and
beside every sample (`provenance`) follows from the class: name, settings, weights' hashes, code. No model is loaded for
that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from annotators.models import weights
from annotators.optional_parts import PartNotInstalledError
from schemas.settings import parts
from schemas.settings.parts import AUTO, Absent, Shipped
from schemas.settings.use import Shared, UseError, arguments, code_sha256, load, owner

T = TypeVar("T", covariant=True)


@dataclass(frozen=True)
class Made:
    """What a back-end with certain settings is: its name, the weights it reads, and versions of libraries."""

    name: str
    weights: tuple[str, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    """directories of models, by the name before that of each file whose hash is recorded"""
    private: tuple[str, ...] = ()
    """settings that do not stand beside samples, such as an address"""
    licence: str | None = None
    """of weights that are not in the registry, where the settings do not say it; None = unknown"""
    served: tuple[str, ...] = ()
    """models that it asks somewhere else, whose licence nobody here knows"""


@dataclass(frozen=True)
class Declared(parts.Declared):
    """A declaration whose choices have weights."""

    fetch: bool = False

    def choose(self, protocol: Any, choice: str, given: Mapping[str, Any]) -> Part[Any]:
        """Return the part that is chosen. Raises UseError where it, or a setting, cannot be used."""
        return Part(self, protocol, choice, given)


def part(
    shipped: Mapping[str, Shipped], about: str, *, auto: tuple[str, ...] = (), fetch: bool = False,
    offers: tuple[str, ...] = (), required: bool = False, shared: str = "", by_default: str = "",
) -> Any:  # fmt: skip
    """Declare a part of a stage as a field of its settings, annotated `Part[Protocol]` (or `Part[Protocol | None]`).

    Args:
        shipped: back-ends by short name; the first one is the default where there is no `auto`.
        about: what it does, for the list of settings.
        auto: short names that the choice "auto" tries in order: the first whose weights are here is at work. It is
            the default where there is no `by_default`.
        fetch: whether "auto" may fetch weights that are not here.
        offers: arguments that the stage gives to a constructor that takes them, as `Part.build` gets them.
        shared: name of the setting in the workflow's block `shared`, where other stages have the same one.
        by_default: the short name that is chosen where none is given; "" = as said above.
        required: there is no default, since every back-end needs settings.
    """
    default = None if required else by_default or (AUTO if auto else next(iter(shipped)))
    text = f"{about} ({', '.join([*([AUTO] if auto else []), *shipped])}, or `use:`)"
    out = Field(description=text) if required else Field(default=default, validate_default=True, description=text)
    out.metadata += [Declared(shipped, auto, offers, default, fetch), *([Shared(shared)] if shared else [])]
    return out


class Part(parts.Part[T]):
    """A back-end that was chosen, with its settings; `build` makes it."""

    _declared: Declared

    def __init__(self, declared: Declared, protocol: Any, choice: str, given: Mapping[str, Any]) -> None:
        """Check the choice; `licence` among its settings is what the user says of weights that are not registered.

        Raises UseError where it, or a setting, cannot be used.
        """
        self.licence = given.get("licence")
        super().__init__(declared, protocol, choice, {k: v for k, v in given.items() if k != "licence"})
        if self.licence is not None and (choice == AUTO or not isinstance(self.licence, str)):
            raise UseError("licence is the name of a licence, and belongs to a back-end that `use:` names")

    @property
    def written(self) -> str | dict[str, Any]:
        """The choice as a workflow writes it."""
        if self.licence is None:
            return super().written
        return {"use": self.choice, **self.given, "licence": self.licence}

    def licences(self) -> dict[str, str | None]:
        """Return the licence of each model at work, None where it is not known.

        It is the registry's, else what the settings say, else what the back-end says. Raises as `provenance` does.
        """
        if not self.at_work:
            return {}
        made = made_of(*self._builder(self.settled))
        own = self.licence or made.licence
        named = {_base(n): weights.licence(n) or own for n in made.weights}
        return named | dict.fromkeys((*made.folders, *made.served), own)

    def others(self) -> Iterator[Part[T]]:
        """Yield the other shipped choices that a short name alone makes, in order."""
        for name, shipped in self._declared.shipped.items():
            if name != self.settled and _complete(shipped):
                yield Part(self._declared, self._protocol, name, {})

    def provenance(self, label: str) -> dict[str, str]:
        """Return what determines its numbers: `label` -> its name, and hashes, versions and settings.

        Raises WeightsNotFound for a file that is nowhere, PartNotInstalledError for a library that is missing.
        """
        absent = self._declared.shipped.get(self.settled)
        if isinstance(absent, Absent):
            return {label: absent.name}
        builder, given = self._builder(self.settled)
        made = made_of(builder, given)
        out = {label: made.name, **{_base(n): weights.sha256(n) for n in made.weights}, **made.libraries}
        for name, folder in made.folders.items():
            out |= {f"{name}/{file}": digest for file, digest in weights.sha256_of_files(folder).items()}
        code = code_sha256(owner(builder).__module__)
        if code is not None:
            out[f"{label}.code"] = code
        shown = {k: v for k, v in self.given.items() if k not in made.private}
        if shown:
            out[f"{label}.settings"] = json.dumps(shown, sort_keys=True, default=str)
        return out

    def _at_hand(self, choice: str) -> bool:
        if isinstance(self._declared.shipped[choice], Absent):
            return True
        try:
            wanted = made_of(*self._builder(choice)).weights
            if self._declared.fetch:
                weights.fetch(wanted)
        except (weights.WeightsNotFound, PartNotInstalledError):
            return False
        return all(weights.here(name) for name in wanted)


def made_of(builder: Callable[..., Any], given: Mapping[str, Any]) -> Made:
    """Return what a back-end with these settings is made of, without building it.

    It says so itself: by the attributes `name` and `weights` of its class, or, where settings decide, by a class method
    `made_of` that takes its constructor's arguments.
    """
    cls = owner(builder)
    if hasattr(cls, "made_of"):
        made: Made = cls.made_of(**given)
        return made
    files = [str(v) for v in given.values() if isinstance(v, Path) or (isinstance(v, str) and Path(v).is_file())]
    named = (*getattr(cls, "weights", ()), *files)
    return Made(getattr(cls, "name", cls.__name__), named, licence=getattr(cls, "licence", None))


def _complete(shipped: Shipped) -> bool:
    if isinstance(shipped, Absent):
        return True
    given = {"use": shipped} if isinstance(shipped, str) else dict(shipped)
    takes = arguments(load(given.pop("use")))
    return all(p.default is not p.empty or n in given for n, p in takes.items())


def _base(name: str) -> str:
    return Path(name).name
