"""Parts: what can be exchanged, declared in settings by protocol and default, and chosen by one `use:` idiom.

A choice is the short name of a shipped one, or module:Class, with its constructor's arguments as settings. It is
checked when it is read and built when it is needed. What a stage is made of (`annotators.parts`) and what the trainer
is made of are declared alike. Costs the import of what is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic_core import core_schema

from schemas.settings.use import UseError, arguments, checked, load, near, owner

T = TypeVar("T", covariant=True)
AUTO = "auto"
MEASURED = "measured"
"""Context in which settings are dumped without what changes no number."""


@dataclass(frozen=True)
class Absent:
    """Nothing at work, under the name that says what is then not measured."""

    name: str


Shipped = str | Mapping[str, Any] | Absent
"""`module:Class`, or `{use: module:Class, setting: value}`, or nothing."""


@dataclass(frozen=True)
class Declared:
    """A declaration: what is shipped by short names, and what "auto" tries, in order."""

    shipped: Mapping[str, Shipped]
    auto: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    default: str | None = None

    def settings(self) -> list[str]:
        """Return the names of the settings of all shipped back-ends."""
        uses = [s if isinstance(s, str) else s["use"] for s in self.shipped.values() if not isinstance(s, Absent)]
        return list(dict.fromkeys(name for use in uses for name in arguments(load(use))))

    def choose(self, protocol: Any, choice: str, given: Mapping[str, Any]) -> Part[Any]:
        """Return the part that is chosen. Raises UseError where it, or a setting, cannot be used."""
        return Part(self, protocol, choice, given)

    def read(self, protocol: Any, value: Any) -> Part[Any]:
        """Return the part that a workflow's or a configuration's value names. Raises UseError, ValueError."""
        if isinstance(value, Part):
            return value
        if isinstance(value, str):
            value = {"use": value}
        if value is None:
            value = {"use": "none"}
        if not isinstance(value, Mapping):
            raise ValueError("write a short name, or {use: module:Class, setting: value}")
        given = dict(value)
        return self.choose(protocol, str(given.pop("use", next(iter(self.shipped)))), given)

    def __get_pydantic_core_schema__(self, source: Any, _handler: Any) -> core_schema.CoreSchema:
        """Let pydantic read a field that is declared so."""
        protocol = next((a for a in _options(source) if a is not type(None)), object)
        return core_schema.no_info_plain_validator_function(
            lambda value: self.read(protocol, value),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda p, info: p.measured if info.context == MEASURED else p.written, info_arg=True
            ),
        )


def _options(source: Any) -> tuple[Any, ...]:
    inner = get_args(source)[0] if get_args(source) else object
    return get_args(inner) or (inner,)


class Part(Generic[T]):
    """A back-end that was chosen, with its settings; `build` makes it."""

    def __init__(self, declared: Declared, protocol: Any, choice: str, given: Mapping[str, Any]) -> None:
        """Check the choice. Raises UseError where it, or a setting, cannot be used."""
        self._declared, self._protocol, self.choice, self.given = declared, protocol, choice, dict(given)
        if choice != AUTO and choice not in declared.shipped and ":" not in choice:
            raise UseError(
                f"nothing is called {choice!r}; {near(choice, declared.shipped)} or name one as module:Class"
            )
        if choice.partition(":")[0] in declared.shipped and choice not in declared.shipped:
            self._is_a_class(choice)
        if choice == AUTO and given:
            raise UseError(f"settings {sorted(given)} belong to one back-end; name it by use: instead of {AUTO!r}")
        if isinstance(declared.shipped.get(choice), Absent) and given:
            raise UseError(f"{choice!r} has no settings, so {sorted(given)} would be unused")
        if (choice not in (AUTO, declared.default) and self.at_work) or given:
            self._conforms(self._builder(choice)[0])
            checked(*self._builder(choice), declared.offers)

    @property
    def measured(self) -> str | dict[str, Any]:
        """The choice with the settings that its numbers depend on."""
        return {"use": self.choice, **self.given} if self.given else self.choice

    @property
    def written(self) -> str | dict[str, Any]:
        """The choice as a workflow writes it."""
        return self.measured

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

    def _builder(self, choice: str) -> tuple[Callable[..., Any], dict[str, Any]]:
        shipped = self._declared.shipped.get(choice, choice)
        assert not isinstance(shipped, Absent)
        named = {"use": shipped} if isinstance(shipped, str) else dict(shipped)
        return load(named.pop("use")), {**named, **self.given}

    def _is_a_class(self, choice: str) -> None:
        """Refuse a short name with settings behind it, such as patch:1x4x4, and say how they are written."""
        try:
            load(choice)
        except UseError as e:
            short, _, rest = choice.partition(":")
            takes = arguments(self._builder(short)[0])
            values = [int(n) for n in rest.split("x")] if rest.replace("x", "").isdecimal() else [rest]
            first = next(iter(takes))
            whole = get_origin(takes[first].annotation) is tuple
            named = {first: values} if whole else dict(zip(takes, values, strict=False))
            written = ", ".join(f"{name}: {value}" for name, value in {"use": short, **named}.items())
            raise UseError(f"{choice!r} is written {{{written}}}, each setting by its name") from e

    def _at_hand(self, choice: str) -> bool:
        """Say whether what a choice needs is here."""
        return True

    def _conforms(self, builder: Callable[..., Any]) -> None:
        made = owner(builder)
        lacks = [n for n in members(self._protocol) if not hasattr(made, n) and n not in _assigned(made)]
        if lacks:
            raise UseError(f"{made.__module__}:{made.__name__} is no {self._protocol.__name__}: it lacks {lacks[0]}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self._text() == other._text()

    def __hash__(self) -> int:
        return hash(self._text())

    def _text(self) -> str:
        return json.dumps(self.written, sort_keys=True, default=str)  # as it is read back: a tuple is then a list

    def __str__(self) -> str:
        return self.choice

    def __repr__(self) -> str:
        return f"Part({self.written!r})"


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
