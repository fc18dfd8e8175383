"""Load YAML with YAML 1.2's booleans: only true and false. In YAML 1.1 a policy's key `on` would read as true."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """SafeLoader whose implicit booleans are `true` and `false` alone."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:[Tt]rue|TRUE|[Ff]alse|FALSE)$"), list("tTfF"))


def load(text: str) -> Any:
    """Parse one YAML document into plain data. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except ValueError as e:  # of a date that is none
        raise yaml.YAMLError(str(e)) from e
