"""Are the files those that were written? Each is read once, and held against the hash in its commit or in the seal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from curation.dataset import Dataset
from curation.storage import digests, head, seal
from curation.storage.checked import KEY, fault
from curation.storage.commits import Commit, read_record
from curation.storage.store import Store, StoreError, table_file
from curation.storage.writers import written
from curation.verify.finding import Finding, Mend
from curation.verify.part import Part, drawn
from curation.verify.root import Root
from schemas import tables as t

_GIVEN = {table.name for table in t.GIVEN}
_LEDGER = {table_file(t.DECISIONS), table_file(t.ERRORS)}
_MADE = {table_file(x) for x in t.TABLES.values() if x.grain == "dataset" and x.name not in _GIVEN}
_PACKED = {table_file(t.MANIFEST), "shards/index.json"}


def changed(dataset: Dataset, root: Root, part: Part | None = None) -> Iterator[Finding]:
    """Say which files are gone, damaged or nobody's; in memory are the names and hashes of one bucket.

    Of a part, the files of its buckets and those that are of no bucket.
    """
    store = dataset.store
    stages = store.directories("commits")
    whole = [n for stage in stages for n in store.top(stage)]
    told = set(unreadable(store))
    yield from (_unlike(name, "is damaged") for name in sorted(told))
    for finding in _committed(store, "commits", whole, root, set()):
        told.update(mend.file for mend in finding.mends)
        yield finding
    tables = [f for f in store.directories("tables") if f.rpartition("/")[2] not in _GIVEN]
    there = {b.rpartition("/")[2] for f in (*stages, *tables, "clips") for b in store.directories(f)}
    buckets = drawn(part, "groups of sources", sorted(there))
    yield from _sealed(store, root, None if part is None else set(buckets), told)
    errors = _quarantined(dataset)
    for bucket in buckets:
        vouched: set[str] = set()
        known: set[tuple[str, str]] = set()
        for stage in stages:
            names = list(store.names(f"{stage}/{bucket}", ".json"))
            yield from _committed(store, f"{stage}/{bucket}", names, root, vouched, known)
        yield from _nobodys(store, [f"{f}/{bucket}" for f in tables], f"clips/{bucket}", vouched)
        for source, stage in sorted(errors.get(bucket.removeprefix("bucket="), set()) - known):
            yield Finding(
                f"the quarantine of source {source} in stage {stage} has no commit any more; run `lpm run` again"
            )


def unreadable(store: Store) -> list[str]:
    """Return which of the files that a dataset is opened by are there and cannot be read."""

    def damaged(name: str) -> bool:
        try:
            return store.exists(name) and not isinstance(store.read_json(name), dict)
        except StoreError:
            return True

    return [name for name in ("dataset.json", "workflow.json") if damaged(name)]


def older(dataset: Dataset) -> bool:
    """Say whether commits were written before they said their own hash, by a look at one of each stage."""
    store = dataset.store
    for stage in store.directories("commits"):
        for bucket in store.directories(stage)[:1]:
            for name in store.top(bucket)[:1]:
                try:
                    if KEY not in (store.read_json(name) or {}):
                        return True
                except StoreError:
                    continue
    return False


# ------------------------------------------------------------------------------------------------ of the whole


def _sealed(store: Store, root: Root, buckets: set[str] | None, told: Collection[str]) -> Iterator[Finding]:
    """Hold what is of the dataset as a whole against the seal; of what lies in buckets, that of some (None: all).

    Of files that were `told` of already nothing is said: their commit knows how they come back.
    """

    def asked(name: str) -> bool:
        bucket = next((folder for folder in name.split("/") if folder.startswith("bucket=")), None)
        return buckets is None or bucket is None or bucket in buckets

    found = {n: digests.file_digest(store, n) for n in seal.sealed_files(store) if asked(n)}
    sealed = seal.read_seal(store)
    if sealed is None and store.exists(seal.FILE):
        yield Finding("seal.json is damaged; `lpm verify --repair` writes it again from what is intact")
    yield from _pointed_at(store)
    mine = written.listening(store.root)  # who verifies while it writes opened the seal itself
    if sealed is not None and sealed["open"] and not mine:
        yield Finding("a command that wrote this dataset was killed, so it is not sealed; run `lpm run` again")
    elif sealed is not None:
        files = {n: d for n, d in {**sealed["files"], **written.so_far(store.root)}.items() if asked(n)}
        for name in sorted(files.keys() | found.keys()):
            was, now = files.get(name), found.get(name)
            if was != now and name not in told:
                yield _unlike(name, "is gone" if now is None else "is no file of this dataset" if was is None else "")
    tables = (n for table in sorted(_GIVEN) for n in store.tables(f"tables/{table}"))
    given = [n for n in tables if "/bucket=" in n and asked(n)]
    plain = {n: d for n, d in found.items() if "/bucket=" not in n}
    root.add("dataset", plain | {n: d for n, d in _digests(store, given) if d is not None})


def _pointed_at(store: Store) -> Iterator[Finding]:
    """Look at the head, and at the tables that are kept for its readers."""
    if store.exists(head.FILE) and head.read_head(store) is None:
        yield Finding(f"{head.FILE} is damaged; the next command writes it again", (Mend("delete", head.FILE),))
    for name in store.top(head.FOLDER):
        if name != head.kept(digests.file_digest(store, name)):
            yield Finding(
                f"{name} is not what its name says; the next command writes it again", (Mend("delete", name),)
            )


def _unlike(name: str, how: str) -> Finding:
    how = how or "changed since it was written"
    if name in _LEDGER:
        return Finding(f"{name} {how}; `lpm pack` writes it again", (Mend("decide", name),))
    if name in _PACKED:
        return Finding(f"{name} {how}; `lpm pack` writes it again", (Mend("pack", name),))
    if "/compact/" in name:
        return Finding(f"{name} {how}; what was gathered in it has to be computed again", (Mend("delete", name),))
    if name == "data-contract.md":
        return Finding(f"{name} {how}; `lpm run` writes it again", (Mend("delete", name),))
    if name in _MADE:  # whose commit is gone too, or was just withdrawn
        return Finding(f"{name} {how}; `lpm run` makes it again")
    if name == "dataset.json":
        return Finding(f"{name} {how}; `lpm verify --repair` writes it again")
    if name == "workflow.json":
        return Finding(f"{name} {how}; name workflow and policy to `lpm run` again, or restore the file from a copy")
    return Finding(f"{name} {how}; restore it from a copy, for nothing else holds what was in it")


# ------------------------------------------------------------------------------------------------ of commits


def _committed(
    store: Store,
    group: str,
    names: Iterable[str],
    root: Root,
    vouched: set[str],
    known: set[tuple[str, str]] | None = None,
) -> Iterator[Finding]:
    """Hold the files of some commits against their hashes; add their names to `vouched`, who failed to `known`."""
    vows: dict[str, tuple[str, str, str]] = {}
    there: dict[str, str] = {}
    for name in names:
        why, commit = _read(store, name)
        if commit is None or why:
            yield Finding(f"{name} {why}; its step has to be done again", (Mend("withdraw", name),))
        if commit is None:
            continue
        if known is not None:
            known |= {(commit.source_id, commit.stage)} if commit.errors else set()
        for file, digest in _files(commit).items():
            vows[file] = (digest, commit.stage, name)
    vouched.update(vows)
    wrong = []
    for file, found in _digests(store, vows):
        digest, stage, name = vows[file]
        mend = (Mend("withdraw", name), Mend("delete", file))
        if found is None:
            wrong.append(Finding(f"{file} is gone; run `lpm run` again to make it", mend))
        elif found != digest:
            said = f"{file} changed since stage {stage} wrote it; delete it and run `lpm run` again"
            wrong.append(Finding(said, mend))
        if found is not None:
            there[file] = found
    yield from sorted(wrong, key=lambda f: f.what)
    root.add(group, there | {n: digests.file_digest(store, n) for n in names})


def _read(store: Store, name: str) -> tuple[str, Commit | None]:
    """Return what is wrong with a commit, and what it says as far as that can be told."""
    why = fault(store.read(name)) or ""
    try:
        return why, read_record(store, name)
    except StoreError:
        return why or "is no commit", None


def _files(commit: Commit) -> dict[str, str]:
    """Return the files that a commit vouches for; none where it is too damaged to tell."""
    try:
        files = {e["file"]: e["sha256"] for e in commit.tables.values()} | commit.files
        return {str(file): str(digest) for file, digest in files.items()}
    except (AttributeError, KeyError, TypeError):
        return {}


def _digests(store: Store, names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each file's hash; None where it is gone, what is wrong where it cannot be read."""
    names = list(names)
    try:
        yield from list(digests.digests(store, names))
    except Exception:  # one of them is damaged: which, they tell one by one
        for name in names:
            try:
                yield name, digests.sha256(store, name)
            except FileNotFoundError:
                yield name, None
            except Exception as e:
                yield name, type(e).__name__


