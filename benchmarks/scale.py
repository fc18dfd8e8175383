"""Memory and CPU of the commands that go over a whole dataset, on synthetic tables of any size.

    python benchmarks/scale.py --segments N --asd-rows M [--segments-per-source 500] [--dataset DIR] [--json FILE]
        [--only decide,decide-back]

No media: the tables, commits, registry, ledger and manifest are made as a run of the workflow `conversation` leaves
them, files gathered as it gathers them, and one small tar stands for every clip. Each shot has two people, each track
ten segments of four seconds; about half of them are kept by the policy `default`. The tables that the commands read
nothing of (frames, faces, portraits, signatures) are there and empty.

Then each command runs in a process of its own: `peak_rss_mib` is the most memory that it held, `cpu_s` what it
computed on all threads, the start of Python included. `decide` decides by a stricter policy and writes the ledger;
`query` filters and groups a million rows and more. `--dataset` keeps the dataset there, and uses it where it exists;
the sizes that are written are those that it has. `--json` adds the figures to those of other sizes in the file, in
place of former ones of the same size; `--only` runs some commands, and leaves the file's figures of the others.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import record
import yaml
from made_tables import CLIP, PER_TRACK, SEGMENT_S, filled, source_tables

from curation.dataset import FORMAT_VERSION, Dataset
from curation.decisions import account
from curation.engine.run import Job, write_workflow
from curation.engine.step import Stepper
from curation.engine.workflow import resolve
from curation.stage import WorkItem
from curation.storage.commits import Commit, commit_file, fingerprint
from curation.storage.compaction import tidy
from curation.storage.store import Store, parquet_bytes, table_file
from schemas import tables as t
from schemas.table import Table
from schemas.units import UNITS
from workflows import catalog

RUN = (
    "import atexit, json, pathlib, resource, sys\n"
    "def figures():\n"
    "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
    "    lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
    "    peak = next(int(x.split()[1]) for x in lines if x.startswith('VmHWM'))\n"
    "    found = {'peak_rss_mib': round(peak / 1024, 1), 'cpu_s': round(used.ru_utime + used.ru_stime, 2)}\n"
    "    pathlib.Path(sys.argv[1]).write_text(json.dumps(found))\n"
    "atexit.register(figures)\n"
    "from workflows.cli import main\n"
    "main(sys.argv[2:])\n"
)
"""Run one command and write down what it took: of this process alone, not of the one that started it."""


def main() -> None:
    """Make the dataset where there is none, run every command on it, print and write the figures."""
    parser = record.parser(__doc__)
    parser.add_argument("--segments", type=int, required=True)
    parser.add_argument("--asd-rows", type=int, required=True)
    parser.add_argument("--segments-per-source", type=int, default=500)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="commands, by commas")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lpm-scale-") as temporary:
        root = args.dataset or Path(temporary) / "dataset"
        if not (root / "manifest.parquet").exists():
            make(root, args.segments, args.asd_rows, args.segments_per_source)
        result = {**record.today_here(), **held(root), "commands": commands(root, Path(temporary), args.only)}
    sys.stdout.write(record.as_json(result))
    if args.json is not None:
        record.write(args.json, beside_others(args.json, result))


def beside_others(file: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of results holds with one more under `now`; former results of the same size go."""
    former = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    same = [r for r in former.get("now", []) if r["segments"] == result["segments"]]
    others = [r for r in former.get("now", []) if r not in same]
    result["commands"] = {**(same[0]["commands"] if same else {}), **result["commands"]}
    return {**former, "now": sorted([*others, result], key=lambda r: r["segments"])}


def held(root: Path) -> dict[str, int]:
    """Return how many rows the dataset holds of what is many."""
    sql = "SELECT (SELECT count(*) FROM segments), (SELECT count(*) FROM asd_frames), (SELECT count(*) FROM sources)"
    ((segments, asd_rows, sources),) = Dataset(str(root)).query(sql).fetchall()
    return {"segments": segments, "asd_rows": asd_rows, "sources": sources}


