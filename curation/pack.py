"""Gather the kept clips into shards with their captions, references and provenance, and write the manifest.

Clips are encoded already (stage `packing`), so this is a copy with small additions: re-packing after a new decision
or caption costs no encoding. Shards and manifest are deterministic; an equal dataset is not written again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curation.dataset import Dataset
from curation.run import Job
from curation.shards import end_of_archive, read_members, stored_size, write_members
from curation.store import Store, parquet_bytes, table_file
from schemas import sample as s
from schemas import tables as t
from schemas.time import PACKED_AUDIO_HZ


class PackSettings(BaseModel):
    """How samples are gathered into shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_mb: float = Field(default=512.0, gt=0, description="start a new shard beyond this many MiB")
    shard_samples: int = Field(default=10_000, gt=0, description="or beyond this many samples")


class PackError(RuntimeError):
    """Samples cannot be gathered; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A kept segment with everything that goes into its sample, except the bytes."""

    sample: s.Sample
    clip_file: str
    refs: tuple[tuple[str, str, str, int], ...]
    """(member suffix, source_id, track_id, grid index) of each reference image"""


def pack(job: Job) -> dict[str, Any]:
    """Write shards, sidecars and manifest.parquet for all segments that the ledger keeps; return what was written.

    Returns {"samples", "shards", "bytes", "status": "written" | "unchanged"}.
    """
    settings = PackSettings.model_validate(job.pipeline.workflow.pack)
    stepper = job.stepper()
    store = stepper.store
    decided = Dataset(job.store_uri).table(t.DECISIONS).to_pylist()
    kept = {r["unit_id"] for r in decided if r["unit"] == "segments" and r["outcome"] == "kept"}
    identities = {r.name: dict(stepper.identity(r)) for r in job.pipeline.stages}
    entries = _entries(Dataset(job.store_uri), kept, identities, job.policy.policy_id)
    plan = _plan_key(entries, settings, store)
    old = store.read_json("shards/index.json")
    if old is not None and old["plan"] == plan and all(store.exists(f"shards/{n}") for n in old["shards"]):
        return {**old, "status": "unchanged"}
    images = _Images(store, Dataset(job.store_uri))
    rows: list[dict[str, Any]] = []
    shards: list[str] = []
    total = 0
    for split, group in _by_split(entries):
        for number, batch in enumerate(_batches(group, settings, store)):
            name = f"{split}-{number:06d}.tar"
            new, size = _write_shard(store, name, batch, images)
            store.write(f"shards/{name[:-4]}.parquet", parquet_bytes(t.MANIFEST.from_rows(new)))
            rows += new
            shards.append(name)
            total += size
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows(rows))
    live = {f"shards/{n}" for n in shards} | {f"shards/{n[:-4]}.parquet" for n in shards} | {"shards/index.json"}
    for name in list(store.names("shards")):
        if name not in live:
            store.delete(name)
    index = {"plan": plan, "samples": len(rows), "shards": shards, "bytes": total}
    store.write_json("shards/index.json", index)
    return {**index, "status": "written"}


# ------------------------------------------------------------------------------------------------ what goes in


