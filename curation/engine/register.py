"""Turn what the user names (files, folders, globs, s3:// prefixes, lists) into registered sources.

A path that does not exist or a folder without videos is refused at once. A source's id is the hash of its bytes, so
the same bytes under two names are one source. Files are hashed once and again only when size or time changed.
Rights come from a sidecar `NAME.rights.json` beside the file, or from columns of a list, which win.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from curation.listing import (
    VIDEO_SUFFIXES,
    holds_dataset,
    in_folder,
    left_out,
    not_a_file,
    outside_datasets,
    under_prefix,
)
from curation.storage import registry
from curation.storage.registry import read_registry
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.files.places import local_path, open_object, open_place, written
from schemas.printable import printable
from schemas.tables.registry import ForgottenRow, InputRow

_LIST_SUFFIXES = frozenset({".csv", ".parquet", ".jsonl"})
RIGHTS = ("license", "rights_holder", "consent")
LISTED = ("path", *RIGHTS, "session")
"""Columns of a list."""


class InputError(ValueError):
    """Something the user named cannot be an input; the message says what and what to do."""


@dataclass(frozen=True, slots=True)
class Named:
    """One file to register, with what the user's list or sidecar says about it."""

    path: str
    rights: dict[str, str] = field(default_factory=dict)
    rights_from: str | None = None
    session: str | None = None
    listed: tuple[int, int] | None = None
    """Size in bytes and time of change in ns, where a listing told them: asking again is a request a file."""


def expand(inputs: Iterable[str], exclude: str | None = None, skipped: Counter[str] | None = None) -> list[Named]:
    """Expand inputs to files, sorted by path, each once.

    `exclude` is the dataset's own directory or prefix; `skipped` counts by kind what folders, prefixes and globs hold
    that is no video, cannot be read or lies in a dataset (`curation.listing.left_out` puts it in words).

    Raises:
        InputError: a path is empty or does not exist, a folder or glob holds no video, a list is malformed.
    """
    found: dict[str, Named] = {}
    for text in inputs:
        for named in _expand_one(text, exclude, Counter() if skipped is None else skipped):
            if named.path not in found or named.rights or named.session:
                found[named.path] = named
    return [found[p] for p in sorted(found)]


def _expand_one(text: str, exclude: str | None, skipped: Counter[str]) -> Iterator[Named]:
    if not text:
        raise InputError("an input is empty, as a variable that is not set leaves it; name a file, folder or glob")
    file = local_path(text)
    if file is None:
        yield from _remote(text, exclude, skipped)
        return
    path, text = file.absolute(), str(file)
    mine: Counter[str] = Counter()
    if path.is_dir():
        files = in_folder(path, _own(exclude), mine)
        skipped.update(mine)
        if not files:
            raise InputError(f"no video in folder {text!r} ({_looked(mine)})")
        yield from (_local(p) for p in files)
    elif path.is_file():
        yield from _list(path) if path.suffix.lower() in _LIST_SUFFIXES else [_local(path)]
    elif any(c in text for c in "*?["):
        files = _matching(text, _own(exclude), mine)
        skipped.update(mine)
        if not files:
            raise InputError("; ".join(filter(None, (f"no file matches {text!r}", left_out(mine)))))
        yield from (_local(p) for p in files)
    else:
        raise InputError(f"no such file or folder: {text!r}")


def _own(exclude: str | None) -> Path | None:
    """Return the folder of the dataset that is written; None where none is there yet: all there is the user's then."""
    folder = None if exclude is None else local_path(exclude)
    return folder.resolve() if folder is not None and holds_dataset(folder) else None


