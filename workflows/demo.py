"""`lpm demo`: one real clip (two people, one speaks and one listens) from file to shards, and what one can ask of it.

The clip is a weight like any other: `weights.toml`, which is installed with the program, knows where it comes from.
"""

from __future__ import annotations

from rich.console import Console

from annotators.models import weights
from curation.storage.bounds import Bounds
from workflows.commands import jobs, models, query

CLIP = "obama_speech.mp4"
ASKED = (
    "SELECT shard, unnest(members, recursive := true) FROM (FROM manifest ORDER BY segment_id LIMIT 2)",
    "SELECT segment_id, state, round(duration_s, 2) AS seconds, n_references AS refs, caption FROM manifest "
    "ORDER BY start_s",
)


def demo(err: Console, out: Console, target: str) -> tuple[int, int]:
    """Fetch what is needed, run the workflow and show what came out; returns what `jobs.run` does."""
    _head(out, "models and the clip (hash-checked, kept in the cache)")
    models.models_fetch(out, [])
    clip = str(weights.resolve(CLIP))
    _head(out, "the conversation workflow on it, with a policy that admits its low resolution")
    left = jobs.run(err, out, [clip], target, "demo", None, "local", None, [], retry=False, wait_for_nodes=False)
    for sql in ASKED:
        _head(out, f'lpm query {target} "{sql}"')
        query.query(out, target, sql, "table", None, False, Bounds())
    out.print(f"\nreport: {target}/report/index.html", markup=False, highlight=False)
    return left


def _head(out: Console, text: str) -> None:
    out.print(f"\n{text}", style="bold", markup=False, highlight=False)
