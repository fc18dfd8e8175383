"""Settings of stages and their back-ends: numbers that are none are refused, infinite ones where they mean nothing."""

from __future__ import annotations

import math

import pytest
from pydantic import Field, ValidationError

from curation.engine.workflow import WorkflowError, resolve
from curation.stage import StageSettings
from schemas.settings.use import UseError, checked, load, not_finite
from schemas.settings.workflow import StageSpec, Workflow
from stages import SHIPPED
from workflows import catalog


class Set(StageSettings):
    share: float = 0.5
    places: dict[str, list[float]] = Field({})
    never: float = Field(1.0, gt=0, allow_inf_nan=True, description="log-odds; inf = never")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf"])
@pytest.mark.parametrize("name", ["share", "places", "never"])
def test_a_number_that_is_not_finite_is_refused_unless_the_setting_tells_what_it_means(
    name: str, value: float | str
) -> None:
    given = {name: {"a": [1.0, value]} if name == "places" else value}
    if name == "never" and float(value) == math.inf:
        assert Set.model_validate(given).never == math.inf
        return
    with pytest.raises(ValidationError, match=r"finite number|greater than 0"):
        Set.model_validate(given)


class BackEnd:
    """One of somebody's own."""

    def __init__(self, share: float = 0.5, most: float = math.inf, anything=None) -> None:  # type: ignore[no-untyped-def]
        self.share, self.most, self.anything = share, most, anything


@pytest.mark.parametrize(
    "given", [{"share": math.nan}, {"share": math.inf}, {"share": "nan"}, {"most": math.nan}, {"anything": [math.inf]}]
)
def test_so_it_is_with_a_back_ends(given: dict[str, object]) -> None:
    with pytest.raises(UseError, match=f"BackEnd, {next(iter(given))}: write a finite number"):
        checked(BackEnd, given)
    assert checked(BackEnd, {"most": math.inf, "share": 0.1}) == {"most": math.inf, "share": 0.1}


def test_text_that_the_command_line_gives_is_held_to_it_too() -> None:
    for value in (".nan", "nan", "-.inf"):
        with pytest.raises(WorkflowError, match="'attribution', setting max_unsynced_per_s"):
            catalog.pipeline("conversation", [f"attribution.max_unsynced_per_s={value}"])


def test_an_infinite_setting_is_kept_as_that() -> None:
    """`attribution.min_split_gain=.inf` divides no voice, in the next run of the dataset too."""
    made = catalog.pipeline("conversation", ["attribution.min_split_gain=.inf"]).workflow
    again = resolve(Workflow.model_validate(made.model_dump(mode="json")))
    (settings,) = (s.settings for s in again.stages if s.name == "attribution")
    assert settings.model_dump()["min_split_gain"] == math.inf
    assert StageSpec().model_dump(mode="json")["settings"] == {}


def test_no_shipped_default_is_infinite() -> None:
    fields = {(name, f): i for name, use in SHIPPED.items() for f, i in load(use).Settings.model_fields.items()}  # type: ignore[attr-defined]
    assert fields and not [where for where, info in fields.items() if not_finite(info.default) is not None]
