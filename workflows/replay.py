"""Follow a recipe: encode its clips from the sources at hand, cut its references, and write the same shards.

Nothing is measured and no weight is needed, unless the clips' sound was enhanced or taken apart. A source counts by the
hash of its bytes; one that has its name and another hash has drifted. Costs the encoding of the clips.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.engine.register import Named
from curation.media.encode import jpeg_part
from curation.media.video import iter_frames
from curation.memory import MemoryInputs
from curation.pack.shards import end_of_archive, read_members, stored_size, write_members
from curation.publish.errors import RecipeError
from curation.stage import WorkItem
from curation.storage import digests
from curation.storage.store import Store, parquet_bytes, table_file
from schemas import tables as t
from schemas.printable import printable
from schemas.samples.manifest import manifest_row
from schemas.samples.members import reference_members
from schemas.samples.sample import Sample
from schemas.table import Table
from schemas.tables.output import ManifestRow
from stages.packing.packing import Packing, PackingSettings
from stages.scan.portrait_picture import portrait
from workflows.recipe import libraries, read

Pictures = Mapping[tuple[str, str], bytes]
"""By segment and name."""


@dataclass
class Replay:
    """What following a recipe came to."""

    samples: int = 0
    of: int = 0
    equal: list[str] = field(default_factory=list)
    """shards of the same bytes as the recipe's"""
    unequal: list[str] = field(default_factory=list)
    drifted: list[tuple[str, str]] = field(default_factory=list)
    """(source, path) of files that have a source's name and other bytes"""
    missing: list[str] = field(default_factory=list)
    """sources of which no file was given"""
    unmade: dict[str, list[str]] = field(default_factory=dict)
    """samples whose source is here -> sources whose references of the person they lack"""
    differing: list[str] = field(default_factory=list)
    """samples that were made, but not as they were"""
    other_versions: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """library -> (the recipe's version, the one here), where they differ"""

    @property
    def whole(self) -> bool:
        """Whether every shard came out as it was."""
        return not self.unequal


def replay(folder: Path, given: Sequence[Named], out: Path) -> Replay:
    """Rebuild a recipe's samples in an empty folder, as far as its sources are among the given files.

    Raises:
        RecipeError: it is no recipe, none of its sources is given, or the folder is not empty.
        MediaError: a source cannot be decoded.
    """
    said, sources, samples = read(folder)
    if out.exists() and any(out.iterdir()):
        raise RecipeError(f"{out} is not empty; name another folder")
    here, done = libraries(), Replay(of=samples.num_rows)
    made_by = {k: v for k, v in said["made_by"].items() if k != "openlpm"}
    done.other_versions = {k: (v, here.get(k)) for k, v in made_by.items() if here.get(k) != v}
    paths = _found(sources, given, done)
    if not paths:
        raise RecipeError("none of the given files is a source of this recipe; it lists them in sources.parquet")
    store = Store(str(out))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    stage, cuts = Packing(PackingSettings.model_validate(said["packing"])), _cuts(samples)
    rows = samples.to_pylist()
    shown: dict[tuple[str, str], bytes] = {}
    for source_id, path in paths.items():
        for found, data in _portraits(Path(path), cuts.get(source_id, []), said["portraits"]):
            shown[found] = data
    clips = _Clips(folder, stage, paths, rows)
    listed: list[ManifestRow] = []
    for shard, mine in itertools.groupby(sorted(rows, key=lambda r: (r["shard"], r["place"])), lambda r: r["shard"]):
        new = _shard(store, shard, list(mine), clips, shown, paths, done)
        if new:
            store.write(f"shards/{shard[:-4]}.parquet", parquet_bytes(t.MANIFEST.from_rows(new)))
        listed += new
        same = bool(new) and digests.sha256(store, f"shards/{shard}") == said["shards"][shard]
        (done.equal if same else done.unequal).append(shard)
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows(listed))
    done.samples = len(listed)
    return done


def _found(sources: pa.Table, given: Iterable[Named], done: Replay) -> dict[str, str]:
    """Return where each source lies; say which drifted and which are missing."""
    by_hash: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for one in given:
        if "://" in one.path:
            raise RecipeError(f"{one.path}: sources are read again and again; copy them to this machine first")
        with Path(one.path).open("rb") as f:
            by_hash[hashlib.file_digest(f, "sha256").hexdigest()] = one.path
        by_name[printable(Path(one.path).name)] = one.path
    out = {}
    for row in sources.to_pylist():
        if row["sha256"] in by_hash:
            out[row["source_id"]] = by_hash[row["sha256"]]
        elif row["name"] in by_name:
            done.drifted.append((row["source_id"], by_name[row["name"]]))
        else:
            done.missing.append(f"{row['source_id']} {row['name']}")
    return out


