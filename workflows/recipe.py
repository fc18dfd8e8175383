"""A dataset's recipe: all that rebuilds its samples from the same sources, and nothing that shows or sounds.

A folder of `recipe.json` (workflow, policy, settings, versions, shards with their hashes) and Parquet files: `sources`
(hash, name, rights), `samples` (times, record, hashes, where references are cut from), the tables that clips are
encoded by, and the decisions. Words and other measured text are in it; pictures, sounds and vectors of voices are not.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from annotators.protocols import Box
from curation.dataset import Dataset
from curation.engine.run import Job
from curation.pack.samples import named
from curation.pack.shards import ShardIndex
from curation.publish.errors import RecipeError
from curation.storage import digests
from curation.storage.store import parquet_bytes
from schemas import tables as t
from schemas.samples.members import FIRST, FURTHER, MEMBERS, pictures
from schemas.table import Table
from schemas.tables.output import ManifestRow
from schemas.tables.people import ReferenceRow
from schemas.tables.scan import FaceFrameRow, PortraitRow
from schemas.tables.speech import SpeakerRow
from stages.packing.packing import Packing, PackingSettings
from stages.scan.portrait_picture import place_of
from stages.scan.scan import ScanSettings

FORMAT = 1
RECIPE = "recipe.json"
LIBRARIES = ("av", "imageio-ffmpeg", "numpy", "opencv-contrib-python-headless", "opencv-contrib-python", "soundfile")
"""What encodes: another version may give other bytes."""

_SOURCE: list[pa.Field[Any]] = [
    pa.field("source_id", pa.string()), pa.field("sha256", pa.string()), pa.field("bytes", pa.int64()),
    pa.field("name", pa.string()), pa.field("duration_s", pa.float64()), pa.field("license", pa.string()),
    pa.field("rights_holder", pa.string()), pa.field("consent", pa.string()), pa.field("session", pa.string()),
]  # fmt: skip
SOURCE = pa.schema(_SOURCE)
_PICTURE = pa.struct([
    ("name", pa.string()), ("source_id", pa.string()), ("t_s", pa.float64()), ("place", pa.list_(pa.int32())),
    ("part_xywh", pa.list_(pa.float64())), ("sha256", pa.string()),
])  # fmt: skip
_SAMPLE: list[pa.Field[Any]] = [
    pa.field("segment_id", pa.string()), pa.field("source_id", pa.string()), pa.field("start_s", pa.float64()),
    pa.field("end_s", pa.float64()), pa.field("shard", pa.string()), pa.field("place", pa.int64()),
    pa.field("clip_sha256", pa.string()), pa.field("record", pa.string()), pa.field("pictures", pa.list_(_PICTURE)),
]  # fmt: skip
SAMPLE = pa.schema(_SAMPLE)
"""`place`: where in its shard; `pictures`: the references, `place` in pixels of the frame as it was analysed."""


def export(job: Job, dataset: Dataset, out: Path) -> tuple[int, int]:
    """Write the recipe of what is packed into an empty folder; return how many samples of how many sources.

    Raises:
        RecipeError: nothing is packed, or it was packed otherwise; the folder is not empty.
    """
    index = ShardIndex.read(dataset.store)
    if index is None or not index.samples:
        raise RecipeError("nothing is packed; `lpm run` or `lpm pack` makes the samples of which this is the recipe")
    if out.exists() and any(out.iterdir()):
        raise RecipeError(f"{out} is not empty; name another folder")
    packing, scan = _settings(job, Packing.name), _settings(job, "scan")
    manifest = dataset.table(t.MANIFEST)
    samples, sources = _samples(dataset, manifest, scan["max_side_px"]), _sources(dataset, manifest)
    (out / "tables").mkdir(parents=True)
    (out / "sources.parquet").write_bytes(parquet_bytes(sources))
    (out / "samples.parquet").write_bytes(parquet_bytes(samples))
    ids = {str(i) for i in sources["source_id"].to_pylist()}
    for table in (*Packing.reads, t.DECISIONS, t.LABELS, t.IDENTITY_DECISIONS):
        if dataset.files(table):
            held = "source_id" in table.column_names
            rows = _plain(table, dataset.table(table, None, ids if held else None))
            (out / "tables" / f"{table.name}.parquet").write_bytes(parquet_bytes(rows.cast(table.described)))
    stored = dataset.store.read_json("workflow.json") or {}
    shards = {name: digests.sha256(dataset.store, f"shards/{name}") for name in index.shards}
    said = {
        "format": FORMAT, "made_by": {"openlpm": version("openlpm"), **libraries()}, "shards": shards,
        "packing": packing, "portraits": {k: scan[k] for k in ("max_side_px", "portrait_px")},
        "policy_id": stored.get("policy_id"), "policy": stored.get("policy"), "workflow": stored.get("workflow"),
    }  # fmt: skip
    (out / RECIPE).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return samples.num_rows, sources.num_rows


def libraries() -> dict[str, str]:
    """Return the versions of what encodes, as far as it is installed."""
    from importlib.metadata import PackageNotFoundError

    out = {}
    for name in LIBRARIES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out


def _settings(job: Job, stage: str) -> dict[str, Any]:
    found = next((s.settings for s in job.pipeline.stages if s.name == stage), None)
    wanted = PackingSettings if stage == Packing.name else ScanSettings
    if not isinstance(found, wanted):
        raise RecipeError(f"the dataset's stage {stage!r} is not the one that ships, so its clips cannot be made again")
    return found.model_dump(mode="json")


def _plain(table: Table, rows: pa.Table) -> pa.Table:
    """Return rows without what tells a person by the voice: no clip is encoded by it unless voices are taken apart."""
    if table is not t.SPEAKERS:
        return rows
    at = table.column_names.index(SpeakerRow.embedding.name)
    none = pa.array([[]] * rows.num_rows, SpeakerRow.embedding.type)
    return rows.set_column(at, table.schema.field(at), none)


def _sources(dataset: Dataset, manifest: pa.Table) -> pa.Table:
    """Return the sources of samples and of their references."""
    ids = set(ManifestRow.source_id.values(manifest))
    if dataset.files(t.REFERENCES):
        sql = 'SELECT DISTINCT ref_source_id FROM "references" JOIN manifest USING (segment_id)'
        ids |= {str(i) for (i,) in dataset.query(sql).fetchall()}
    facts = {r.source_id: r for r in t.SOURCES.rows(dataset.table(t.SOURCES, None, ids))}
    inputs = {r.source_id: r for r in reversed(t.INPUTS.rows(dataset.table(t.INPUTS)))}
    rows = [
        {**{f.name: dict(inputs[i]).get(f.name) for f in SOURCE}, "sha256": facts[i].sha256,
         "duration_s": facts[i].duration_s}
        for i in sorted(ids)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SOURCE)


def _samples(dataset: Dataset, manifest: pa.Table, max_side_px: int) -> pa.Table:
    clips = {r.segment_id: r for r in t.CLIPS.rows(dataset.table(t.CLIPS))}
    shown = defaultdict(list)
    for r in t.REFERENCES.rows(dataset.table(t.REFERENCES)):
        shown[r.segment_id].append(r)
    places = _Places(dataset, max_side_px)
    rows = []
    for row in t.MANIFEST.rows(manifest):
        members = {
            m["name"].split(".", 1)[1]: dataset.store.read(f"shards/{row.shard}", m["offset"], m["size"])
            for m in row.members if m["name"].endswith((f".{MEMBERS[3]}", f".{FIRST}", f".{FURTHER}"))
        }  # fmt: skip
        if FURTHER not in members:
            raise RecipeError("the shards are of an older form; run `lpm pack` and export again")
        found = pictures(members, row.reference_names)
        cuts = []
        for name, r in named(shown[row.segment_id]):
            if name not in found:
                raise RecipeError(f"{row.segment_id} was packed with other references than it has; run `lpm pack`")
            t_s, place = places.of(r)
            digest = hashlib.sha256(found[name]).hexdigest()
            part = [float(x) for x in r.part_xywh]
            cuts.append({"name": name, "source_id": r.ref_source_id, "t_s": t_s, "place": place, "part_xywh": part,
                         "sha256": digest})  # fmt: skip
        rows.append({
            "segment_id": row.segment_id, "source_id": row.source_id, "start_s": row.start_s, "end_s": row.end_s,
            "shard": row.shard, "place": row.members[0]["offset"], "clip_sha256": clips[row.segment_id].sha256,
            "record": members[MEMBERS[3]].decode(), "pictures": cuts,
        })  # fmt: skip
    return pa.Table.from_pylist(rows, SAMPLE)


class _Places:
    """Where portraits were cut from their frames, found again from the boxes of the faces."""

    def __init__(self, dataset: Dataset, max_side_px: int) -> None:
        self._dataset, self._most = dataset, max_side_px
        self._held: dict[str, dict[tuple[str, int], tuple[float, list[int]]]] = {}

    def of(self, r: ReferenceRow) -> tuple[float, list[int]]:
        """Return the time of a reference's frame, and the part of it. Raises RecipeError."""
        if r.ref_source_id not in self._held:
            self._held = {r.ref_source_id: self._read(r.ref_source_id), **dict(list(self._held.items())[:8])}
        try:
            return self._held[r.ref_source_id][r.ref_track_id, r.ref_k]
        except KeyError:
            raise RecipeError(f"no portrait of {r.ref_track_id} at grid index {r.ref_k}; run `lpm run` again") from None

    def _read(self, source_id: str) -> dict[tuple[str, int], tuple[float, list[int]]]:
        (source,) = t.SOURCES.rows(self._dataset.table(t.SOURCES, None, [source_id]))
        scale = max(1.0, max(source.width, source.height) / self._most)
        # As the pictures were reduced: whole pixels, by the longer side.
        width, height = (max(1, round(x / scale)) for x in (source.width, source.height))
        rows = t.TRACKLETS.rows(self._dataset.table(t.TRACKLETS, None, [source_id]))
        track = {r.tracklet_id: r.track_id for r in rows}
        shown = (PortraitRow.tracklet_id, PortraitRow.k, PortraitRow.t_s)
        wanted = {
            (r.tracklet_id, r.k): r.t_s for r in t.PORTRAITS.rows(self._dataset.table(t.PORTRAITS, shown, [source_id]))
        }
        boxes = (FaceFrameRow.tracklet_id, FaceFrameRow.k, *_BOX)
        faces = self._dataset.table(t.FACE_FRAMES, boxes, [source_id])
        faces = faces.filter(pc.is_in(faces["k"], pa.array({k for _, k in wanted}, pa.int32())))
        out = {}
        for f in t.FACE_FRAMES.rows(faces):
            if (f.tracklet_id, f.k) in wanted:
                box = Box(*(x * width / source.width for x in (f.x, f.y, f.w, f.h)))
                out[track.get(f.tracklet_id, ""), f.k] = (
                    wanted[f.tracklet_id, f.k], list(place_of(box, width, height)),
                )  # fmt: skip
        return out


_BOX = (FaceFrameRow.x, FaceFrameRow.y, FaceFrameRow.w, FaceFrameRow.h)


def read(folder: Path) -> tuple[dict[str, Any], pa.Table, pa.Table]:
    """Return a recipe's settings, sources and samples. Raises RecipeError for a folder that is none."""
    try:
        said: dict[str, Any] = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
        tables = [pq.read_table(folder / f"{name}.parquet", schema=s) for name, s in _FILES]
    except (OSError, ValueError) as e:
        raise RecipeError(f"{folder} is no recipe that can be read: {e}") from e
    if said.get("format") != FORMAT:
        raise RecipeError(f"{folder} is a recipe of form {said.get('format')}, this program follows {FORMAT}")
    return said, tables[0], tables[1]


_FILES = (("sources", SOURCE), ("samples", SAMPLE))
