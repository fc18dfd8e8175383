"""The engine: store, runner, decisions, ledger, manifest, shards, media and report. Knows no stage by name."""

from curation.dataset import Dataset

__all__ = ["Dataset"]
