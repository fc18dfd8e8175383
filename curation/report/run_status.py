"""Text for `lpm status` of a run that works, or was stopped or killed: what is done, what was under way, what next."""

from __future__ import annotations

import shlex

from rich.table import Table as RichTable

from curation.dataset import Dataset
from curation.runs.newest import NewestRun, UnderWay, seconds_since
from curation.storage.registry import read_registry
from curation.storage.store import Store
from schemas import tables as t
from schemas.time import spoken, windows

_SHOWN = 20
"""Steps under way that are named at most."""


def render_run(dataset: Dataset, run: NewestRun) -> list[RichTable | str]:
    """Return what there is to say of a run that has not ended well, in order."""
    out: list[RichTable | str] = [_state(run)]
    if run.stages:
        out.append(_stages(dataset, run))
    out += _under_way(dataset, run)
    if run.state != "works":
        out.append(whats_next(dataset.store, run, go_on(dataset.store.uri, run.engine)))
    return out


def whats_next(store: Store, run: NewestRun | None, command: str) -> str:
    """Return how to go on after a run: by `command`, which names no inputs, where the run had registered its own."""
    if (run is None or run.phase != "register") and read_registry(store).num_rows:
        return f"finished work is kept; go on with: {command}"
    return "its inputs were not registered yet; run the same command again, with its inputs"


def go_on(uri: str, engine: str, address: str | None = None) -> str:
    """Return the command that goes on with a dataset, as whoever ran it last would say it."""
    at = "" if address is None else f" --address {shlex.quote(address)}"
    return f"lpm run --out {shlex.quote(uri)}" + (" --engine local" if engine == "local" else "") + at


def _state(run: NewestRun) -> str:
    step = "" if run.last_step_s is None else f", the last step ended {spoken(run.last_step_s)} ago"
    at = f" at phase {run.phase!r}" if run.phase else ""
    if run.state == "works":
        return f"a run works on it ({run.said}){at}: begun {spoken(seconds_since(run.started))} ago{step}"
    if run.state == "killed":
        return f"the last run ({run.run_id}) was killed{at}, without a word{step}"
    why = "by Ctrl-C or SIGTERM" if run.said.startswith("KeyboardInterrupt") else f": {run.said}"
    return f"the last run ({run.run_id}) was stopped{at}{'' if why[0] == ':' else ' '}{why}{step}"


def _stages(dataset: Dataset, run: NewestRun) -> RichTable:
    """Return a table of what is done by stage; of how many items, as far as sources are known."""
    sources, n_windows, window_s = _items(dataset)
    grains = {name: facts.get("grain") for name, facts in _recorded(dataset).items()}
    of = {"source": sources, "window": n_windows, "dataset": 1}
    table = RichTable("stage", "done", "of", "this run", "in quarantine", "video-s", "worker s", title="stages")
    for s in run.stages:
        total = of.get(str(grains.get(s.stage)), "")
        table.add_row(
            s.stage, str(s.done), str(total), str(s.ran), str(s.failed or ""), f"{s.video_s:.1f}", f"{s.wall_s:.1f}"
        )
    if n_windows:
        table.caption = f"windows of {window_s:g} s are counted of probed sources; rules may leave items out"
    return table


def _recorded(dataset: Dataset) -> dict[str, dict[str, object]]:
    facts: dict[str, dict[str, object]] = (dataset.store.read_json("workflow.json") or {})["pipeline"]["stages"]
    return facts


def _items(dataset: Dataset) -> tuple[int, int, float]:
    """Return how many sources there are, how many windows the probed ones have, and how long one is (seconds)."""
    ((sources,),) = dataset.query("SELECT count(DISTINCT source_id) FROM inputs").fetchall()
    window_s = float((dataset.store.read_json("workflow.json") or {})["workflow"]["window_s"])
    lengths = dataset.query("SELECT duration_s, count(*) FROM sources GROUP BY 1").fetchall()
    return int(sources), sum(n * len(windows(s, window_s)) for s, n in lengths), window_s


def _under_way(dataset: Dataset, run: NewestRun) -> list[RichTable | str]:
    if not run.under_way:
        return []
    shown = run.under_way[:_SHOWN]
    ids = sorted({u.source_id for u in shown})
    names = {r.source_id: r.name for r in t.INPUTS.rows(dataset.table(t.INPUTS)) if r.source_id in ids}
    title = "under way" if run.state == "works" else "under way when it ended"
    table = RichTable("stage", "source", "name", "attempt", title=title)
    for u in shown:
        table.add_row(u.stage, _item(u), names.get(u.source_id, ""), str(u.attempt))
    if len(run.under_way) > _SHOWN:
        table.caption = f"and {len(run.under_way) - _SHOWN} more"
    return [table]


def _item(u: UnderWay) -> str:
    return u.source_id if u.window is None else f"{u.source_id} window {u.window}"
