"""Parts: the back-ends that a stage is made of, declared in its settings by protocol and default.

    vad: Part[VoiceActivity] = part({"silero": "annotators.speech.vad:SileroVoiceActivity"}, "speech or not")

A workflow chooses another by `vad: {use: "my_vad:MyVad", threshold: 0.4}`, or by the short name of a shipped one. Any
class that fulfils the protocol will do; its settings are its constructor's arguments. What stands in fingerprints and
beside every sample (`identity`) follows from the class: name, settings, weights' hashes, code. No model is loaded for
that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from pydantic import Field
from pydantic_core import core_schema

from annotators.models import weights
from schemas.use import Shared, UseError, arguments, checked, code_sha256, load, near, owner

T = TypeVar("T", covariant=True)
AUTO = "auto"


@dataclass(frozen=True)
class Absent:
    """Nothing at work, under the name that says what is then not measured."""

    name: str


Shipped = str | Mapping[str, Any] | Absent
"""`module:Class`, or `{use: module:Class, setting: value}`, or nothing."""


@dataclass(frozen=True)
class Made:
    """What a back-end with certain settings is: its name, the weights it reads, and versions of libraries."""

    name: str
    weights: tuple[str, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    private: tuple[str, ...] = ()
    """settings that do not stand beside samples, such as an address"""


@dataclass(frozen=True)
class Declared:
    """A declaration: what is shipped by short names, and what "auto" tries, in order."""

    shipped: Mapping[str, Shipped]
    auto: tuple[str, ...] = ()
    fetch: bool = False
    offers: tuple[str, ...] = ()
    default: str | None = None

    def settings(self) -> list[str]:
        """Return the names of the settings of all shipped back-ends."""
        uses = [s if isinstance(s, str) else s["use"] for s in self.shipped.values() if not isinstance(s, Absent)]
        return list(dict.fromkeys(name for use in uses for name in arguments(load(use))))

    def __get_pydantic_core_schema__(self, source: Any, _handler: Any) -> core_schema.CoreSchema:
        """Let pydantic read a field declared with `part`."""
        protocol = next((a for a in _options(source) if a is not type(None)), object)
        return core_schema.no_info_plain_validator_function(
            lambda value: _read(self, protocol, value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda p: p.written),
        )


def _options(source: Any) -> tuple[Any, ...]:
    inner = get_args(source)[0] if get_args(source) else object
    return get_args(inner) or (inner,)


def part(
    shipped: Mapping[str, Shipped], about: str, *, auto: tuple[str, ...] = (), fetch: bool = False,
    offers: tuple[str, ...] = (), required: bool = False, shared: str = "",
) -> Any:  # fmt: skip
    """Declare a part of a stage as a field of its settings, annotated `Part[Protocol]` (or `Part[Protocol | None]`).

    Args:
        shipped: back-ends by short name; the first one is the default where there is no `auto`.
        about: what it does, for the list of settings.
        auto: short names that the default choice "auto" tries in order: the first whose weights are here is at work.
        fetch: whether "auto" may fetch weights that are not here.
        offers: arguments that the stage gives to a constructor that takes them, as `Part.build` gets them.
        shared: name of the setting in the workflow's block `shared`, where other stages have the same one.
        required: there is no default, since every back-end needs settings.
    """
    default = None if required else AUTO if auto else next(iter(shipped))
    text = f"{about} ({', '.join([*([AUTO] if auto else []), *shipped])}, or `use:`)"
    out = Field(description=text) if required else Field(default=default, validate_default=True, description=text)
    out.metadata += [Declared(shipped, auto, fetch, offers, default), *([Shared(shared)] if shared else [])]
    return out


class Part(Generic[T]):
    """A back-end that was chosen, with its settings; `build` makes it."""

    def __init__(self, declared: Declared, protocol: Any, choice: str, given: Mapping[str, Any]) -> None:
        """Check the choice. Raises UseError where it, or a setting, cannot be used."""
        self._declared, self._protocol, self.choice, self.given = declared, protocol, choice, dict(given)
        if choice != AUTO and choice not in declared.shipped and ":" not in choice:
            raise UseError(f"no back-end {choice!r}; {near(choice, declared.shipped)} or name one as module:Class")
        if choice == AUTO and given:
            raise UseError(f"settings {sorted(given)} belong to one back-end; name it by use: instead of {AUTO!r}")
        if isinstance(declared.shipped.get(choice), Absent) and given:
            raise UseError(f"{choice!r} has no settings, so {sorted(given)} would be unused")
        if (choice not in (AUTO, declared.default) and self.at_work) or given:
            self._conforms(self._builder(choice)[0])
            checked(*self._builder(choice), declared.offers)

    @property
    def written(self) -> str | dict[str, Any]:
        """The choice as a workflow writes it."""
        return {"use": self.choice, **self.given} if self.given else self.choice

    @property
    def at_work(self) -> bool:
        """Whether there is a back-end at all."""
        return not isinstance(self._declared.shipped.get(self.settled), Absent)

    @property
    def settled(self) -> str:
        """The choice with "auto" settled by what is here; loads nothing."""
        if self.choice != AUTO:
            return self.choice
        return next((n for n in self._declared.auto[:-1] if self._at_hand(n)), self._declared.auto[-1])

    def build(self, **offered: Any) -> T:
        """Build the back-end, with those of `offered` that it takes and its settings leave open; None where absent."""
        if not self.at_work:
            return None  # type: ignore[return-value]  # T then holds None
        builder, given = self._builder(self.settled)
        takes = arguments(builder)
        extra = {k: v for k, v in offered.items() if k in takes and k not in given}
        made: T = builder(**extra, **checked(builder, given, tuple(offered)))
        return made

    def identity(self, label: str) -> dict[str, str]:
        """Return what determines its numbers: `label` -> its name, and hashes, versions and settings.

        Raises WeightsNotFound for a file that is nowhere, PartNotInstalledError for a library that is missing.
        """
        absent = self._declared.shipped.get(self.settled)
        if isinstance(absent, Absent):
            return {label: absent.name}
        builder, given = self._builder(self.settled)
        made = made_of(builder, given)
        out = {label: made.name, **{_base(n): weights.sha256(n) for n in made.weights}, **made.libraries}
        code = code_sha256(owner(builder).__module__)
        if code is not None:
            out[f"{label}.code"] = code
        shown = {k: v for k, v in self.given.items() if k not in made.private}
        if shown:
            out[f"{label}.settings"] = json.dumps(shown, sort_keys=True, default=str)
        return out

    def _builder(self, choice: str) -> tuple[Callable[..., Any], dict[str, Any]]:
        shipped = self._declared.shipped.get(choice, choice)
        assert not isinstance(shipped, Absent)
        named = {"use": shipped} if isinstance(shipped, str) else dict(shipped)
        return load(named.pop("use")), {**named, **self.given}

    def _at_hand(self, choice: str) -> bool:
        if isinstance(self._declared.shipped[choice], Absent):
            return True
        wanted = made_of(*self._builder(choice)).weights
        if not self._declared.fetch:
            return all(weights.here(name) for name in wanted)
        try:
            weights.fetch(wanted)
        except weights.WeightsNotFound:
            return False
        return True

    def _conforms(self, builder: Callable[..., Any]) -> None:
        made = owner(builder)
        lacks = [n for n in members(self._protocol) if not hasattr(made, n) and n not in _assigned(made)]
        if lacks:
            raise UseError(f"{made.__module__}:{made.__name__} is no {self._protocol.__name__}: it lacks {lacks[0]}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self.written == other.written

    def __hash__(self) -> int:
        return hash(json.dumps(self.written, sort_keys=True, default=str))

    def __repr__(self) -> str:
        return f"Part({self.written!r})"


def _read(declared: Declared, protocol: Any, value: Any) -> Part[Any]:
    if isinstance(value, Part):
        return value
    if isinstance(value, str):
        value = {"use": value}
    if value is None:
        value = {"use": "none"}
    if not isinstance(value, Mapping):
        raise ValueError("write the short name of a back-end, or {use: module:Class, setting: value}")
    given = dict(value)
    return Part(declared, protocol, str(given.pop("use", next(iter(declared.shipped)))), given)


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
    return Made(getattr(cls, "name", cls.__name__), (*getattr(cls, "weights", ()), *files))


def members(protocol: Any) -> list[str]:
    """Return the methods and attributes that a protocol asks for."""
    own = [b for b in protocol.__mro__ if getattr(b, "_is_protocol", False)]
    names = {n for b in own for n in (*vars(b), *getattr(b, "__annotations__", {})) if not n.startswith("_")}
    return sorted(names)


def _assigned(cls: Any) -> set[str]:
    """Return the attributes that a class annotates, or that its constructor sets."""
    codes = [vars(b)["__init__"].__code__ for b in cls.__mro__ if hasattr(vars(b).get("__init__"), "__code__")]
    annotated = {n for b in cls.__mro__ for n in vars(b).get("__annotations__", {})}
    return annotated.union(*(code.co_names for code in codes))


def _base(name: str) -> str:
    return Path(name).name
