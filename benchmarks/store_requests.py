"""Requests that a run makes of an object store, counted by the server: all of a first run, and of one with no work.

    PYTHONPATH=tests/support python benchmarks/store_requests.py [--sources 4,16] [--json FILE] [--label now]

Toy sources of 20 to 26 s (six or seven windows, two people, some segments) go through the toy stages, from and to an
S3-speaking server on this machine, stages in this process. `a_source` is what one more source costs: the difference
between two sizes, a source. Prices and delays of a store multiply these counts; they depend on no clock.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import record
from engine_case import GOOD, policy
from moto.server import ThreadedMotoServer
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


def main() -> None:
    """Count, and put the figures into a file under the label."""
    parser = record.parser(__doc__)
    parser.add_argument("--sources", default="4,16")
    parser.add_argument("--label", default="now")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    sizes = [int(n) for n in given.sources.split(",")]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://{host}:{port}", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x",
        AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    count, log = Counting(), logging.getLogger("werkzeug")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [count]
    by_size: dict[int, Any] = {n: counted(n, count) for n in sizes}
    small, large = by_size[sizes[0]], by_size[sizes[-1]]
    more = sizes[-1] - sizes[0]
    found: dict[str, Any] = {str(n): kinds for n, kinds in by_size.items()}
    found["a_source"] = {k: round((large[k]["all"] - small[k]["all"]) / more, 1) for k in large} if more else None
    server.stop()
    before = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    record.write(given.json, before | record.today_here() | {given.label: found})


if __name__ == "__main__":
    main()
