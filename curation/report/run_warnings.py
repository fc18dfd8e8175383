"""What the last run of a dataset warned of at its start: weaker back-ends at work where a model is missing."""

from __future__ import annotations

from curation.dataset import Dataset


def run_warnings(dataset: Dataset) -> list[str]:
    """Return the sentences of the newest run; none where it had none or nothing was run."""
    runs = sorted(name for name in dataset.store.names("runs", "run.json"))
    facts = dataset.store.read_json(runs[-1]) if runs else None
    return [str(said) for said in (facts or {}).get("warnings", [])]
