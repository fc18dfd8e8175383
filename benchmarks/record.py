"""What every benchmark says about its run, and how its result is written; part of the programs beside it."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

MEDIA = Path(os.environ.get("OPENLPM_TEST_MEDIA", Path(__file__).resolve().parents[2] / "shared" / "media"))
"""The footage with ground truth, where no other directory is named."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the program's own opening words, as they are laid out."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def today_here() -> dict[str, str]:
    """Return the date and, in words, the machine."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    }


def accelerator(gpu: str | None) -> dict[str, str]:
    """Return the date and what the figures of a trainer's benchmark were measured on: a GPU by name, or one thread."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": gpu or f"CPU, 1 thread, load {os.getloadavg()[0]:.1f}",
        "gpu": "measured" if gpu else "no GPU here: the 1.3 B configuration is not measured",
    }


def as_json(result: Any) -> str:
    """Return a result as indented JSON with a line end, as the files in `results` are."""
    return json.dumps(result, indent=1) + "\n"


def write(file: Path | None, result: Any) -> None:
    """Write a result where a file was asked for."""
    if file is not None:
        file.write_text(as_json(result), encoding="utf-8")