def commands(root: Path, scratch: Path, only: str = "") -> dict[str, dict[str, float]]:
    """Run every command, or those named, in a process of its own and return its figures by name."""
    stricter = scratch / "stricter.yaml"
    policy = catalog.policy("default").model_dump(mode="json")
    for rule in policy["rules"]:
        if rule["id"] == "state_confidence":
            rule["keep"] = "confidence >= 0.6"
    stricter.write_text(yaml.safe_dump({**policy, "name": "stricter"}))
    question = "SELECT state, count(*), avg(confidence) FROM segments WHERE speech_ratio > 0.2 GROUP BY state"
    dataset = str(root)
    runs: dict[str, list[str]] = {
        "decide": ["decide", dataset, "--policy", str(stricter)],
        "decide-back": ["decide", dataset, "--policy", "default"],
        "status": ["status", dataset],
        "query": ["query", dataset, question],
        "report": ["report", dataset],
        "pack-dry-run": ["pack", dataset, "--dry-run"],
        "verify-tables": ["verify", dataset, "--tables"],
    }
    out = {}
    for name in only.split(",") if only else runs:
        arguments, figures = runs[name], scratch / "figures.json"
        figures.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(figures), *arguments], capture_output=True, text=True, check=False
        )
        out[name] = {**json.loads(figures.read_text()), "exit": done.returncode}
        sys.stderr.write(f"{name}: {out[name]}\n{done.stdout[-300:]}{done.stderr[-300:]}")
    return out


# ------------------------------------------------------------------------------------------------ the dataset


