"""What the trainer's opening of a manifest costs: memory and CPU by the number of its rows, up to 31 million.

    python benchmarks/manifest_rows.py --rows N [--label now] [--json FILE] [--dataset DIR] [--processes 4]

The manifest is made as wide as packing leaves it (`made_manifest.py`), its shards are empty. Each part runs in a
process of its own, all its threads counted: `open` makes the table of samples, `where` that of a selection, `loader` a
loader as a run does, with the fingerprints of data and order. With the loader, `lookups` reads 10,000 rows at random by
their ids, and `epoch` makes the order of one epoch of batches of 64 and draws from all over it. `peak_mib` is the most
memory held so far, `start_mib` what imports hold, `held_bytes_row` what is held after the work, a row; `cpu_s` is
without the start.

A node's sum is of `--processes` that open a loader at once, as ranks of one machine do: `node-apart` where each holds
its own columns, `node-shared` with an empty cache folder, `node-again` when the files are there. `pss_mib` is the sum
of what is resident when all are open, pages that several map counted once, and `anonymous_mib` what of it is no page of
a file, so that the system cannot take it back; `highest_mib` the highest sum seen in between, `start_mib` the sum
before, and `cpu_s` all processes' work without the start.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_manifest
import numpy as np
import pyarrow as pa
import record

from lpm_train.config import Data
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.data.shards import Shards
from lpm_train.encoders.audio import LogMel
from lpm_train.encoders.codec import PatchCodec
from lpm_train.encoders.text import HashedWords

LOOKUPS = 10_000
BATCH = 64
WHERE = "state = 'listen' AND duration_s >= 4"


def main() -> None:
    """Make a manifest, measure each part, and put the figures into the file under label and size."""
    parser = record.parser(__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--only", default=",".join((*PARTS, *NODE)))
    parser.add_argument("--label", default="now")
    parser.add_argument("--dataset", type=Path, help="directory of a manifest that is there, or is kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--do", nargs=2, help="one part and the file for its figures, in this process")
    given = parser.parse_args()
    if given.do and given.do[0] == "wait":
        waiting(given.dataset)
        return
    if given.do:
        Path(given.do[1]).write_text(json.dumps(do(given.do[0], given.dataset)))
        return
    with tempfile.TemporaryDirectory(prefix="lpm-rows-") as scratch:
        root = given.dataset or Path(scratch) / "dataset"
        if not (root / "manifest.parquet").exists():
            made_manifest.write(root, given.rows)
        size = (root / "manifest.parquet").stat().st_size
        found: dict[str, Any] = {"manifest_bytes_row": round(size / given.rows, 1)}
        for name in given.only.split(","):
            if name in NODE:
                found[name] = node(name, root, given.processes, Path(scratch) / "cache")
            else:
                found[name] = measured(name, root, given, Path(scratch) / "figures.json")
            print(name, found[name], flush=True)
            _written(given, found)


def _written(given: argparse.Namespace, found: dict[str, Any]) -> None:
    former = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    rows = former.get(given.label, {})
    rows[str(given.rows)] = rows.get(str(given.rows), {}) | found
    record.write(given.json, former | record.today_here() | {given.label: rows})


def measured(name: str, root: Path, given: argparse.Namespace, file: Path) -> dict[str, Any]:
    """Run a part in a process of its own; how it ended, where it did not end well."""
    command = [sys.executable, __file__, "--rows", str(given.rows), "--dataset", str(root), "--do", name, str(file)]
    own = os.environ | {"OPENLPM_CACHE": str(file.parent / f"cache-{name}")}  # nothing is there yet
    ended = subprocess.run(command, capture_output=True, text=True, env=own)
    if ended.returncode:
        return {"failed": (ended.stderr.strip().splitlines() or [f"ended by signal {-ended.returncode}"])[-1][:200]}
    return dict(json.loads(file.read_text()))


def waiting(root: Path) -> None:
    """Open a loader when told to, say so with the CPU seconds that it took, and hold it until the end of the input."""
    print("started", flush=True)
    sys.stdin.readline()
    start = _cpu_s()
    with _loader(root) as loader:
        gc.collect()
        pa.default_memory_pool().release_unused()
        print(json.dumps({"rows": len(loader.shards), "cpu_s": _cpu_s() - start}), flush=True)
        sys.stdin.read()


def node(name: str, root: Path, processes: int, cache: Path) -> dict[str, Any]:
    """Open a loader in so many processes at once and add up what they hold."""
    if name == "node-shared":
        shutil.rmtree(cache, ignore_errors=True)
    # A file in the folder's place: nothing can be written there.
    given = os.environ | {"OPENLPM_CACHE": str(cache if name != "node-apart" else root / "manifest.parquet")}
    command = [sys.executable, __file__, "--rows", "0", "--dataset", str(root), "--do", "wait", ""]
    running = [
        subprocess.Popen(
            command, env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for _ in range(processes)
    ]
    try:
        for one in running:
            _said(one)
        start, highest, done = _sum(running)["Pss"], 0.0, threading.Event()

        def watched() -> None:
            nonlocal highest
            while not done.wait(0.2):
                highest = max(highest, _sum(running)["Pss"])

        watch = threading.Thread(target=watched)
        watch.start()
        for one in running:
            one.stdin.write("go\n")  # type: ignore[union-attr]
            one.stdin.flush()  # type: ignore[union-attr]
        said = [json.loads(_said(one)) for one in running]
        done.set()
        watch.join()
        held = _sum(running)
    finally:
        for one in running:
            one.kill()
            one.wait()
    return {
        "processes": processes, "rows": said[0]["rows"], "pss_mib": round(held["Pss"], 1),
        "anonymous_mib": round(held["Pss_Anon"], 1), "highest_mib": round(max(highest, held["Pss"]), 1),
        "start_mib": round(start, 1), "cpu_s": round(sum(s["cpu_s"] for s in said), 2),
    }  # fmt: skip


def _said(one: subprocess.Popen[str]) -> str:
    line = one.stdout.readline()  # type: ignore[union-attr]
    if not line:
        raise SystemExit("a process ended before it was open: run the part `loader` to see why")
    return line


def _sum(running: list[subprocess.Popen[str]]) -> dict[str, float]:
    """Return what processes hold in MiB; a page that several map is counted once."""
    out = {"Pss": 0.0, "Pss_Anon": 0.0}
    for one in running:
        for line in Path(f"/proc/{one.pid}/smaps_rollup").read_text().splitlines():
            name, *rest = line.split()
            if name.rstrip(":") in out:
                out[name.rstrip(":")] += int(rest[0]) / 1024
    return out


def do(name: str, root: Path) -> dict[str, Any]:
    """Do one part and return what it took."""
    start, start_mib = _cpu_s(), _resident_mib()
    kept = PARTS[name](root)
    figures: dict[str, Any] = {"cpu_s": round(_cpu_s() - start, 2)}
    gc.collect()
    pa.default_memory_pool().release_unused()
    shards = kept.shards if isinstance(kept, Loader) else kept
    held = (_resident_mib() - start_mib) * 2**20 / len(shards)
    figures |= {"rows": len(shards), "held_bytes_row": round(held, 1), "peak_mib": _peak_mib(), "start_mib": start_mib}
    for then, work in THEN.items():
        if isinstance(kept, Loader):
            start = _cpu_s()
            work(kept)
            figures[then] = {"cpu_s": round(_cpu_s() - start, 2), "peak_mib": _peak_mib()}
    return figures


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage would count the parent's before it started
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def _loader(root: Path) -> Loader:
    data = Data(
        root=str(root), batch=BATCH, frames=72, height=256, width=256, more_sizes=((120, 256, 256),), min_kept=0.0,
        upscale=True,
    )  # fmt: skip
    loader = Loader(data, Encoders(codec=PatchCodec((4, 8, 8)), audio=LogMel(2, 16), text=HashedWords(8, 12)))
    loader.state()
    return loader


def _lookups(loader: Loader) -> None:
    shards = loader.shards
    at = np.random.default_rng(0).integers(0, len(shards), LOOKUPS)
    names = [shards.ids[int(i)] for i in at]
    assert all(shards[name].segment_id == name and shards[name].caption for name in names)


def _epoch(loader: Loader) -> None:
    order = loader.order
    batches = len(order.schedule(1))
    for cursor in np.linspace(0, batches - 1, 100).astype(int).tolist():
        assert len(order.batch(1, cursor)) == BATCH


PARTS: dict[str, Callable[[Path], Shards | Loader]] = {
    "open": Shards,
    "where": lambda root: Shards(root, WHERE),
    "loader": _loader,
}
NODE = ("node-apart", "node-shared", "node-again")
THEN = {"lookups": _lookups, "epoch": _epoch}
"""What is done with the loader, in its process."""


if __name__ == "__main__":
    main()
