"""What the trainer's opening of a manifest costs: memory and CPU by the number of its rows, up to 31 million.

    python benchmarks/manifest_rows.py --rows N [--label now] [--json FILE] [--dataset DIR]

The manifest is made as wide as packing leaves it (`made_manifest.py`), its shards are empty. Each part runs in a
process of its own, all its threads counted: `open` makes the table of samples, `where` that of a selection, `loader` a
loader as a run does, with the fingerprints of data and order. With the loader, `lookups` reads 10,000 rows at random by
their ids, and `epoch` makes the order of one epoch of batches of 64 and draws from all over it. `peak_mib` is the most
memory held so far, `start_mib` what imports hold, `held_bytes_row` what is held after the work, a row; `cpu_s` is
without the start.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
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
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--label", default="now")
    parser.add_argument("--dataset", type=Path, help="directory of a manifest that is there, or is kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--do", nargs=2, help="one part and the file for its figures, in this process")
    given = parser.parse_args()
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
            found[name] = measured(name, root, given, Path(scratch) / "figures.json")
            print(name, found[name], flush=True)
    former = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    rows = former.get(given.label, {})
    rows[str(given.rows)] = rows.get(str(given.rows), {}) | found
    record.write(given.json, former | record.today_here() | {given.label: rows})


def measured(name: str, root: Path, given: argparse.Namespace, file: Path) -> dict[str, Any]:
    """Run a part in a process of its own; how it ended, where it did not end well."""
    command = [sys.executable, __file__, "--rows", str(given.rows), "--dataset", str(root), "--do", name, str(file)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        return {"failed": (ended.stderr.strip().splitlines() or [f"ended by signal {-ended.returncode}"])[-1][:200]}
    return dict(json.loads(file.read_text()))


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
THEN = {"lookups": _lookups, "epoch": _epoch}
"""What is done with the loader, in its process."""


if __name__ == "__main__":
    main()
