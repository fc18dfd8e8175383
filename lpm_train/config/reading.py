"""Change single settings, and write and read a whole configuration as JSON."""

from __future__ import annotations

import json
import typing
from collections.abc import Sequence
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from lpm_train.config.errors import ConfigError
from lpm_train.config.whole import Config
from schemas.settings.use import UseError, assign, near, read_setting

C = TypeVar("C", bound=Config)


def override(config: C, settings: Sequence[str]) -> C:
    """Apply settings written `section.field=value` (or deeper), values as YAML or Python literals, as a workflow's.

    Raises:
        ConfigError: no such field (the nearest is named), or a value of another type.
    """
    tree = TypeAdapter(type(config)).dump_python(config, mode="json")
    for setting in settings:
        try:
            path, value = read_setting(setting)
        except UseError as e:
            raise ConfigError(str(e)) from e
        assign(tree, path, value)
    return from_json(json.dumps(tree, default=repr), type(config))


def to_json(config: Config) -> str:
    """Write the resolved configuration."""
    return json.dumps(TypeAdapter(type(config)).dump_python(config, mode="json"), indent=2, sort_keys=True)


def from_json(text: str, kind: type[C] = Config) -> C:  # type: ignore[assignment]
    """Read a configuration written by `to_json`; defaults stand for fields that it does not have.

    Raises:
        ConfigError: a field is unknown (the nearest is named), of another type, or does not fit the others.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as e:
        error = e.errors()[0]
        path, at = ".".join(map(str, error["loc"])), kind
        if error["type"] == "value_error":
            said = error["ctx"]["error"]
            raise ConfigError(f"{path}: {said}" if isinstance(said, UseError) else str(said)) from e
        if error["type"] != "unexpected_keyword_argument":
            raise ConfigError(f"{path} = {error['input']!r}: {error['msg'].lower()}") from e
        for section in error["loc"][:-1]:
            at = typing.get_args(at)[0] if isinstance(section, int) else typing.get_type_hints(at)[section]
        raise ConfigError(f"no setting {path!r}; {near(str(error['loc'][-1]), typing.get_type_hints(at))}") from e
