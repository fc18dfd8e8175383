"""Requests that a run makes of an object store, counted by the server: all of a first run, and of one with no work.

    PYTHONPATH=tests/support python benchmarks/store_requests.py [--sources 4,16] [--json FILE] [--label now]

Toy sources of 20 to 26 s (six or seven windows, two people, some segments) go through the toy stages, from and to an
S3-speaking server on this machine, stages in this process. `a_source` is what one more source costs: the difference
between two sizes, a source. Prices and delays of a store multiply these counts; they depend on no clock.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import boto3
import record
from moto.server import ThreadedMotoServer
from store_counts import BUCKET, Counting, counted


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
    count = Counting()
    count.listen()
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