def _nobodys(store: Store, folders: Iterable[str], clips: str, vouched: set[str]) -> Iterator[Finding]:
    """Say which tables and clips of a bucket belong to no commit."""
    for folder in folders:
        try:
            names = list(store.tables(folder))
        except Exception as e:
            for file in store.compacted.files(folder):
                try:
                    store.compacted.parts(file)
                except Exception:
                    said = f"{file} cannot be read ({type(e).__name__}); what was in it has to be computed again"
                    yield Finding(said, (Mend("delete", file),))
            continue
        for name in (n for n in names if n not in vouched):
            yield _stray(name)
    for name in (n for n in store.names(clips) if n not in vouched):
        yield _stray(name)


def _stray(name: str) -> Finding:
    why = "its step was interrupted, or its commit is gone"
    return Finding(f"{name} belongs to no commit: {why}; run `lpm run` again", (Mend("delete", name),))


def _quarantined(dataset: Dataset) -> dict[str, set[tuple[str, str]]]:
    """Return (source, stage) of what the ledger has in quarantine, by bucket."""
    out: dict[str, set[tuple[str, str]]] = {}
    try:
        rows = t.ERRORS.rows(dataset.table(t.ERRORS, ["source_id", "stage"]))
    except Exception:  # the seal says so
        return out
    for row in rows:
        out.setdefault(row.source_id[:2], set()).add((row.source_id, row.stage))
    return out
