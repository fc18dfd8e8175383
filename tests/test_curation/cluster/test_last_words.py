"""A process that ends inside the block says so; one that leaves it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import ROOT

from curation.cluster.last_words import SAID

SCRIPT = "import os, signal\nfrom curation.cluster.last_words import last_words\nwith last_words():\n    {}"


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("pass", False), ("os._exit(3)", True), ("os.kill(os.getpid(), signal.SIGKILL)", True),
        ("raise SystemExit('its own words')", False),
    ],
)  # fmt: skip
def test_who_ends_without_a_word_has_last_words(does: str, says: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(does)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (SAID in ended.stderr) == says