class _Clips:
    """The tars of clips, encoded when a sample of a source is asked for first; held until all of it were given."""

    def __init__(self, folder: Path, stage: Packing, paths: Mapping[str, str], rows: Sequence[dict[str, Any]]) -> None:
        self._stage, self._paths = stage, paths
        self._tables = {x: _table(folder, x) for x in Packing.reads}
        self._units: dict[str, list[str]] = defaultdict(list)
        for r in rows:
            self._units[r["source_id"]].append(r["segment_id"])
        self._made: dict[str, bytes] = {}

    def of(self, segment_id: str, source_id: str) -> bytes | None:
        """Return the tar of a clip; None where it could not be made."""
        if source_id in self._units:
            units = tuple(sorted(self._units.pop(source_id)))
            mine = pa.array([source_id])
            parts = {x: [rows.filter(pc.is_in(rows["source_id"], mine))] for x, rows in self._tables.items()}
            inputs = MemoryInputs(Path(self._paths[source_id]), parts)
            self._stage.run(WorkItem(source_id, units=units), inputs)
            self._made |= {Path(name).stem: data for name, data in inputs.files.items()}
        return self._made.pop(segment_id, None)


def _table(folder: Path, table: Table) -> pa.Table:
    file = folder / "tables" / f"{table.name}.parquet"
    return pq.read_table(file, schema=table.schema) if file.exists() else table.empty()


def _cuts(samples: pa.Table) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return the pictures to cut of each source, with the segment they go to, in order of time."""
    out: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for row in samples.select(["segment_id", "pictures"]).to_pylist():
        for one in row["pictures"]:
            out[one["source_id"]].append((row["segment_id"], one))
    return {source: sorted(found, key=lambda x: x[1]["t_s"]) for source, found in out.items()}


def _portraits(
    path: Path, cuts: Sequence[tuple[str, dict[str, Any]]], rules: Mapping[str, int]
) -> Iterator[tuple[tuple[str, str], bytes]]:
    for t_s, same in itertools.groupby(cuts, key=lambda c: c[1]["t_s"]):
        frame = next((f for f in iter_frames(path, t_s - 1e-3, t_s + 1.0)), None)
        if frame is None:
            continue
        rgb = frame.rgb(rules["max_side_px"])
        for segment_id, one in same:
            yield (segment_id, one["name"]), _cut(rgb, one, rules["portrait_px"])


def _cut(rgb: Any, one: Mapping[str, Any], most_px: int) -> bytes:
    """Cut a picture; where a border falls between two pixels, the recipe's hash says on which side."""
    first = b""
    for moved in sorted(itertools.product((0, -1, 1), repeat=4), key=lambda m: sum(map(abs, m))):
        x0, y0, x1, y1 = (a + b for a, b in zip(one["place"], moved, strict=True))
        if not (0 <= x0 < x1 <= rgb.shape[1] and 0 <= y0 < y1 <= rgb.shape[0]):
            continue
        data, _ = portrait(rgb, (x0, y0, x1, y1), most_px)
        data = jpeg_part(data, one["part_xywh"]) if one["part_xywh"] else data
        if hashlib.sha256(data).hexdigest() == one["sha256"]:
            return data
        first = first or data
    return first


def _shard(
    store: Store, shard: str, rows: Sequence[dict[str, Any]], clips: _Clips, shown: Pictures,
    paths: Mapping[str, str], done: Replay,
) -> list[ManifestRow]:  # fmt: skip
    """Write one shard with the samples that can be made; return their rows."""
    out: list[ManifestRow] = []
    offset = 0
    with store.open_output(f"shards/{shard}") as f:
        for row in rows:
            key, names = row["segment_id"], [one["name"] for one in row["pictures"]]
            clip = clips.of(key, row["source_id"]) if row["source_id"] in paths else None
            if clip is None:
                continue
            if lacking := {p["source_id"] for p in row["pictures"] if (key, p["name"]) not in shown}:
                done.unmade[key] = sorted(lacking)
                continue
            refs = [(n, shown[key, n]) for n in names]
            cut_right = all(
                hashlib.sha256(data).hexdigest() == one["sha256"]
                for (_, data), one in zip(refs, row["pictures"], strict=True)
            )
            if hashlib.sha256(clip).hexdigest() != row["clip_sha256"] or not cut_right:
                done.differing.append(key)
            members = [*read_members(clip), (f"{key}.json", row["record"].encode())]
            members += [(f"{key}.{suffix}", data) for suffix, data in reference_members(refs)]
            sample = Sample.model_validate_json(row["record"])
            out.append(manifest_row(sample, paths[row["source_id"]], shard, write_members(f, members, offset)))
            offset += stored_size(len(data) for _, data in members)
        end_of_archive(f)
    if not out:
        store.delete(f"shards/{shard}")
    return out