def _entries(
    dataset: Dataset, kept: set[str], identities: Mapping[str, dict[str, str]], policy_id: str
) -> list[_Entry]:
    def rows(table: Any) -> list[dict[str, Any]]:
        return dataset.table(table).to_pylist()

    across = {r["segment_id"]: r for r in rows(t.SESSION_PAIRS)}
    segments = [across_files(r, across) for r in rows(t.SEGMENTS) if r["segment_id"] in kept]
    sources = {r["source_id"]: r for r in rows(t.SOURCES)}
    inputs = {r["source_id"]: r for r in reversed(rows(t.INPUTS))}
    audio = {r["source_id"]: r for r in rows(t.AUDIO)}
    captions = {r["segment_id"]: r for r in rows(t.CAPTIONS)}
    clips = {r["segment_id"]: r for r in rows(t.CLIPS)}
    people = {r["track_id"]: r["identity_id"] for r in rows(t.TRACK_IDENTITIES)}
    splits = {r["identity_id"]: r["split"] for r in rows(t.IDENTITIES)}
    words, runs, refs = defaultdict(list), defaultdict(list), defaultdict(list)
    for r in rows(t.WORDS):
        words[r["source_id"]].append(r)
    for r in rows(t.TIMELINE):
        runs[r["track_id"]].append(r)
    for r in rows(t.REFERENCES):
        refs[r["segment_id"]].append(r)
    unusable = sorted(r["segment_id"] for r in segments if r["state"] == "discard")
    if unusable:
        raise PackError(
            f"the policy keeps {len(unusable)} segments in state 'discard', such as {unusable[0]}, which are nobody's "
            "performance: add a rule on segments that keeps \"state <> 'discard'\""
        )
    sides = kept_sides(segments)
    out = []
    for seg in sorted(segments, key=lambda r: str(r["segment_id"])):
        clip = clips.get(seg["segment_id"])
        if clip is None:
            raise PackError(f"kept segment {seg['segment_id']} has no encoded clip; run `lpm run` again to encode it")
        sid, identity = seg["source_id"], people.get(seg["track_id"], "")
        mine = refs[seg["segment_id"]]
        member = {id(r): f"ref_{r['kind']}_{r['n']}.jpg" for r in mine}
        sample = s.Sample(
            sample_id=seg["segment_id"],
            state=seg["state"],
            category=seg["category"],
            split=splits.get(identity, "train"),
            identity_id=identity,
            text=seg["text"],
            language=audio[sid]["language"] if sid in audio else None,
            source=s.SourceRef(
                source_id=sid, sha256=sources[sid]["sha256"], name=inputs[sid]["name"], start_s=seg["start_s"],
                end_s=seg["end_s"], shot_id=seg["shot_id"], track_id=seg["track_id"], session=inputs[sid]["session"],
            ),
            rights=s.Rights(**{k: inputs[sid][k] for k in ("license", "rights_holder", "consent")}),
            video=s.Video(
                width=clip["width"], height=clip["height"], fps=s.FPS, n_frames=clip["n_frames"],
                crop_xywh=clip["crop_xywh"], median_face_px=seg["median_face_px"],
            ),
            audio=s.Audio(
                rate_hz=PACKED_AUDIO_HZ, n_samples=clip["n_audio_samples"], shift_ms=clip["audio_shift_ms"],
                **{k: clip[k] for k in _SOUND_SCORES},
            ),
            words=[_word(w, seg) for w in words[sid] if _middle_inside(w, seg)],
            states=[_run(r, seg) for r in runs[seg["track_id"]] if _overlaps(r, seg)],
            partner=seg["partner"],
            partner_track_id=seg["partner_track_id"],
            pair_id=seg["pair_id"],
            pair_status=pair_status(seg, sides),
            performance=_performance(captions.get(seg["segment_id"])),
            references=[_reference(r, member[id(r)]) for r in mine],
            scores=s.Scores(
                state_confidence=seg["confidence"], asd_mean=seg["asd_mean"], sync_offset_ms=seg["sync_offset_ms"],
                sync_confidence=seg["sync_confidence"], speech_ratio=seg["speech_ratio"],
                overlap_ratio=seg["overlap_ratio"], visible_ratio=seg["visible_ratio"],
            ),
            annotators=dict(identities),
            policy_id=policy_id,
        )  # fmt: skip
        keys = tuple((member[id(r)], r["ref_source_id"], r["ref_track_id"], r["ref_k"]) for r in mine)
        out.append(_Entry(sample, clip["file"], keys))
    return out


_SOUND_SCORES = (
    "speak_level_db", "listen_level_db", "speak_wrong_energy", "listen_wrong_energy", "overlap_s", "separated_s",
)  # fmt: skip


