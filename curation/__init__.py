"""The engine: store, runner, decisions, ledger, manifest, shards, media and report. Knows no stage by name."""

from curation.shadowed import refuse_strangers

refuse_strangers()

from curation.dataset import Dataset  # noqa: E402  (what it imports is only now known to be ours)

__all__ = ["Dataset"]
