"""Settings that are written as text."""

from __future__ import annotations

import pytest

from schemas.settings.use import UseError, read_setting


@pytest.mark.parametrize("value", ["{speak", "[1, 2", "'x", "2024-13-45", "a: b: c"])
def test_a_value_that_is_no_yaml_is_told_in_one_line(value: str) -> None:
    with pytest.raises(UseError, match="is no YAML value") as refused:
        read_setting(f"data.balance={value}")
    assert "\n" not in str(refused.value)


def test_a_value_that_python_cannot_make_stays_text() -> None:
    assert read_setting("data.where=({[]},)") == (["data", "where"], "({[]},)")