def across_files(seg: dict[str, Any], across: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a segment with the partner and exchange that its session's other files give it, where they do."""
    row = across.get(seg["segment_id"])
    if row is None:
        return seg
    told = {c: row[f"session_{c}"] for c in ("partner", "partner_track_id", "pair_id")}
    # One file alone cannot tell a silent listener's dialogue from a narration; the other file can.
    heard = seg["category"] == "Listen_nondialogue" and told["partner_track_id"] is not None
    return {**seg, **told, "category": "Listen_dialogue" if heard else seg["category"]}


PairStatus = Literal["paired", "orphan", "off_screen"]


def kept_sides(segments: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return, per pair id, the tracks with a kept segment in that exchange."""
    out: dict[str, set[str]] = defaultdict(set)
    for seg in segments:
        if seg["pair_id"] is not None:
            out[seg["pair_id"]].add(seg["track_id"])
    return out


def pair_status(seg: Mapping[str, Any], sides: Mapping[str, set[str]]) -> PairStatus | None:
    """Say whether the other side of a kept segment's exchange is kept too; None without an exchange."""
    if seg["pair_id"] is None:
        return None
    if sides[seg["pair_id"]] - {seg["track_id"]}:
        return "paired"
    return "orphan" if seg["partner_track_id"] is not None else "off_screen"


def _overlaps(run: Mapping[str, Any], seg: Mapping[str, Any]) -> bool:
    return bool(run["start_s"] < seg["end_s"] and run["end_s"] > seg["start_s"])


def _middle_inside(word: Mapping[str, Any], seg: Mapping[str, Any]) -> bool:
    return bool(seg["start_s"] <= (word["start_s"] + word["end_s"]) / 2 < seg["end_s"])


def _word(w: Mapping[str, Any], seg: Mapping[str, Any]) -> s.WordRef:
    start, end = (round(w[k] - seg["start_s"], 3) for k in ("start_s", "end_s"))
    return s.WordRef(word=w["word"], start_s=start, end_s=end, probability=w["probability"], speaker_id=w["speaker_id"])


def _run(r: Mapping[str, Any], seg: Mapping[str, Any]) -> s.StateRun:
    start = max(0.0, r["start_s"] - seg["start_s"])
    end = min(seg["end_s"], r["end_s"]) - seg["start_s"]
    return s.StateRun(
        state=r["state"], start_s=round(start, 3), end_s=round(end, 3), confidence=r["confidence"], reason=r["reason"]
    )


def _performance(row: Mapping[str, Any] | None) -> s.Performance:
    if row is None:
        return s.Performance(
            caption="", emotions=[], expressions=[], head_motion=[], gaze="", stance=None, shot_type="",
            body_motion="", contradictions=[], annotator="none",
        )  # fmt: skip
    return s.Performance(**{k: row[k] for k in s.Performance.model_fields})


def _reference(r: Mapping[str, Any], member: str) -> s.ReferenceRef:
    return s.ReferenceRef(
        member=member, kind=r["kind"], source_id=r["ref_source_id"], time_s=r["ref_t_s"], distance=r["distance"],
        view=r["view"], expression=r["expression"], quality=r["quality"], overlaps_clip=r["overlaps_clip"],
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ shards


def _plan_key(entries: Iterable[_Entry], settings: PackSettings, store: Store) -> str:
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for e in entries:
        digest.update(e.sample.model_dump_json().encode())
        digest.update(json.dumps([e.clip_file, store.size(e.clip_file), e.refs]).encode())
    return digest.hexdigest()


def _by_split(entries: list[_Entry]) -> list[tuple[str, list[_Entry]]]:
    """Group by split; inside one, order by a hash of the key, so that neighbours in a shard are unrelated."""
    groups: dict[str, list[_Entry]] = defaultdict(list)
    for e in entries:
        groups[e.sample.split].append(e)
    order = {
        k: sorted(g, key=lambda e: hashlib.sha256(e.sample.sample_id.encode()).digest()) for k, g in groups.items()
    }
    return sorted(order.items())


def _batches(group: list[_Entry], settings: PackSettings, store: Store) -> Iterable[list[_Entry]]:
    batch: list[_Entry] = []
    size = 0.0
    for e in group:
        # The clip's tar is nearly all of a sample; the limit is a target, not a promise.
        more = store.size(e.clip_file)
        if batch and (size + more > settings.shard_mb * 2**20 or len(batch) >= settings.shard_samples):
            yield batch
            batch, size = [], 0.0
        batch.append(e)
        size += more
    if batch:
        yield batch


def _write_shard(store: Store, name: str, batch: list[_Entry], images: _Images) -> tuple[list[dict[str, Any]], int]:
    rows = []
    offset = 0
    with store.open_output(f"shards/{name}") as out:
        for e in batch:
            key = e.sample.sample_id
            members = [
                *read_members(store.read(e.clip_file)),
                (f"{key}.json", e.sample.model_dump_json(indent=1).encode()),
            ]
            members += [(f"{key}.{suffix}", images.get(sid, track, k)) for suffix, sid, track, k in e.refs]
            index = write_members(out, members, offset)
            offset += stored_size(len(data) for _, data in members)
            rows.append(_manifest_row(e.sample, name, index))
        end_of_archive(out)
    return rows, offset + 1024


def _manifest_row(x: s.Sample, shard: str, index: list[tuple[str, int, int]]) -> dict[str, Any]:
    return {
        "sample_id": x.sample_id, "source_id": x.source.source_id, "track_id": x.source.track_id,
        "identity_id": x.identity_id, "split": x.split, "state": x.state, "category": x.category,
        "start_s": x.source.start_s,
        "end_s": x.source.end_s, "duration_s": x.source.end_s - x.source.start_s, "width": x.video.width,
        "height": x.video.height, "fps": x.video.fps, "n_frames": x.video.n_frames,
        "n_audio_samples": x.audio.n_samples, "language": x.language, "text": x.text,
        "caption": x.performance.caption, "emotions": x.performance.emotions,
        "expressions": x.performance.expressions, "asd_mean": x.scores.asd_mean,
        "sync_offset_ms": x.scores.sync_offset_ms, "sync_confidence": x.scores.sync_confidence,
        "confidence": x.scores.state_confidence, "median_face_px": x.video.median_face_px,
        "partner_track_id": x.partner_track_id, "pair_id": x.pair_id, "pair_status": x.pair_status,
        "n_references": len(x.references),
        "license": x.rights.license, "shard": shard,
        "members": [{"name": n, "offset": o, "size": z} for n, o, z in index],
        "annotators": json.dumps(x.annotators, sort_keys=True), "policy_id": x.policy_id,
    }  # fmt: skip


class _Images:
    """Portraits by (source, track, grid index); keeps the last sources read."""

    def __init__(self, store: Store, dataset: Dataset) -> None:
        tracklets = dataset.table(t.TRACKLETS).to_pylist()
        self._track = {r["tracklet_id"]: r["track_id"] for r in tracklets}
        self._store, self._dataset = store, dataset
        self._load = functools.lru_cache(maxsize=64)(self._source)

    def _source(self, source_id: str) -> dict[tuple[str, int], bytes]:
        out = {}
        prefix = f"tables/{t.PORTRAITS.name}/bucket={source_id[:2]}"
        for name in self._store.tables(prefix):
            if name.rsplit("/", 1)[-1].startswith(source_id):
                part: pa.Table = self._store.read_table(name, t.PORTRAITS, ["tracklet_id", "k", "image"])
                for r in part.to_pylist():
                    out[self._track.get(r["tracklet_id"], ""), r["k"]] = r["image"]
        return out

    def get(self, source_id: str, track_id: str, k: int) -> bytes:
        """Return the JPEG of one portrait.

        Raises:
            PackError: there is no such portrait.
        """
        with contextlib.suppress(KeyError):
            return self._load(source_id)[track_id, k]
        raise PackError(f"no portrait of track {track_id} at grid index {k}; run `lpm run` again")
