"""What the number of sources costs: time, CPU and memory of what goes over all of them, up to a million.

    python benchmarks/many_sources.py --sources N [--per-source 20] [--label now] [--json FILE] [--dataset DIR]

A dataset has 256 buckets by the first two digits of its sources' ids, and what goes over sources goes bucket by bucket.
So the tables and commits of one bucket are written, as a run of `conversation` leaves them, with as many sources as a
bucket has in a dataset of N (3906 of a million); a whole dataset costs 256 times that, in time and CPU. What does not
go bucket by bucket is measured with all N: `list` expands a folder of N files and registers them, `list-again` does so
when all are registered, as every start of a run does, `inventory` reads the registry as a start does, and `open-media`
looks up whether a source's file is still what was registered, for OPENED of them.

Each operation runs in a process of its own: `cpu_ms` and `wall_ms` are those of one source, the start of Python and its
imports taken off (`start_s`; the stages' too, of what may need them); `peak_mib` is the most memory held, and
`start_mib` what is held before the operation. `asked` is how many files were opened, looked for or listed for one
source by the store itself (DuckDB's own reads are not among them). `plan` finds that a finished dataset has nothing to
do, just after its tables were gathered; `plan-anew` does so without what is kept of its progress, as another setting or
model leaves it. `compact` gathers all small files, `decide` applies another policy, `verify` looks at the tables alone,
`pack-dry-run` joins what would be packed, and `dataset-steps` finds out whether the stages over the whole dataset have
something to do. `grows` names the operations whose CPU of a source is more than 1.2 times that of the next smaller
size.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import record
import scale

from curation.engine import dataset_step
from curation.engine.fetch import MediaCache
from curation.engine.register import expand, register
from curation.engine.run import Job, plan, registered
from curation.engine.workflow import resolve
from curation.storage.registry import read_registry
from curation.storage.store import Store
from workflows import catalog, cli

BUCKETS = 256
GROWS = 1.2
OPENED = 100
"""Sources whose files are opened: a worker does it for each, by and by."""
FRAMES_A_SEGMENT = 100
"""Rows of speaker scores for a segment of four seconds, at 25 Hz."""
IN_ALL = ("list", "list-again", "inventory", "open-media")
"""Operations on all sources; the others are on one bucket's."""
WITH_STAGES = ("plan-small-files", "plan", "plan-anew", "dataset-steps", "decide", "pack-dry-run")
"""Operations that import the stages, once whatever the number of sources."""


def main() -> None:
    """Make a bucket, measure each operation, and put the figures into the file under label and size."""
    parser = record.parser(__doc__)
    parser.add_argument("--sources", type=int, required=True)
    parser.add_argument("--per-source", type=int, default=20)
    parser.add_argument("--only", default=",".join(OPERATIONS))
    parser.add_argument("--label", default="now")
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--do", nargs=2, help="one operation and the file for its figures, in this process")
    given = parser.parse_args()
    if given.do:
        do(given.do[0], given.dataset, Path(given.do[1]))
        return
    in_bucket = max(2, round(given.sources / BUCKETS))
    with tempfile.TemporaryDirectory(prefix="lpm-many-") as temporary:
        scratch = Path(temporary)
        root = given.dataset or scratch / "dataset"
        if not root.exists():
            segments = in_bucket * given.per_source
            scale.make(root, segments, segments * FRAMES_A_SEGMENT, given.per_source, buckets=1, gather=False)
        found: dict[str, Any] = {"in_bucket": in_bucket}
        for name in given.only.split(","):
            where = root
            if name in IN_ALL:
                where = scratch / "files"
                _make_files(where, given.sources)
            if name in READY:
                READY[name](where)
            found[name] = measured(
                name,
                where,
                given.sources,
                OPENED if name == "open-media" else given.sources if name in IN_ALL else in_bucket,
                scratch,
            )
            print(name, found[name], flush=True)
    former = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    rows = former.get(given.label, {})
    rows[str(given.sources)] = rows.get(str(given.sources), {}) | found
    label = {given.label: rows, f"{given.label} grows": grows({n: r for n, r in rows.items() if n.isdigit()})}
    record.write(given.json, former | record.today_here() | label)


