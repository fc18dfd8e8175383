"""The demo from an installed wheel, from its beginning to its end: nothing of the checkout is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from speech_media import need

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_of_a_wheel_ends_well_and_shows_what_came_out(tmp_path: Path) -> None:
    need("obama_speech.mp4", "whisper_base")
    pip = (sys.executable, "-m", "pip")
    # Built from a copy: what builds a wheel writes beside its sources, and another test may do so now.
    copy = tmp_path / "copy"
    for part in ("schemas", "curation", "annotators", "stages", "workflows", "lpm_train"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, copy / part)
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, copy], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", site, wheel], check=True)
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "workflows.cli", "demo"],
        cwd=work, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(site), "COLUMNS": "160", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "samples in 1 shards" in done.stdout and ".speak.flac" in done.stdout and "caption" in done.stdout
    assert (work / "demo" / "dataset" / "report" / "index.html").is_file()
    assert list((work / "demo" / "dataset" / "report" / "clips").glob("*.mp4"))
