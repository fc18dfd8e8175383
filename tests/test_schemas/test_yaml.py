"""YAML as the product reads it: a key that stands twice is refused, a merge may repeat one."""

from __future__ import annotations

import pytest
import yaml

from schemas.settings.yaml12 import load


def test_a_repeated_key_is_refused_with_its_line() -> None:
    with pytest.raises(yaml.YAMLError, match="'tracks' is repeated in line 3"):
        load("stages:\n  tracks: {}\n  tracks: {}\n")


def test_a_merge_may_repeat_a_key() -> None:
    assert load("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n")["b"] == {"x": 3, "y": 2}
