"""Benchmarks are programs that no other test starts: those that make what they measure run through on very little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LITTLE = {
    "scale": ("--segments", "400", "--asd-rows", "800", "--segments-per-source", "200"),
    "many_sources": ("--sources", "4"),
    "manifest_rows": ("--rows", "2000", "--processes", "2"),
    "store_requests": ("--sources", "1"),
    "step_cost": ("--sources", "1"),
    "loader": ("--samples", "16", "--rounds", "1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LITTLE)
def test_a_benchmark_runs_through_and_writes_figures(name: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, f"benchmarks/{name}.py", *LITTLE[name], "--json", str(figures)]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(figures.read_text(encoding="utf-8"))
