"""`lpm plan`: what a run over these inputs will take, before anything is started."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable

from curation.dataset import Dataset
from curation.decisions.rules import check_policy
from curation.engine.register import expand
from curation.listing import left_out
from curation.plan.estimate import Estimate, estimate
from curation.plan.rates import Rates, RatesError, measured, with_slopes
from schemas.printable import printable
from schemas.settings.workflow import Workflow
from workflows import catalog
from workflows.usage import UsageError

if TYPE_CHECKING:
    from curation.plan.survey import Survey


def plan(
    out: Console, inputs: list[str], workflow: str, like: str | None, nodes: list[int], cores: int, sample: int,
    seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Print hours, bytes, core-hours by stage and the time that clusters take.

    Stages are imported and no model is loaded. Raises UsageError, RatesError, InputError, and what a run raises of a
    workflow that it cannot follow: WorkflowError, PolicyError.
    """
    if not inputs:
        raise UsageError("name the inputs: files, folders, globs, s3:// prefixes or lists")
    from curation.plan.survey import survey  # needs PyAV, which the light core has not

    chosen = catalog.pipeline(workflow).workflow
    check_policy(catalog.policy(chosen.policy))  # now that the tables of the user's own stages are known
    rates = _rates(chosen, like)
    skipped: Counter[str] = Counter()
    found = survey(expand(inputs, None, skipped), sample, seed)
    result = estimate(found, rates, chosen.window_s)
    if as_json:
        out.out(
            json.dumps({**_plain(found, rates, result, nodes, cores), "left_out": skipped}, indent=1), highlight=False
        )
        return
    _show(out, found, rates, result, nodes, cores, seed)
    if skipped:
        out.print(left_out(skipped), markup=False, highlight=False)


def _rates(workflow: Workflow, like: str | None) -> Rates:
    """Return the rates of a dataset, or those that ship with a workflow."""
    shipped = catalog.rates(workflow)
    if like is not None:
        rates = measured(Dataset(like), f"{platform.node()} and wherever else {like} was made")
        known = {} if shipped is None else {r.stage: r.cpu_s_per_gigapixel for r in shipped.stages}
        return with_slopes(rates, known)
    if shipped is None:
        raise RatesError(
            f"nothing is known of the cost of workflow {workflow.name!r}: run it on a few files that are like the "
            "others, and name that dataset with --like"
        )
    return shipped


def _plain(found: Survey, rates: Rates, result: Estimate, nodes: list[int], cores: int) -> dict[str, Any]:
    return {
        "inputs": dataclasses.asdict(found),
        "rates": rates.model_dump(mode="json"),
        "core_hours": {stage: s / 3600 for stage, s in result.core_s.items()},
        "core_hours_total": result.total_s / 3600,
        "bytes_out": result.bytes_out,
        "wall_hours": {str(n): result.wall_s(n * cores) / 3600 for n in nodes},
        "cores_a_node": cores,
    }


def _show(out: Console, found: Survey, rates: Rates, result: Estimate, nodes: list[int], cores: int, seed: int) -> None:
    how = "their headers" if found.opened == found.files else f"{found.opened} headers (seed {seed}), others by size"
    out.print(
        f"{found.files:,} files, {_bytes(found.bytes)}, {_hours(found.video_s)} of video by {how}; "
        f"the longest {_hours(found.longest_s)}{_pixels(found, rates)}"
    )
    if found.unreadable:
        out.print(f"{found.unreadable} of the {found.opened} opened tell no duration: they will end in quarantine")
    for path, how in found.ended:
        out.print(f"{printable(path)}: its reader {how}", markup=False, highlight=False)
    out.print(
        f"rates: workflow {rates.workflow}, policy {rates.policy}, {rates.sources} sources of {_hours(rates.video_s)}, "
        f"{rates.measured_on}"
    )
    table = RichTable("stage", "CPU s a video s", "core-hours", title="work")
    video_s = found.video_s or 1.0
    for rate in rates.stages:
        table.add_row(
            rate.stage, f"{result.core_s[rate.stage] / video_s:.3f}", _number(result.core_s[rate.stage] / 3600)
        )
    table.add_row("all", f"{result.total_s / video_s:.3f}", _number(result.total_s / 3600), style="bold")
    out.print(table)
    out.print(f"written: about {_bytes(result.bytes_out)}")
    wall = RichTable("nodes", "cores", "at least", title="time")
    for n in nodes:
        wall.add_row(str(n), str(n * cores), _hours(result.wall_s(n * cores)))
    out.print(wall)
    out.print(
        f"At least, since cores are taken to be busy and no slower than those of the rates. No cluster is faster than "
        f"{_hours(result.longest_s + result.alone_s)}: the longest source, then the stages over the whole dataset."
    )


def _pixels(found: Survey, rates: Rates) -> str:
    if not found.pixels or not rates.pixels_per_s:
        return ""
    mean, theirs = found.pixels / found.video_s / 1e6, rates.pixels_per_s / 1e6
    return f"; {_number(mean)} megapixels a second to decode, {_number(theirs)} in the footage of the rates"


def _hours(seconds: float) -> str:
    return f"{_number(seconds / 3600)} h" if seconds >= 3600 else f"{_number(seconds / 60)} min"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            break
        n /= 1000
    return f"{_number(n)} {unit}"
