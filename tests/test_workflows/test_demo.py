"""The demo's script from its beginning to its end, as `make demo` calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from speech_media import need

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_ends_well_and_shows_what_came_out(tmp_path: Path) -> None:
    need("obama_speech.mp4", "whisper_base")
    lpm = Path(sys.executable).with_name("lpm")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", str(ROOT / "workflows" / "demo.sh"), str(lpm)],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "samples in 1 shards" in done.stdout and ".speak.flac" in done.stdout and "caption" in done.stdout
    assert (tmp_path / "demo" / "dataset" / "report" / "index.html").is_file()
