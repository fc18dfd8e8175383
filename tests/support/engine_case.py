"""Runs of the engine on toy stages, and what became of their units."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from command_line import ROOT, SUPPORT
from toy import CALLS, POLICY, WORKFLOW

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, Outcome, run
from curation.engine.workflow import resolve
from schemas.settings.policy import Policy, parse_policy
from schemas.settings.workflow import Resources

GOOD = {"duration_s": 10.0, "faces": [120, 40]}


def policy(**changes: str) -> Policy:
    rules = [{**r, "keep": changes.get(r["id"], r["keep"])} for r in POLICY["rules"]]
    return parse_policy({**POLICY, "rules": rules}, "test")


def go(
    folder: Path | None,
    out: Path,
    *,
    engine: Any = None,
    sets: tuple[str, ...] = (),
    retry: bool = False,
    batch: int = 1,
    in_process: bool = True,
    **rules: str,
) -> Outcome:
    """Run the toy workflow; `batch` = tracks of so many sources are scored together, where the engine can."""
    resources = {"toy_active": Resources(batch=batch)}
    stages = {n: s.model_copy(update={"resources": resources.get(n, s.resources)}) for n, s in WORKFLOW.stages.items()}
    pipeline = resolve(WORKFLOW.model_copy(update={"stages": stages}), sets)
    job = Job(str(out), pipeline, policy(**rules), retry, in_process=in_process)
    named = [] if folder is None else expand([str(folder)], str(out))
    CALLS.clear()
    return run(job, engine or LocalEngine(), named)


def snapshot(out: Path, *parts: str) -> dict[str, str]:
    """Hash every file of the dataset that is a result rather than a log."""
    keep = parts or ("tables", "commits", "clips", "manifest.parquet", "shards")
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and p.relative_to(out).parts[0] in keep]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def outcomes(out: Path, unit: str) -> dict[str, tuple[str, str | None]]:
    rows = Dataset(str(out)).query(f"SELECT unit_id, outcome, rule FROM decisions WHERE unit = '{unit}'").fetchall()
    return {i: (o, r) for i, o, r in rows}


def by_name(out: Path) -> dict[str, tuple[str, str | None, str | None]]:
    sql = "SELECT name, outcome, rule, step FROM decisions JOIN inputs USING (source_id) WHERE unit = 'sources'"
    return {n: (o, r, s) for n, o, r, s in Dataset(str(out)).query(sql).fetchall()}


def killed(module: str, folder: Path, out: Path, delay_s: float) -> None:
    """Begin `go(folder, out)` of a test module in another process, and kill -9 it after `delay_s` of its work."""
    where = Path(sys.modules[module].__file__ or "").parent
    script = (
        f"import sys; from pathlib import Path; from {module.rpartition('.')[2]} import go; print('go', flush=True);"
        "go(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{where}:{ROOT}"}
    command = [sys.executable, "-c", script, str(folder), str(out)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "go\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
