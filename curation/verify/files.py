"""Are the files those that their stages wrote? Each is read once, and held against the hash in its commit."""

from __future__ import annotations

from collections.abc import Iterator

from curation.dataset import Dataset
from curation.storage.commits import read_commit
from curation.storage.store import Store


def changed(dataset: Dataset) -> Iterator[str]:
    """Say which committed files are gone or have other bytes; in memory are the commits of one stage and bucket."""
    for commits in _groups(dataset.store):
        written: dict[str, tuple[str, str]] = {}
        for name in commits:
            commit = read_commit(dataset.store, name)
            if commit is not None:
                files = {e["file"]: e["sha256"] for e in commit.tables.values()} | commit.files
                written |= {file: (digest, commit.stage) for file, digest in files.items()}
        wrong = []
        for file, found in dataset.store.digests(written):
            digest, stage = written[file]
            if found is None:
                wrong.append(f"{file} is gone; run `lpm run` again to make it")
            elif found != digest:
                wrong.append(f"{file} changed since stage {stage} wrote it; delete it and run `lpm run` again")
        yield from sorted(wrong)


def _groups(store: Store) -> Iterator[list[str]]:
    """Yield the names of commits: of each stage those of the dataset, and of one bucket after the other."""
    for stage in store.directories("commits"):
        whole = f"{stage}/dataset.json"
        yield [whole] if store.exists(whole) else []
        for bucket in store.directories(stage):
            yield list(store.names(bucket, ".json"))
