"""Which weaker back-ends do the work of models that are not on this machine: what a run must say before it starts."""

from __future__ import annotations

from annotators.models import weights
from annotators.shipped import NO_BODY
from curation.engine.workflow import Pipeline


def stand_ins(pipeline: Pipeline) -> dict[str, str]:
    """Return weight -> the back-end at work in its place, for the weights that are missing and would be better.

    Uses no network. A back-end that the settings ask for by name is named as well: it is no less weak.
    """
    missing = {n: w.stand_in for n, w in weights.registry().items() if w.stand_in and weights.find(n) is None}
    if not missing:
        return {}
    at_work = {value for stage in pipeline.stages for value in stage.provenance().values()}
    return {name: weaker for name, known in missing.items() for weaker in known if weaker in at_work}


def sentence(weight: str, weaker: str) -> str:
    """Say it, with the way out."""
    instead = f"{weaker} stands in, which errs more"
    if weaker == NO_BODY:
        instead = "body posture, hands and gestures are not measured"
    return f"{weight} is not here: {instead} (docs/models.md). `lpm models fetch {weight}` gets it."
