"""Ctrl-C in phases of `lpm run`: how to go on is said, no process is left, nothing is lost, the next run ends it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import waits
import yaml
from command_line import ROOT, SUPPORT
from engine_case import GOOD, by_name
from toy import POLICY, write_sources


def left_running(mark: str) -> list[str]:
    """Return the processes whose environment holds a mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ().get("OPENLPM_TOY_WAIT", ""):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def begun(arguments: list[str], place: str, file: Path) -> subprocess.Popen[str]:
    """Begin a command in a group of its own, as a shell does, and wait until it waits."""
    env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{ROOT}", "OPENLPM_TOY_WAIT": f"{place}:{file}", "COLUMNS": "200"}
    # Who was himself started without an ear for Ctrl-C (by `&` in a script, say) would hand that on.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "workflows.cli", *arguments], env=env, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, heard)
    while not file.exists() and process.poll() is None:
        time.sleep(0.02)
    return process


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("engine", "place"),
    [
        *(("local", place) for place in ("models", "windows", "dataset")),
        *(pytest.param("ray", place, marks=pytest.mark.slow) for place in ("models", "windows")),  # then Ray is gone
    ],
)
def test_ctrl_c_says_how_to_go_on_and_loses_nothing(tmp_path: Path, engine: str, place: str) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "n": 2})
    out, spec, rules = tmp_path / "out", tmp_path / "toy.yaml", tmp_path / "policy.yaml"
    spec.write_text(yaml.safe_dump(waits.workflow().model_dump(mode="json"), sort_keys=False))
    rules.write_text(yaml.safe_dump(POLICY))
    arguments = [
        "run", str(folder), "--out", str(out), "--engine", engine, "--workflow", str(spec), "--policy", str(rules),
    ]  # fmt: skip
    with begun(arguments, place, tmp_path / "waits") as process:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130, said
    assert "Traceback" not in said and ".cc:" not in said, said  # nor what Ray's own code writes
    told = said.strip().splitlines()[-1]
    assert told.startswith(f"lpm: stopped; finished work is kept; go on with: lpm run --out {out}"), said
    for _ in range(100):
        if not left_running(str(tmp_path)):
            break
        time.sleep(0.1)
    assert not left_running(str(tmp_path))
    ended = [json.loads(p.read_text())["outcome"] for p in out.glob("runs/*/outcome.json")]
    assert [o.partition(":")[0] for o in ended] == ["KeyboardInterrupt"]
    committed = {p: p.read_bytes() for p in out.glob("commits/*/*/*.json") if '"begun"' not in p.read_text()}
    assert bool(committed) == (place != "models")
    again = shlex.split(told.partition("go on with: lpm ")[2].partition(" (`")[0])
    if engine == "ray":
        again += ["--engine", "local"]  # quicker, and it is all the same
    with begun(again, place, tmp_path / "waits") as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert {n: o for n, (o, _, _) in by_name(out).items()} == {"a.mp4": "kept", "b.mp4": "kept"}
    assert all(p.read_bytes() == data for p, data in committed.items()), "what was done is not done again"
