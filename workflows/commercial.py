"""`lpm run --commercial`: no part may be at work whose weights' licence bars commercial use, or is not known.

Looks at the parts that stages declare, without loading a model; what a stage of one's own reads besides is its
author's to know.
"""

from __future__ import annotations

from collections.abc import Iterator

from annotators.models.licences import commercial
from annotators.models.weights import WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from annotators.parts import Part
from curation.engine.workflow import SHARED, Pipeline, ResolvedStage
from schemas.settings.use import Shared


class LicenceError(ValueError):
    """A model that may not be used for what the run is for; the message says which, and what to choose instead."""


def check_commercial(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """Return the licence of every model at work, by the setting that chooses it.

    Raises LicenceError where one is for research only or not known.
    """
    known: dict[str, dict[str, str]] = {}
    refused = []
    for where, part, stage, name in _parts(pipeline):
        for model, licence in stage.ask(_licences, name).items():
            if licence is not None and commercial(licence):
                known.setdefault(where, {})[model] = licence
            else:
                said = licence or "not known"
                refused.append(f"{where} would use {model}, whose licence is {said} ({_instead(where, part)})")
    if refused:
        raise LicenceError(f"--commercial refuses this run: {'; '.join(refused)}")
    return known


def _licences(stage: ResolvedStage, name: str) -> dict[str, str | None]:
    part = stage.settings.parts()[name]
    return part.licences() if isinstance(part, Part) else {}


def _parts(pipeline: Pipeline) -> Iterator[tuple[str, Part[object], ResolvedStage, str]]:
    """Yield every part with the path of its setting, its stage and its name; a setting that stages share once."""
    seen = set()
    for stage in pipeline.stages:
        fields = type(stage.settings).model_fields
        for name, part in stage.settings.parts().items():
            marks = [m for m in fields[name].metadata if isinstance(m, Shared)]
            where = f"{SHARED}.{marks[0].name}" if marks else f"{stage.name}.{name}"
            if isinstance(part, Part) and where not in seen:
                seen.add(where)
                yield where, part, stage, name


def _instead(where: str, part: Part[object]) -> str:
    other = next((p.choice for p in part.others() if _allowed(p)), None)
    choose = f"choose {where}={other}, or say" if other else "say"
    return f"{choose} by {where}.licence which licence you have"


def _allowed(part: Part[object]) -> bool:
    try:
        return all(commercial(licence) for licence in part.licences().values())
    except (PartNotInstalledError, WeightsNotFound):
        return False
