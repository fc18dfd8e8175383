"""What runs over toy sources ask of an object store, counted in the log of a server on this machine, by kind."""

from __future__ import annotations

import logging
import re
import tempfile
from collections import Counter
from pathlib import Path

import boto3
from engine_case import GOOD, policy
from toy import WORKFLOW, write_sources

from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve

BUCKET = "lpm"
ASKED = re.compile(r'"(?:\x1b\[[\d;]+m)*(GET|PUT|HEAD|POST|DELETE) (\S+)')


class Counting(logging.Handler):
    """Counts what the server logs, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: Counter[str] = Counter()

    def emit(self, line: logging.LogRecord) -> None:
        found = ASKED.search(line.getMessage())
        if found is not None:
            self.kinds["LIST" if "list-type" in found[2] else found[1]] += 1

    def listen(self) -> None:
        """Hear what the server logs, and let nobody else."""
        log = logging.getLogger("werkzeug")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.handlers = [self]

    def taken(self) -> dict[str, int]:
        counts = dict(sorted(self.kinds.items()))
        self.kinds.clear()
        return {"all": sum(counts.values()), **counts}


def counted(sources: int, count: Counting) -> dict[str, dict[str, int]]:
    """Return the requests of a first run over so many sources, and of a second one that has nothing to do."""
    out = f"s3://{BUCKET}/{sources}/dataset"
    with tempfile.TemporaryDirectory() as folder:
        specs = {f"s{n}": {**GOOD, "duration_s": 20.0 + n % 7, "seed": n} for n in range(sources)}
        for file in write_sources(Path(folder), **specs).iterdir():
            boto3.client("s3").upload_file(str(file), BUCKET, f"{sources}/videos/{file.name}")
    stages = {k: v for k, v in WORKFLOW.stages.items() if k != "toy_packing"}
    job = Job(out, resolve(WORKFLOW.model_copy(update={"stages": stages})), policy(), in_process=True)
    count.taken()
    run(job, LocalEngine(), expand([f"s3://{BUCKET}/{sources}/videos/"]))
    first = count.taken()
    run(job, LocalEngine(), [])
    return {"first_run": first, "nothing_to_do": count.taken()}
