"""What a run asks of an object store is bounded: for each source, and where nothing is to be done. Counts, no times."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from store_counts import Counting, counted

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(300),
]
A_SOURCE = {"all": 125, "GET": 75, "HEAD": 12, "LIST": 12, "PUT": 42, "DELETE": 0}
"""At most for one source more, in six or seven windows: it took 730 once, of all kinds."""
NOTHING = {"all": 30, "GET": 12, "HEAD": 6, "LIST": 4, "PUT": 14, "DELETE": 0}
"""At most for a run with nothing to do, whatever the dataset holds."""


@pytest.fixture
def count() -> Iterator[Counting]:
    log = logging.getLogger("werkzeug")
    before = log.level, log.propagate, log.handlers
    counting = Counting()
    counting.listen()
    yield counting
    log.level, log.propagate, log.handlers = before


def test_requests_are_bounded(bucket: str, count: Counting) -> None:
    one, three = counted(1, count), counted(3, count)
    for kind, most in A_SOURCE.items():
        more = (three["first_run"].get(kind, 0) - one["first_run"].get(kind, 0)) / 2
        assert more <= most, (kind, more)
    for kind, most in NOTHING.items():
        assert max(one["nothing_to_do"].get(kind, 0), three["nothing_to_do"].get(kind, 0)) <= most, (kind, three)