def grows(sizes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return, by size, the operations whose CPU of a source is more than GROWS times that of the next smaller size."""
    found: dict[str, dict[str, float]] = {}
    for small, large in pairwise(sorted(sizes, key=int)):
        both = sizes[small].keys() & sizes[large].keys() - {"in_bucket"}
        ratios = {n: round(sizes[large][n]["cpu_ms"] / max(sizes[small][n]["cpu_ms"], 0.001), 2) for n in sorted(both)}
        found[large] = {name: ratio for name, ratio in ratios.items() if ratio > GROWS}
    return found


def _make_files(folder: Path, n: int) -> None:
    """Make a folder of so many files that differ, once."""
    if not folder.exists():
        folder.mkdir()
        for i in range(n):
            (folder / _name(i)).write_text(str(i))


def _name(i: int) -> str:
    return f"video-{i:07d}.mp4"


def measured(name: str, where: Path, sources: int, went_over: int, scratch: Path) -> dict[str, float]:
    """Run an operation in a process of its own and return what it took of each source that it went over."""
    file = scratch / "figures.json"
    command = [sys.executable, __file__, "--sources", str(sources), "--dataset", str(where), "--do", name, str(file)]
    subprocess.run(command, check=True)
    took: dict[str, float] = json.loads(file.read_text())
    each = {f"{kind}_ms": round(1000 * took.pop(f"{kind}_s") / went_over, 3) for kind in ("cpu", "wall")}
    return each | {"asked": round(took.pop("asked") / went_over, 2)} | took


def do(name: str, where: Path, file: Path) -> None:
    """Do one operation and write down what it took."""
    asked = _counted()
    if name in WITH_STAGES:
        for resolved in resolve(catalog.workflow("conversation")).stages:
            resolved.provenance()
    start_s, start_mib = _cpu_s(), _peak_mib()
    wall = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        OPERATIONS[name](where)
    figures = {
        "cpu_s": _cpu_s() - start_s, "wall_s": time.perf_counter() - wall, "peak_mib": _peak_mib(),
        "start_s": round(start_s, 2), "start_mib": start_mib, "asked": asked.total(),
    }  # fmt: skip
    file.write_text(json.dumps(figures))


def _counted() -> Counter[str]:
    """Have all stores count from now on what they ask of the file system."""
    asked: Counter[str] = Counter()
    begin = Store.__init__

    def counting(store: Store, uri: str) -> None:
        begin(store, uri)
        real = store._fs
        store._fs = store.compacted._fs = _Asked(real, asked)  # type: ignore[assignment]
        store.filesystem = lambda: real  # type: ignore[method-assign]

    Store.__init__ = counting  # type: ignore[method-assign]
    return asked


class _Asked:
    """A file system that counts what is asked of it."""

    def __init__(self, real: Any, asked: Counter[str]) -> None:
        self._real, self._asked = real, asked

    def __getattr__(self, name: str) -> Any:
        self._asked[name] += 1
        return getattr(self._real, name)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage would count the parent's before it started
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


def _list(folder: Path) -> None:
    register(Store(str(folder.parent / "listed")), expand([str(folder)]))


def _inventory(folder: Path) -> None:
    assert registered(read_registry(Store(str(folder.parent / "listed"))))


def _plan(root: Path) -> None:
    job = Job(str(root), resolve(catalog.workflow("conversation")), catalog.policy("default"))
    work = plan(job, read_registry(Store(str(root))))
    assert not work, f"{len(work)} sources have something to do"


def _just_gathered(root: Path) -> None:
    """Leave the tables' folders as if files had just been gathered there, once."""
    for folder in root.glob("tables/*/bucket=*"):
        os.utime(folder)


def _dataset_steps(root: Path) -> None:
    job = Job(str(root), resolve(catalog.workflow("conversation")), catalog.policy("default"))
    stepper = job.stepper()
    for resolved in job.pipeline.dataset:
        live = dataset_step._live_units(stepper)
        assert dataset_step._sources(stepper, resolved, live["sources"])[0]


def _open_media(folder: Path) -> None:
    store = Store(str(folder.parent / "listed"))
    cache, n = MediaCache(store), sum(1 for _ in os.scandir(folder))
    for i in range(0, n, max(1, n // OPENED)):
        cache.local(str(folder / _name(i)), hashlib.sha256(str(i).encode()).hexdigest()[:16])


def _command(*words: str) -> Callable[[Path], None]:
    def run(root: Path) -> None:
        try:
            cli.main([words[0], str(root), *words[1:]])
        except SystemExit as e:
            if e.code not in (None, 0, 1):  # 1: `verify` misses the shards, which nobody made
                raise RuntimeError(f"{words[0]} ended with {e.code}") from e

    return run


OPERATIONS: dict[str, Callable[[Path], None]] = {
    "list": _list,
    "list-again": _list,
    "inventory": _inventory,
    "open-media": _open_media,
    "plan-small-files": _plan,
    "compact": _command("compact"),
    "plan": _plan,
    "plan-anew": _plan,
    "dataset-steps": _dataset_steps,
    "decide": _command("decide", "--policy", str(Path(__file__).with_name("measure_all.yaml"))),
    "status": _command("status"),
    "query": _command("query", "SELECT state, count(*) FROM segments GROUP BY state"),
    "pack-dry-run": _command("pack", "--dry-run"),
    "verify": _command("verify", "--tables"),
}

READY: dict[str, Callable[[Path], None]] = {
    "plan": _just_gathered,
    "plan-anew": lambda root: shutil.rmtree(root / "progress", ignore_errors=True),
}
"""What is done to a dataset before an operation."""


if __name__ == "__main__":
    main()
