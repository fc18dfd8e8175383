"""What each extra costs: a fresh environment for each, plain pip, a wheel built from this tree.

    python benchmarks/install.py [--constraint FILE] [--extras core,curate,...] [--json FILE]
    python benchmarks/install.py --pinned [--json FILE]

Counts distributions and MiB of site-packages (torch and CUDA apart, as their size is the machine's choice), names the
OpenCV builds, runs `pip check`, imports what the extra is for, and says how much CPU that takes as a multiple of
`import numpy` in the same environment (the least of five). A constraint file picks torch's build, and nothing else.

With `--pinned` the two environments of the Makefile instead, one after the other from nothing and without pip's cache:
how large they are, and how long the full one takes as a multiple of the small one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = {
    "core": "workflows.cli",
    "s3": "workflows.cli",
    "curate": "stages.scan.scan, stages.speech.speech, stages.speech.active_speaker, "
    "stages.references.embedding, stages.packing.packing, curation.report",
    "train": "lpm_train.session, lpm_train.data.loader, lpm_train.tools.stream_files",
    "ray": "curation.cluster.engine_ray",
    "encoders": "lpm_train.session, diffusers, transformers",
    "all": "curation.cluster.engine_ray, stages.scan.scan, stages.speech.speech, lpm_train.session",
}
CPU = "import resource as r; u = r.getrusage(r.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"


def run(*command: str | Path) -> str:
    """Run a command away from this tree and return its output; its errors end the benchmark."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def mib(folder: Path, *names: str) -> float:
    """Return the size of a folder's files, or of those whose first part below it begins with one of the names."""
    files = (f for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
    wanted = (f for f in files if not names or f.relative_to(folder).as_posix().startswith(names))
    return sum(f.stat().st_size for f in wanted) / 2**20


def cpu_s(python: Path, modules: str) -> float:
    """Return the CPU seconds of a process that imports modules, the least of five."""
    return min(float(run(python, "-c", f"import {modules}\n{CPU}")) for _ in range(5))


def measure(extra: str, wheel: Path, folder: Path, constraint: Path | None) -> dict[str, Any]:
    """Install one extra into an environment of its own and measure it."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    chosen = ["-c", constraint] if constraint else []
    run(*pip, "install", "--quiet", *chosen, str(wheel) if extra == "core" else f"{wheel}[{extra}]")
    names = [d["name"] for d in json.loads(run(*pip, "list", "--format", "json"))]
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    torch = mib(site, "torch", "nvidia", "triton", "functorch")
    start, numpy = cpu_s(python, "sys"), cpu_s(python, "numpy")
    return {
        "distributions": len(names),
        "mib_without_torch": round(mib(site) - torch),
        "mib_torch": round(torch),
        "opencv": [n for n in names if n.startswith("opencv")],
        "pip_check": run(*pip, "check").strip(),
        "imports": IMPORTS[extra],
        "import_over_numpy": round((cpu_s(python, IMPORTS[extra]) - start) / (numpy - start), 1),
    }


def measure_pinned(target: str, variable: str, folder: Path) -> dict[str, Any]:
    """Let the Makefile build one of its environments elsewhere, and measure it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        ["make", "--no-print-directory", target, f"{variable}={folder}"], cwd=ROOT, check=True, stdout=sys.stderr,
        env={**os.environ, "PIP_NO_CACHE_DIR": "1"},
    )  # fmt: skip
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    names = [d["name"] for d in json.loads(run(*pip, "list", "--format", "json"))]
    (site,) = folder.glob("lib/python*/site-packages")
    torch = mib(site, "torch/", "nvidia", "triton", "functorch")
    return {
        "distributions": len(names),
        "mib_without_torch": round(mib(site) - torch),
        "mib_torch": round(torch),
        "minutes": round(wall_s / 60, 1),
        "cpu_minutes": round((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60, 1),
        "opencv": [n for n in names if n.startswith("opencv")],
    }


def pinned(folder: Path) -> dict[str, Any]:
    """Measure both environments of the Makefile, the small one first."""
    small = measure_pinned("setup", "VENV", folder / "small")
    full = measure_pinned("setup-full", "FULL", folder / "full")
    for clock in ("minutes", "cpu_minutes"):
        full[f"{clock}_over_small"] = round(full[clock] / small[clock], 2)
    return {"small": small, "full": full}


def measure_extras(extras: list[str], folder: Path, constraint: Path | None) -> dict[str, Any]:
    """Measure the extras of a wheel of this tree, and print each."""
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # a wheel takes what an earlier one left there
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    found = {}
    for extra in extras:
        found[extra] = measure(extra, wheel, folder / extra, constraint)
        print(extra, json.dumps(found[extra]), flush=True)
    return found


def main() -> None:
    """Measure the extras, or the pinned environments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constraint", type=Path, help="a file for pip's -c, to choose torch's build")
    parser.add_argument("--extras", default=",".join(IMPORTS))
    parser.add_argument("--pinned", action="store_true", help="measure `make setup` and `make setup-full` instead")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    constraint = given.constraint.absolute() if given.constraint else None
    with tempfile.TemporaryDirectory(prefix="install-") as folder:
        if given.pinned:
            found = pinned(Path(folder))
            print(json.dumps(found), flush=True)
        else:
            found = measure_extras(given.extras.split(","), Path(folder), constraint)
    record.write(given.json, found)


if __name__ == "__main__":
    main()
