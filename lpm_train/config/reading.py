"""Change single settings, and write and read a whole configuration as JSON."""

from __future__ import annotations

import json
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from lpm_train.config.errors import ConfigError
from lpm_train.config.whole import Config
from schemas.settings.use import UseError, assign, near, read_setting

C = TypeVar("C", bound=Config)


def override(config: C, settings: Sequence[str]) -> C:
    """Apply settings written `section.field=value` (or deeper), values as YAML or Python literals, as a workflow's.

    Nothing behind the `=` is the empty text where a setting is a text, and elsewhere what `null` is.

    Raises:
        ConfigError: no such field (the nearest is named), or a value of another type.
    """
    tree = TypeAdapter(type(config)).dump_python(config, mode="json")
    empty: dict[str, tuple[str, object]] = {}  # by name: as it was written, and the value before
    for setting in settings:
        try:
            path, value = read_setting(setting)
        except UseError as e:
            raise ConfigError(str(e)) from e
        before, name = _value(config, path), ".".join(path)
        empty.pop(name, None)
        if not setting.partition("=")[2].strip():
            value = "" if isinstance(before, str) else None
            empty[name] = (setting, before)
        assign(tree, path, value)
    try:
        return from_json(json.dumps(tree, default=repr), type(config))
    except ConfigError as e:
        for name, (setting, before) in empty.items():
            if str(e).startswith(f"{name} = None:"):
                said = json.dumps(before, default=list)
                raise ConfigError(
                    f"--set {setting!r}: no value stands behind the =; write one, e.g. {name}={said}"
                ) from e
        raise


def _value(config: Config, path: Sequence[str]) -> object:
    """Return the value of a setting; None where there is none, or it is one of a part's."""
    found: object = config
    for name in path:
        found = getattr(found, name, None) if is_dataclass(found) else None
    return found


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
