"""What a killed process leaves behind is removed by the next one, and nothing that somebody holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_line import ROOT

from curation.runs.scratch import PREFIX, scratch, sweep

HOLDS = """
import subprocess, sys
from curation.runs.scratch import Scratch
made = Scratch("media")
(made.path / "half").write_text("x")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(made.fd,))
print(made.path, child.pid, flush=True)
input()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_a_folder_goes_when_its_last_holder_is_gone_however_that_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        path, child = process.stdout.readline().split()
        assert not sweep() and Path(path, "half").exists(), "it is held"
        process.kill()
        process.wait()
        assert not sweep() and Path(path, "half").exists(), "the child that was given it works on"
        os.kill(int(child), signal.SIGKILL)
        while Path(path).exists():
            sweep()
    (other := tmp_path / f"{PREFIX}of-another-program").mkdir()
    with scratch("pack") as made:
        assert made.name.startswith(f"{PREFIX}pack-") and other.exists() and not sweep()
    assert not made.exists() and not sweep()
