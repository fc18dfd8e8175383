"""Search by vectors in made manifests: seconds and memory of `lpm search`, and of an index beside it.

    python benchmarks/search.py [--samples 10000 100000 1000000] [--pairs 30000] [--index 30000] [--json FILE]

Each manifest holds vectors of 512 numbers in clusters of about fifty, as clips of one scene lie. `exact` is what the
command does: DuckDB over the Parquet file, in a process of its own; `first_s` is its first search, with the opening of
the dataset, `again_s` the median of four more with other vectors, `cpu_s` the median of CPU seconds on all cores, and
`peak_rss_mib` the most memory that it held. `pairs` is `--duplicates`, whose time grows with the square of the samples:
it is measured up to `--pairs` of them. `index` is that of `lpm search --index`, from `--index` samples on: CPU seconds
to build it, its size, and by the number of cells looked through CPU seconds of a search in a process of its own and the
share of the ten nearest that it finds; `pays_after` is how many searches make good its building.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import record

from curation import search, search_index
from curation.dataset import Dataset
from curation.search import Among, Wanted
from curation.storage.store import Store, table_file
from schemas.tables import MANIFEST

SIZE, CLUSTER, CHUNK, MODEL = 512, 50, 4096, "made"
F32 = npt.NDArray[np.float32]


def vectors(samples: int, first: int, n: int) -> F32:
    """Return the vectors of n samples from `first` on; those of one cluster are about 0.7 alike."""
    centres = np.random.default_rng(1).standard_normal((max(1, samples // CLUSTER), SIZE), dtype=np.float32)
    rng = np.random.default_rng((2, first))
    out = centres[rng.integers(0, len(centres), n)] + 0.65 * rng.standard_normal((n, SIZE), dtype=np.float32)
    return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)


def write(folder: Path, samples: int) -> None:
    """Write a dataset that is a manifest and nothing else."""
    store = Store(str(folder))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    empty = {c.name: pa.scalar(None, c.type) if c.nullable else _empty(c.type) for c in MANIFEST.columns}
    with pq.ParquetWriter(folder / table_file(MANIFEST), MANIFEST.schema, compression="zstd") as writer:
        for first in range(0, samples, CHUNK):
            n = min(CHUNK, samples - first)
            ids = [f"{i // 20:016x}-t0000-{i:09d}" for i in range(first, first + n)]
            flat = pa.array(vectors(samples, first, n).ravel())
            own = {
                "segment_id": pa.array(ids),
                "source_id": pa.array([i[:16] for i in ids]),
                "state": pa.array([("speak", "listen", "idle")[i % 3] for i in range(n)]),
                "caption": pa.array(
                    [f"Medium shot of a person in dark clothes listening silently ({i})." for i in ids]
                ),
                "vector": pa.ListArray.from_arrays(pa.array(np.arange(0, n * SIZE + 1, SIZE, dtype=np.int32)), flat),
                "vector_model": pa.array([MODEL] * n),
            }
            columns = [own.get(name, pa.array([value.as_py()] * n, value.type)) for name, value in empty.items()]
            writer.write_table(pa.Table.from_arrays(columns, schema=MANIFEST.schema))


def _empty(kind: Any) -> Any:
    value: Any = [] if pa.types.is_list(kind) else "" if pa.types.is_string(kind) else 0
    return pa.scalar(value, kind)


def exact(folder: Path, samples: int) -> dict[str, Any]:
    """Search a manifest five times."""
    asked = vectors(samples, 0, 5) + 0.02
    took, used = [], []
    for vector in asked:
        started, before_s = time.perf_counter(), time.process_time()
        found = search.nearest(Dataset(folder), Wanted(vector, MODEL), Among(), 20)
        took.append(time.perf_counter() - started)
        used.append(time.process_time() - before_s)
        assert found.num_rows == 20
    return {"first_s": round(took[0], 2), "again_s": round(median(took[1:]), 2), "cpu_s": round(median(used), 2)}


def pairs(folder: Path) -> dict[str, Any]:
    """Look for near duplicates in a manifest."""
    started = time.perf_counter()
    search.near_duplicates(Dataset(folder), 0.97, Among(), 20)
    return {"seconds": round(time.perf_counter() - started, 1), "cpu_s": round(time.process_time(), 1)}


def build(folder: Path) -> dict[str, Any]:
    """Build the index of a manifest."""
    made = search_index.build(Dataset(folder))
    cpu_s = time.process_time()
    return {
        "build_cpu_s": round(cpu_s, 1),
        "cells": len(made.centres),
        "mib": round((folder / search_index.CELLS).stat().st_size / 2**20),
    }


def index(folder: Path, samples: int) -> dict[str, Any]:
    """Search a manifest by its index, through so many cells: CPU seconds, and what of the ten nearest is found."""
    out: dict[str, Any] = {}
    asked = vectors(samples, 0, 5 if samples > 100_000 else 20) + 0.02
    true = [search.nearest(Dataset(folder), Wanted(v, MODEL), Among(), 10)["segment_id"].to_pylist() for v in asked]
    for probes in (32, 64, 128):
        used, hit = [], []
        for vector, wanted in zip(asked, true, strict=True):
            before_s = time.process_time()
            dataset = Dataset(folder)
            opened = search_index.opened(dataset)
            assert opened is not None
            found = search_index.nearest(dataset, opened, Wanted(vector, MODEL), Among(), 10, probes)
            used.append(time.process_time() - before_s)
            hit.append(len(set(found["segment_id"].to_pylist()) & set(wanted)) / 10)
        out[f"{probes}_cells"] = {"cpu_s": round(median(used), 3), "recall_10": round(float(np.mean(hit)), 3)}
    return {**out, "asked": len(asked)}


def measured(what: str, folder: Path, samples: int) -> dict[str, Any]:
    """Do one measurement in a process of its own; return its figures with the most memory that it held."""
    command = [sys.executable, __file__, "--one", what, str(folder), str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    out: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return out


def one(what: str, folder: Path, samples: int) -> None:
    """Print the figures of one measurement."""
    found = {
        "exact": lambda: exact(folder, samples),
        "pairs": lambda: pairs(folder),
        "build": lambda: build(folder),
        "index": lambda: index(folder, samples),
    }
    out = found[what]()
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({**out, "peak_rss_mib": round(peak / 1024)}))


def main() -> None:
    parser: argparse.ArgumentParser = record.parser(__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--pairs", type=int, default=30_000)
    parser.add_argument("--index", type=int, default=30_000)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.one:
        one(args.one[0], Path(args.one[1]), int(args.one[2]))
        return
    result: dict[str, Any] = {**record.today_here(), "numbers_a_vector": SIZE, "samples": {}}
    for samples in args.samples:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), samples)
            size = (Path(folder) / table_file(MANIFEST)).stat().st_size
            row: dict[str, Any] = {
                "manifest_mib": round(size / 2**20),
                "exact": measured("exact", Path(folder), samples),
            }
            if samples <= args.pairs:
                row["pairs"] = measured("pairs", Path(folder), samples)
            if samples >= args.index:
                built = measured("build", Path(folder), samples)
                row["index"] = {"build": built, "search": measured("index", Path(folder), samples)}
                gained = row["exact"]["cpu_s"] - row["index"]["search"][f"{search_index.PROBES}_cells"]["cpu_s"]
                row["index"]["pays_after"] = round(built["build_cpu_s"] / gained) if gained > 0 else None
        result["samples"][str(samples)] = row
        print(samples, json.dumps(row), flush=True)
    record.write(args.json, result)


if __name__ == "__main__":
    main()
