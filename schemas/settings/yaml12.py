"""Load YAML with YAML 1.2's booleans, only true and false (1.1 reads a policy's key `on` as true), and no key twice."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """SafeLoader whose implicit booleans are `true` and `false` alone, and that refuses a repeated key."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping; looked at here, since a merge (`<<`) repeats keys by right later on."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"key {key.value!r} is repeated in line {line}; leave one of them out")
            seen.add((key.tag, key.value))
        return node


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
