"""Text for `lpm status`: funnel, ledger, and speed of every stage, as rich tables."""

from __future__ import annotations

from rich.table import Table as RichTable

from curation.audit.precision import Audit, audit
from curation.dataset import Dataset
from curation.decisions.funnel import Funnel
from curation.decisions.ledger import OUTCOMES
from curation.decisions.survey import Survey, survey
from curation.pack.splits import split_shares, split_warnings
from curation.report.run_status import render_run
from curation.report.run_warnings import run_warnings
from curation.runs.newest import newest_run
from curation.runs.steps import log_files, logged
from schemas import tables as t
from schemas.settings.policy import Policy, parse_policy


def render_status(dataset: Dataset) -> list[RichTable | str]:
    """Return what `lpm status` prints, in order."""
    warnings = [f"warning: {said}" for said in run_warnings(dataset)]
    run = newest_run(dataset.store)
    under_way = [] if run is None or run.state == "done" else render_run(dataset, run)
    found = survey(dataset)
    if not any(sum(b.counts.values()) for b in found.balances):
        return [*(under_way or ["nothing is decided yet: run `lpm run`"]), *warnings]
    return [
        *under_way,
        *(["what follows is as the last command left it that decided:"] if under_way else []),
        _funnel(found.funnel),
        _ledger(found),
        _reasons(found),
        *_labels(dataset),
        *_audits(dataset),
        *_splits(dataset),
        *warnings,
        _speed(dataset),
    ]


def _labels(dataset: Dataset) -> list[str]:
    sql = "SELECT count(*), sum(end_s - start_s), list_sort(list(DISTINCT author)) FROM labels"
    rows = dataset.query(sql).fetchall()
    if not rows[0][0]:
        return []
    count, seconds, authors = rows[0]
    return [f"human labels: {count} over {seconds:.1f} s by {', '.join(authors)}"]


def policy_in_force(dataset: Dataset) -> Policy | None:
    """Return the policy that a dataset was decided by last, None where it was never run."""
    stored = dataset.store.read_json("workflow.json") or {}
    return parse_policy(stored["policy"], "workflow.json") if stored.get("policy") else None


def _audits(dataset: Dataset) -> list[RichTable | str]:
    found = audit(dataset, policy_in_force(dataset))
    return _precisions(found) if found.readers or found.adrift else []


def _precisions(found: Audit) -> list[RichTable | str]:
    """Return a table of what people judged, and a sentence on each two readers."""
    table = RichTable("what", "judged", "of", "right %", "95 %", "good lost %", "bound", title="audited by people")
    for p in found.precisions:
        if p.judged or p.unsure or p.bound is not None:
            unsure = f" (+{p.unsure} unsure)" if p.unsure else ""
            share = "" if p.share is None else f"{100 * p.share:.1f}"
            bound = "" if p.bound is None else f"{100 * p.bound:g} {'holds' if p.holds else 'NOT REACHED'}"
            lost = "" if p.lost is None else f"{100 * p.lost[0]:.1f} ({100 * p.lost[1]:.1f}-{100 * p.lost[2]:.1f})"
            between = "-".join(f"{100 * x:.1f}" for x in p.interval) if p.judged else ""
            table.add_row(p.name, f"{p.judged}{unsure}", str(p.population), share, between, lost, bound)
    said = [
        f"readers {a.first} and {a.second}: {a.agreed} of {a.units} alike"
        + ("" if a.kappa is None else f", kappa {a.kappa:.2f}")
        for a in found.agreements
    ]
    if found.adrift:
        said.append(f"{found.adrift} verdicts are about units that are no more")
    return [table, *said]


def _splits(dataset: Dataset) -> list[RichTable | str]:
    rows = t.SPLIT_SHARES.rows(split_shares(dataset))
    if not rows:
        return []
    table = RichTable("split", "seconds", "share %", "wanted %", "sources", "groups", title="splits of the kept clips")
    for r in sorted(rows, key=lambda r: (-r.wanted, r.split)):
        table.add_row(
            r.split, f"{r.kept_s:.1f}", f"{100 * r.share:.1f}", f"{100 * r.wanted:.1f}",
            str(r.n_sources), str(r.n_groups),
        )  # fmt: skip
    return [table, *(f"warning: {said}" for said in split_warnings(dataset))]


def _funnel(f: Funnel) -> RichTable:
    table = RichTable("step", "left", "seconds", "% of raw", "paper %", title="funnel")
    for s in f.steps:
        unit = "segments" if s.step == "conversation" else "shots"
        table.add_row(s.step, f"{s.count} {unit}", f"{s.seconds:.1f}", f"{s.percent:.2f}", _percent(s.paper))
    for s in f.states:
        table.add_row(f"  {s.step}", f"{s.count} segments", f"{s.seconds:.1f}", f"{s.percent:.2f}", _percent(s.paper))
    table.caption = f"besides: {f.quarantined} shots in quarantine, {f.pending} pending"
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _ledger(found: Survey) -> RichTable:
    table = RichTable("unit", "in", *OUTCOMES, "unaccounted", title="ledger: counts (seconds)")
    for b in found.balances:
        cells = [f"{b.counts[o]} ({b.seconds[o]:.1f})" for o in OUTCOMES]
        table.add_row(b.unit, f"{b.total} ({b.total_s:.1f})", *cells, str(b.unaccounted))
    return table


def _reasons(found: Survey) -> RichTable:
    table = RichTable("outcome", "unit", "step", "rule or error", "count", "seconds", title="reasons")
    for key, (n, seconds) in found.reasons.items():
        table.add_row(*key, str(n), f"{seconds:.1f}")
    return table


def stage_speed(dataset: Dataset) -> dict[str, dict[str, float]]:
    """Return per stage: steps run, media seconds, wall and CPU seconds, and most memory, over all recorded runs."""
    out: dict[str, dict[str, float]] = {}
    for step in logged(dataset.store, log_files(dataset.store)):
        if step["status"] == "ran":
            none = {"steps": 0.0, "media_s": 0.0, "wall_s": 0.0, "cpu_s": 0.0, "memory_mb": 0.0}
            mine = out.setdefault(step["stage"], none)
            mine["steps"] += 1
            mine["media_s"] += step["media_s"]
            mine["wall_s"] += step["wall_s"]
            mine["cpu_s"] += step["cpu_s"]
            mine["memory_mb"] = max(mine["memory_mb"], step.get("memory_mb", 0.0))
    return out


def _speed(dataset: Dataset) -> RichTable:
    title = "speed, all runs, per worker"
    table = RichTable("stage", "steps", "video-s", "wall s", "video-s / wall-s", "most GiB", title=title)
    for stage, v in stage_speed(dataset).items():
        rate = f"{v['media_s'] / v['wall_s']:.2f}" if v["media_s"] and v["wall_s"] else ""
        most = f"{v['memory_mb'] / 1024:.2f}" if v["memory_mb"] else ""
        table.add_row(stage, f"{v['steps']:.0f}", f"{v['media_s']:.1f}", f"{v['wall_s']:.1f}", rate, most)
    return table
