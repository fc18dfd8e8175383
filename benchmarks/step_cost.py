"""What the engine itself computes for a source: deciding, reading, writing, committing, with stages that do nothing.

    python benchmarks/step_cost.py [--sources 30] [--label now] [--json FILE]

Sources of 40 s of video go through `waiting_stages` without a wait, one after another in this process; what those take
to make their tables is taken off. CPU seconds a source, twelve stages.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import record
import waiting_stages

from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from workflows import catalog


def main() -> None:
    """Measure, and put the figure into the file under the label."""
    parser = record.parser(__doc__)
    parser.add_argument("--sources", type=int, default=30)
    parser.add_argument("--label", default="now")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    marks: dict[str, float] = {}
    in_stages = [0.0]
    real = waiting_stages._Waiting.run

    def timed(self: Any, item: Any, inputs: Any) -> Any:
        began = time.process_time()
        try:
            return real(self, item, inputs)
        finally:
            in_stages[0] += time.process_time() - began

    waiting_stages._Waiting.run = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        waiting_stages.write_sources(root / "in", [20] * given.sources)
        workflow = resolve(waiting_stages.workflow())
        job = Job(str(root / "out"), workflow, catalog.policy("default"), in_process=True)
        named = expand([str(root / "in")])
        run(job, LocalEngine(), named, event=lambda kind, what: marks.setdefault(str(what), time.process_time()))
    engine = (marks["compact"] - marks["sources"] - in_stages[0]) / given.sources
    found = {"sources": given.sources, "engine_cpu_s": round(engine, 3)}
    print(found)
    former = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    record.write(given.json, former | record.today_here() | {given.label: found})


if __name__ == "__main__":
    main()