def _matching(pattern: str, own: Path | None, skipped: Counter[str]) -> list[Path]:
    """Return the files that a pattern names outside of datasets, sorted; count what else it names."""
    named = sorted(Path(m).absolute() for m in glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute globs
    begins = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    matches = outside_datasets(named, begins, own, skipped)
    kinds = {p: not_a_file(p) or (".json" if p.name.endswith(".json") else None) for p in matches}
    skipped.update(kind for p, kind in kinds.items() if kind and not p.name.endswith(".rights.json"))
    return [p for p, kind in kinds.items() if kind is None]


def _looked(skipped: Counter[str]) -> str:
    known = f"looked for {', '.join(sorted(VIDEO_SUFFIXES))}"
    return "; ".join(filter(None, (left_out(skipped), known)))


def _local(path: Path) -> Named:
    sidecar = path.with_name(path.name + ".rights.json")
    if not sidecar.is_file():
        sidecar = path.with_suffix(".rights.json")
    if not sidecar.is_file():
        return Named(written(path))
    try:
        data = json.loads(sidecar.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise InputError(f"rights sidecar {sidecar.name} is not JSON: {e}") from e
    if not isinstance(data, dict):
        raise InputError(f"rights sidecar {sidecar.name} must be a JSON object with {', '.join(RIGHTS)}")
    return Named(written(path), _rights(data), "sidecar", _text(data.get("session")))


def _remote(uri: str, exclude: str | None, skipped: Counter[str]) -> Iterator[Named]:
    try:
        fs, root = open_object(uri)
        info = fs.get_file_info(root)
        if info.type == pafs.FileType.File:
            if Path(root).suffix.lower() in _LIST_SUFFIXES:
                raise InputError(f"the list {uri} is on an object store; download it first, and name the file")
            yield Named(uri)
            return
        if info.type == pafs.FileType.NotFound:
            _refuse_missing(uri, fs, root)
        entries = fs.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
        own = open_place(exclude)[1] if exclude is not None and "://" in exclude else None
    except (OSError, pa.ArrowInvalid) as e:
        raise InputError(f"cannot list {uri}: {e}") from e
    except InputError:
        raise
    except ValueError as e:
        raise InputError(f"cannot read {uri}: {e}") from e
    scheme = uri.split("://", 1)[0]
    mine: Counter[str] = Counter()
    files = under_prefix(entries, own, mine)
    skipped.update(mine)
    if not files:
        raise InputError(f"no video under {uri} ({_looked(mine)})")
    yield from (Named(f"{scheme}://{e.path}", listed=_size_and_change(e)) for e in files)


def _refuse_missing(uri: str, fs: pafs.FileSystem, root: str) -> None:
    """Raise InputError for what is neither an object nor a prefix, where more can be said than that it holds none."""
    bucket, _, key = root.partition("/")
    if fs.get_file_info(bucket).type == pafs.FileType.NotFound:
        raise InputError(f"the bucket {bucket!r} of {uri} does not exist, or is not seen with these credentials")
    if any(c in key for c in "*?["):
        raise InputError(f"no such object: {uri}; patterns are not read on object stores: name the prefix")
    if Path(key).suffix.lower() in VIDEO_SUFFIXES | _LIST_SUFFIXES:
        raw = " (keys are taken as they are, %20 is no space)" if "%" in key else ""
        raise InputError(f"no such object: {uri}{raw}")


def _list(path: Path) -> Iterator[Named]:
    import pandas as pd  # takes a third of a second, and few runs name a list

    readers: dict[str, Any] = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    try:
        if path.suffix.lower() == ".jsonl":
            frame = pd.read_json(path, lines=True, dtype=False)
        else:
            frame = readers[path.suffix.lower()](path)
    except (ValueError, OSError, pa.ArrowInvalid) as e:
        raise InputError(f"cannot read the list {path.name}: {e}") from e
    if "path" not in frame.columns:
        raise InputError(f"the list {path.name} has no column 'path' (it has {', '.join(map(str, frame.columns))})")
    for other in (str(c) for c in frame.columns if c not in LISTED):
        near = difflib.get_close_matches(other.lower(), LISTED, 1, 0.5)
        meant = f"; did you mean {near[0]!r}" if near else ""
        raise InputError(
            f"the list {path.name} has a column {other!r}, which says nothing here{meant}. "
            f"There are: {', '.join(LISTED)}; take other columns out"
        )
    if frame.empty:
        raise InputError(f"the list {path.name} has no rows")
    for n, row in enumerate([{str(k): v for k, v in r.items()} for r in frame.to_dict("records")], start=1):
        name = _text(row.get("path"))
        if name is None:
            raise InputError(f"the list {path.name}, row {n}: path is empty")
        if "://" not in name:
            file = path.parent / name
            if not file.is_file():
                raise InputError(f"the list {path.name}, row {n}: no such file {name!r}")
            name = written(file.absolute())
        rights = _rights(row)
        yield Named(name, rights, "list" if rights else None, _text(row.get("session")))


def _rights(data: dict[str, Any]) -> dict[str, str]:
    return {k: v for k in RIGHTS if (v := _text(data.get(k))) is not None}


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value) or str(value).strip() == "":
        return None
    return str(value)


def register(store: Store, named: Iterable[Named]) -> pa.Table:
    """Add files to the dataset's input registry and return the whole registry (the INPUTS table).

    Files whose bytes were forgotten are left out.
    """
    before = read_registry(store)
    known = {row.path: row for row in t.INPUTS.rows(before)}
    new: dict[str, InputRow] = {}
    gone = set(ForgottenRow.source_id.values(read_forgotten(store)))
    for n in named:
        size, modified = n.listed or stat(n.path)
        old = known.get(n.path)
        if old is not None and _same(n.path, (old.bytes, old.modified_ns), (size, modified)):
            source_id = old.source_id
        else:
            source_id = _sha256(n.path)[:16]
            if not _same(n.path, stat(n.path), (size, modified)):
                raise InputError(f"{n.path} is being written; run again when it is complete, or leave it out")
        if source_id in gone:
            known.pop(n.path, None)
            continue
        row = InputRow(
            path=n.path,
            source_id=source_id,
            name=printable(n.path.rsplit("/", 1)[-1]),
            bytes=size,
            modified_ns=modified,
            license=n.rights.get("license"),
            rights_holder=n.rights.get("rights_holder"),
            consent=n.rights.get("consent"),
            rights_from=n.rights_from,
            session=n.session,
        )
        if old is None or dict(row) != dict(old):
            known[n.path] = new[n.path] = row
    if before.num_rows + len(new.keys() - set(InputRow.path.values(before))) != len(known):  # some were taken out
        registry.replace(store, t.INPUTS.from_rows(known.values()))
    else:
        registry.add(store, t.INPUTS.from_rows(new.values()))
    return t.INPUTS.from_rows(known.values())


def read_forgotten(store: Store) -> pa.Table:
    """Return the FORGOTTEN table: sources that were taken out for good."""
    try:
        return store.read_table(table_file(t.FORGOTTEN), t.FORGOTTEN)
    except FileNotFoundError:
        return t.FORGOTTEN.empty()


def stat(path: str) -> tuple[int, int]:
    """Return size in bytes and time of change in ns of a file, wherever it lies. Raises InputError where none is."""
    file = local_path(path)
    if file is not None:
        if not file.is_file():
            raise InputError(f"no such file: {path}")
        found = file.stat()
        return found.st_size, found.st_mtime_ns
    try:
        fs, name = open_object(path)
        info = fs.get_file_info(name)
    except (OSError, ValueError) as e:
        raise InputError(f"cannot read {path}: {e}") from e
    if info.type != pafs.FileType.File:
        raise InputError(f"no such file: {path}")
    return _size_and_change(info)


def _size_and_change(info: pafs.FileInfo) -> tuple[int, int]:
    return int(info.size or 0), int(info.mtime_ns or 0)


def _same(path: str, one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Tell whether two sizes and times of change are of one state of a file.

    Some object stores tell the time to the millisecond in a listing, and to the second when asked for the object.
    """
    unit = 1 if local_path(path) is not None else 10**9
    return (one[0], one[1] // unit) == (other[0], other[1] // unit)


def _sha256(path: str) -> str:
    file = local_path(path)
    if file is not None:
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    fs, name = open_object(path)
    digest = hashlib.sha256()
    with fs.open_input_stream(name) as f:
        while block := f.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
