"""What is wrong with a setting."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting is unknown, or does not fit the others."""


def positive(record: object, *names: str) -> None:
    """Refuse fields of a record that are not above zero."""
    for name in names:
        if getattr(record, name) <= 0:
            raise ConfigError(f"{type(record).__name__.lower()}.{name} = {getattr(record, name)} must be positive")
