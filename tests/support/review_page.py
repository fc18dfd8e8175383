"""The review as a person has it: served from this process, in a real browser."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from browser import Page, browser, path_of_browser

from curation import Dataset
from curation.review.guard import Guard
from curation.review.server import serving

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(path_of_browser() is None, reason="no Chromium on the path"),
]


@contextlib.contextmanager
def listening(data: Dataset) -> Iterator[str]:
    """Serve a dataset to the author `ann`; gives the address."""
    with serving(data, Guard("127.0.0.1", None), 0, "ann") as found:
        thread = threading.Thread(target=found.server.serve_forever)
        thread.start()
        try:
            yield found.url
        finally:
            found.server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for a module's tests."""
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(one: Page) -> Iterator[Page]:
    """The browser at 1440 px; a test ends without an error in its console."""
    one.size(1440, 1000)
    one.errors.clear()
    yield one
    assert one.errors == []
    one.open("about:blank")
