"""The workflow `conversation-full` on real footage, on both engines, with one stage in another environment.

    .venv-full/bin/python benchmarks/full_set.py INPUT ... --out DIR [--engines local ray] [--json FILE]

Runs `lpm run` on every INPUT once an engine, with the stage `speech` in a Python of its own, and says of both datasets:
what became of every input and unit, which tables stay empty, which back-ends and hashes each stage names, whether
`lpm verify` finds them whole, and whether their tables, clips and shards are equal. DIR keeps the datasets; a run that
was interrupted goes on. Weights of CLIP, which no package carries, are made here from a seed: their loading and
batching is shown, not what they see. Needs `make setup-full`; OPENLPM_MODELS as for any run.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import record
import same_tables

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from clip_models import DIMENSION, write_model
from other_python import other_python

from curation import Dataset
from schemas import tables as t
from schemas.settings.use import load
from stages import SHIPPED
from workflows import catalog

WORKFLOW = "conversation-full"


def models(folder: Path) -> None:
    """Make a small CLIP model and an aesthetic head, and put them before the other weights."""
    import torch

    if not (folder / "aesthetic.pth").exists():
        write_model(folder / "clip")
        torch.save({"weight": torch.ones(1, DIMENSION), "bias": torch.zeros(1)}, folder / "aesthetic.pth")
    os.environ["OPENLPM_MODELS"] = os.pathsep.join([str(folder), os.environ.get("OPENLPM_MODELS", "")])


def lpm(*arguments: str) -> tuple[int, str]:
    """Run `lpm` and return its exit code and what it printed."""
    done = subprocess.run([sys.executable, "-m", "workflows.cli", *arguments], text=True, stdout=subprocess.PIPE)
    return done.returncode, done.stdout


def told(out: Path) -> dict[str, Any]:
    """Say of one dataset what its units came to, what is empty, and what measured it."""
    dataset = Dataset(str(out))
    outcomes: dict[str, dict[str, int]] = {}
    for unit, outcome, n in dataset.query("SELECT unit, outcome, count(*) FROM decisions GROUP BY ALL").fetchall():
        outcomes.setdefault(unit, {})[outcome] = n
    shipped: list[Any] = [load(SHIPPED[name]) for name in catalog.workflow(WORKFLOW).stages]
    written = {table.name for stage in shipped for table in stage.writes}
    rows = {name: dataset.query(f'SELECT count(*) FROM "{name}"').fetchall()[0][0] for name in sorted(written)}
    stages = json.loads((out / "workflow.json").read_text())["pipeline"]["stages"]
    log = [
        json.loads(line) for file in sorted(out.glob("runs/*/steps/*.jsonl")) for line in file.read_text().splitlines()
    ]
    media_s = sum(line["media_s"] for line in log if line["stage"] == "probe")
    return {
        "units": outcomes,
        "samples": dataset.query("SELECT count(*) FROM manifest").fetchall()[0][0],
        "rows": {name: n for name, n in rows.items() if n},
        "empty": [name for name, n in rows.items() if not n],
        "python": {name: bool(stage["python"]) for name, stage in stages.items() if stage["python"]},
        "provenance": {name: stage["provenance"] for name, stage in stages.items()},
        "cpu_s_per_video_s": round(sum(line["cpu_s"] for line in log) / media_s, 2),
        "errors": dataset.query("SELECT stage, error, count(*) FROM errors GROUP BY ALL ORDER BY ALL").fetchall(),
    }


def files(out: Path) -> set[tuple[str, str]]:
    """Return the packed files of a dataset, by name and hash."""
    return {
        (str(f.relative_to(out)), hashlib.sha256(f.read_bytes()).hexdigest())
        for f in out.rglob("*")
        if f.suffix in {".tar", ".mp4", ".flac"}
    }


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("input", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    models(args.out / "models")
    there = other_python(args.out / "environment")
    result: dict[str, Any] = {**record.today_here(), "workflow": WORKFLOW, "elsewhere": "speech"}
    for engine in args.engines:
        out = args.out / engine
        options = ("--engine", engine, "--set", f"speech.python={there}", "--allow-quarantine")
        code, _ = lpm("run", *args.input, "--out", str(out), "--workflow", WORKFLOW, *options)
        whole, said = lpm("verify", str(out))
        result[engine] = {"rc": code, "verify": [whole, said.strip().splitlines()[-1:]], **told(out)}
    if len(args.engines) > 1:
        one, other = (args.out / engine for engine in args.engines)
        compared = {}
        for name, table in t.TABLES.items():
            before, after = same_tables.content(one, table), same_tables.content(other, table)
            if before.num_rows or after.num_rows:
                compared[name] = same_tables.compare(before, after)
        result["equal_tables"] = f"{sum(found['equal'] for found in compared.values())} of {len(compared)}"
        result["unequal"] = {n: found for n, found in compared.items() if not found["equal"]}
        result["equal_files"] = files(one) == files(other)
    print(record.as_json({k: v for k, v in result.items() if k not in args.engines}))
    record.write(args.json, result)


if __name__ == "__main__":
    main()