def make(root: Path, segments: int, asd_rows: int, per_source: int, *, buckets: int = 256, gather: bool = True) -> None:
    """Write a dataset of synthetic tables, as a finished run leaves it; in the first so many buckets.

    Without `gather` the tables of sources stay small files.
    """
    store = Store(str(root))
    pipeline = resolve(catalog.workflow("conversation"))
    job = Job(str(root), pipeline, catalog.policy("default"))
    stepper = job.stepper()
    store.write_json("dataset.json", {"format": FORMAT_VERSION, "name": "openlpm"})
    write_workflow(store, job)
    store.write(CLIP, b"\0" * 1024)
    n_sources = max(1, segments // per_source)
    ids = sorted(hashlib.sha256(f"source {i}".encode()).hexdigest()[:16] for i in range(n_sources))
    if buckets < 256:
        ids = sorted(f"{n % buckets:02x}{i[2:]}" for n, i in enumerate(ids))
    store.write_table(table_file(t.INPUTS), t.INPUTS, inputs(ids))
    for i, source_id in enumerate(ids):
        write_source(stepper, Path(root), source_id, per_source, asd_rows // n_sources)
        if sys.stderr.isatty() and i % 100 == 0:
            sys.stderr.write(f"{i} of {n_sources} sources\r")
    for table, rows in whole(ids, per_source).items():
        store.write_table(table_file(table), table, rows)
    if gather:
        tidy(store)
    account.write(stepper)
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, manifest(Dataset(str(root)), job.policy.policy_id))


def inputs(ids: list[str]) -> pa.Table:
    """Return the registry; its files are nowhere."""
    names = [f"{i}.mp4" for i in ids]
    table = filled(t.INPUTS, len(ids), path=[f"/nowhere/{n}" for n in names], source_id=ids, name=names, bytes=1000)
    return table.sort_by([("path", "ascending")])


def write_source(stepper: Stepper, root: Path, source_id: str, per_source: int, asd_rows: int) -> None:
    """Write the tables and commits of one source; not synced to disk one by one, or it would take hours."""
    made = source_tables(source_id, per_source, asd_rows)
    live = {
        "tracks": sorted({str(i) for i in made[t.SEGMENTS]["track_id"].to_pylist()}),
        "segments": [str(i) for i in made[t.SEGMENTS]["segment_id"].to_pylist()],
    }
    digests = {
        kind: {str(r[UNITS[kind].id]): fingerprint(row=r) for r in made[t.TABLES[kind]].to_pylist()} for kind in live
    }
    with stepper.remembering():
        n_windows: int | None = None
        for s in stepper.pipeline.stages:
            cls = s.cls
            if cls.grain == "dataset":
                continue
            if n_windows is None and cls.grain == "window":
                n_windows = stepper.source_windows(source_id)
            items = stepper.window_items(source_id) if cls.grain == "window" else [WorkItem(source_id)]
            for item in items:
                window = item.window_index if cls.grain == "window" else None
                item = WorkItem(source_id, item.window, item.window_index, max(n_windows or 1, 1))
                commit = Commit(s.name, source_id, "", window=window)
                if cls.gate is not None and cls.gate_mode != "once":
                    item = WorkItem(source_id, n_windows=item.n_windows, units=tuple(live[cls.gate]))
                    commit.units = dict.fromkeys(item.units, "")
                if cls.gate_mode == "each" and cls.gate is not None:
                    commit.fingerprint = stepper.fingerprint_of(s, item, exclude=cls.gate)
                    found = digests[cls.gate]
                    commit.units = {u: fingerprint(base=commit.fingerprint, unit=found[u]) for u in item.units}
                else:
                    commit.fingerprint = stepper.fingerprint_of(s, item)
                for table in cls.writes:
                    rows = made.get(table, table.empty())
                    name = table_file(table, source_id, window)
                    data = parquet_bytes(table.validated(rows)) if rows.num_rows else _empty(table)
                    _put(root / name, data)
                    digest = hashlib.sha256(data).hexdigest()
                    commit.tables[table.name] = {"file": name, "sha256": digest, "rows": rows.num_rows}
                name = commit_file(s.name, item, cls.grain == "window")
                _put(root / name, (json.dumps(asdict(commit), sort_keys=True, indent=1) + "\n").encode())


_EMPTY: dict[Table, bytes] = {}


def _empty(table: Table) -> bytes:
    return _EMPTY.setdefault(table, parquet_bytes(table.empty()))


def _put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def whole(ids: list[str], per_source: int) -> dict[Table, pa.Table]:
    """Return the tables that stages write of the whole dataset: two people a source, the first fourteen tracks each."""
    n = len(ids)
    people = [f"p-{hashlib.sha256(f'{i} {s}'.encode()).hexdigest()[:12]}" for s in ids for i in range(2)]
    n_tracks = -(-per_source // PER_TRACK) * 9 // 8
    tracks = [f"{s}-t{i:04d}" for s in ids for i in range(n_tracks)]
    who = np.repeat(np.arange(n) * 2, n_tracks) + np.tile(np.arange(n_tracks) % 2, n)
    identities = filled(t.IDENTITIES, 2 * n, identity_id=people, n_tracks=n_tracks // 2, n_sources=1, split="train")
    return {
        t.DUPLICATES: filled(t.DUPLICATES, n, source_id=ids),
        t.SESSIONS: t.SESSIONS.empty(),
        t.SESSION_PAIRS: t.SESSION_PAIRS.empty(),
        t.IDENTITIES: identities.sort_by([("identity_id", "ascending")]),
        t.TRACK_IDENTITIES: filled(
            t.TRACK_IDENTITIES, len(tracks), track_id=tracks, identity_id=[people[i] for i in who],
            source_id=[s for s in ids for _ in range(n_tracks)],
        ),
        t.SPLITS: filled(t.SPLITS, n, source_id=ids, split=[("train", "val", "test")[i % 3] for i in range(n)]),
        t.SPLIT_SHARES: t.SPLIT_SHARES.empty(),
        t.REFERENCES: t.REFERENCES.empty(),
    }  # fmt: skip


def manifest(dataset: Dataset, policy_id: str) -> pa.Table:
    """Return a manifest of what the ledger keeps; its shards are nowhere."""
    kept = dataset.query(
        "SELECT s.segment_id, s.source_id, s.track_id, s.state, s.start_s, s.end_s FROM segments s JOIN decisions d "
        "ON d.unit_id = s.segment_id WHERE d.unit = 'segments' AND d.outcome = 'kept' ORDER BY 1"
    ).to_arrow_table()
    taken = {name: kept[name].combine_chunks() for name in kept.column_names if name != "segment_id"}
    members = [[{"name": f"x.{kind}", "offset": 512, "size": 1000} for kind in ("json", "mp4")]] * kept.num_rows
    return filled(
        t.MANIFEST, kept.num_rows, segment_id=kept["segment_id"].combine_chunks(), **taken, duration_s=SEGMENT_S,
        split="train", members=members, shard="train-000000.tar", annotators="{}", policy_id=policy_id, fps=25.0,
        n_frames=100, identity_id="p-0",
    )  # fmt: skip


if __name__ == "__main__":
    main()
