"""What is wrong with a setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any


class ConfigError(ValueError):
    """A setting is unknown, or does not fit the others."""


def positive(record: object, *names: str) -> None:
    """Refuse fields of a record that are not above zero, or not finite. Raises ConfigError."""
    _each(record, names, lambda x: 0 < x < math.inf, "must be positive and finite")


def not_negative(record: object, *names: str) -> None:
    """Refuse fields of a record that are below zero, or not finite. Raises ConfigError."""
    _each(record, names, lambda x: 0 <= x < math.inf, "must not be negative or infinite")


def share(record: object, *names: str) -> None:
    """Refuse fields of a record that are no share, probability or level. Raises ConfigError."""
    _each(record, names, lambda x: 0 <= x <= 1, "must lie between 0 and 1")


def betas(record: object, name: str) -> None:
    """Refuse a pair of rates that AdamW cannot take. Raises ConfigError."""
    _each(record, [name], lambda pair: all(0 <= x < 1 for x in pair), "must be two numbers from 0 on and below 1")


def _each(record: object, names: Iterable[str], fits: Callable[[Any], bool], must: str) -> None:
    for name in names:
        if not fits(value := getattr(record, name)):
            raise ConfigError(f"{type(record).__name__.lower()}.{name} = {value} {must}")
