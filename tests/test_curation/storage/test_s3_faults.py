"""An object store that goes wrong in the middle of a command: it goes on, or says why; the same again is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from faulty_s3 import Fault, FaultyS3
from s3_sweep import OPERATIONS, S3Sweep

from curation.storage.writers import lease

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def sweep(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Sweep]:
    upstream = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setattr(lease, "TTL_S", lease.TTL_S)  # the sweep's own ends with it
    monkeypatch.setattr(lease, "POLL_S", lease.POLL_S)
    (decide,) = (o for o in OPERATIONS if o.name == "decide")
    with FaultyS3(upstream) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield S3Sweep(decide, server, upstream)


def test_a_fault_costs_nothing_that_the_same_command_does_not_mend(sweep: S3Sweep) -> None:
    faults: list[tuple[Fault, str]] = [("lost", "went on"), ("torn", "went on"), ("down", "said why")]
    for number, (fault, how) in enumerate(faults, start=1):
        assert sweep.wrong(fault, number * sweep.requests // 4) == (how, None), fault
