"""A fault at requests of the commands that write a dataset on object storage, and what is left after the same again.

    PYTHONPATH=tests/support python benchmarks/faults_s3.py [--only run,decide,forget] [--points 12] [--json FILE]

Two toy sources, packed as samples, on an S3-speaking server behind one that goes wrong (`tests/support/faulty_s3.py`):
at request n it answers 503, cuts the connection before or after the request is done, sends half of the answer, answers
after 8 s, or answers 503 from then on. The same command runs again, unhurt: `same` counts those after which every
result has the bytes of a run without a fault and `lpm verify` the same root; `went_on` those in which the first command
came to its end none the less; the rest ended with a sentence. `--points` are spread evenly over the requests of each
command. The results go under `s3` into the file, beside what it has.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import record
from faulty_s3 import FAULTS, FaultyS3
from moto.server import ThreadedMotoServer
from s3_sweep import BUCKET, OPERATIONS, S3Sweep, point


def swept(sweep: S3Sweep, points: int) -> dict[str, Any]:
    """Return what became of faults of each kind at so many requests."""
    out: dict[str, Any] = {"requests": sweep.requests}
    wrong: list[str] = []
    every = max(1, sweep.requests // points)
    for number, fault in enumerate(FAULTS):
        tried: Counter[str] = Counter()
        for at in range(1 + number * every // len(FAULTS), sweep.requests + 1, every):
            how, bad = sweep.wrong(fault, at)
            tried.update(["tried", *(["same"] if bad is None else []), *(["went_on"] if how == "went on" else [])])
            if bad is not None:
                wrong.append(f"{fault} at {at}: {bad}")
                print(wrong[-1], flush=True)
        out[fault] = {name: tried[name] for name in ("tried", "same", "went_on")}
        print(fault, out[fault], flush=True)
    return {**out, "wrong": wrong}


def main() -> None:
    """Go through the commands."""
    parser = record.parser(__doc__)
    parser.add_argument("--only", default=",".join(o.name for o in OPERATIONS))
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    upstream = "http://{}:{}".format(*store.get_host_and_port())
    there = given.json is not None and given.json.exists()
    found: dict[str, Any] = json.loads(given.json.read_text(encoding="utf-8")) if there else {}
    with FaultyS3(upstream) as server:
        point(server)
        boto3.client("s3", endpoint_url=upstream).create_bucket(Bucket=BUCKET)
        for operation in OPERATIONS:
            if operation.name in given.only.split(","):
                result = swept(S3Sweep(operation, server, upstream), given.points)
                print(operation.name, result, flush=True)
                found["s3"] = found.get("s3", {}) | record.today_here() | {operation.name: result}
                record.write(given.json, found)
    store.stop()


if __name__ == "__main__":
    main()
