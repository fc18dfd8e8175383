"""Another Python, cheaply: an environment without pip, which sees what this one has installed."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path


def other_python(folder: Path) -> str:
    """Make an environment and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    _site(folder).joinpath("shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(folder / "bin" / "python")


def pretend(folder: Path, name: str, version: str) -> None:
    """Let an environment say that it has a package in another version."""
    info = _site(folder) / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def _site(folder: Path) -> Path:
    (site,) = folder.glob("lib/python*/site-packages")
    return site
