"""Tables of what comes out: clips, manifest, decisions, errors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypedDict

import pyarrow as pa

from schemas import columns as c
from schemas.column import Column
from schemas.packed import IN_AUDIO
from schemas.row import Row
from schemas.table import Table

_MEMBERS = pa.list_(pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))


class ClipRow(Row):
    """Encoded clips, before they are gathered into shards."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    file: Column[str] = c.text("path of the clip's tar under the dataset")
    sha256: Column[str] = c.text("of that tar")
    width: Column[int] = c.index("of the video, in pixels")
    height: Column[int] = c.index("of the video, in pixels")
    n_frames: Column[int] = c.index("video frames at 25 fps")
    n_audio_samples: Column[int] = c.count("samples of each audio at 48 kHz")
    audio_shift_ms: Column[float] = c.real("sound moved by this much to correct a constant lip-audio offset", "ms")
    crop_xywh: Column[list[float]] = c.reals("the person crop in the picture; the mean of one that moves", "px")
    speak_level_db: Column[float | None] = c.real("RMS of the speak audio", "dBFS", null=True, packed=IN_AUDIO)
    listen_level_db: Column[float | None] = c.real("RMS of the listen audio", "dBFS", null=True, packed=IN_AUDIO)
    speak_wrong_energy: Column[float | None] = c.real(
        "share of the speak audio's energy where another voice is heard; overlapped speech counts whole",
        "0-1",
        null=True,
        packed=IN_AUDIO,
    )
    listen_wrong_energy: Column[float | None] = c.real(
        "share of the listen audio's energy where the person's own voice is heard; the same",
        "0-1",
        null=True,
        packed=IN_AUDIO,
    )
    overlap_s: Column[float] = c.seconds(
        "seconds in which the person's own and another voice are heard at once", packed=IN_AUDIO
    )
    separated_s: Column[float] = c.seconds("of these, seconds taken apart by a separation model", packed=IN_AUDIO)
    enhancer: Column[str | None] = c.text(
        "what took noise away from both audios; null = nothing did", null=True, packed=IN_AUDIO
    )
    snr_before_db: Column[float | None] = c.real(
        "signal to noise of the clip's sound before it was enhanced; null where it was not, or nobody speaks in it",
        "dB",
        null=True,
        packed=IN_AUDIO,
    )
    snr_after_db: Column[float | None] = c.real("the same, afterwards", "dB", null=True, packed=IN_AUDIO)
    removed_db: Column[float | None] = c.real(
        "level of what was taken away, relative to the sound before; null for silence and where nothing was",
        "dB",
        null=True,
        packed=IN_AUDIO,
    )


CLIPS = Table(ClipRow, "clips", (ClipRow.segment_id,))


class Member(TypedDict):
    """A file of a sample, and where its bytes lie inside the shard."""

    name: str
    offset: int
    size: int


class ManifestRow(Row):
    """One row a sample. Columns of other tables that are marked as packed follow."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    name: Column[str] = c.text("file name of the source as registered")
    uri: Column[str] = c.text("where the source lay when it was packed: a path or an s3:// address")
    track_id: Column[str] = c.track_id()
    identity_id: Column[str] = c.text("person")
    split: Column[str] = c.text("train, val, test, or withheld: in none of them, as that would leak")
    state: Column[str] = c.text("speak, listen, idle, or both")
    category: Column[str] = c.text(
        "Speak, Conversation, Listen_dialogue, Listen_nondialogue, Silence (LPM 1.0's classes)"
    )
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    duration_s: Column[float] = c.duration_s()
    width: Column[int] = c.index("video width in pixels")
    height: Column[int] = c.index("video height in pixels")
    fps: Column[float] = c.real("video frame rate", "1/s")
    n_frames: Column[int] = c.index("video frames")
    n_audio_samples: Column[int] = c.count("samples of each audio at 48 kHz")
    language: Column[str | None] = c.text("language of the source's speech", null=True)
    text: Column[str | None] = c.text("words spoken or heard; null where they are not known", null=True)
    confidence: Column[float] = c.real("mean state confidence", "0-1")
    median_face_px: Column[float] = c.real("median shorter side of the face box in the source", "px")
    partner_track_id: Column[str | None] = c.text("face of the other person", null=True)
    pair_id: Column[str | None] = c.text("exchange this sample belongs to", null=True)
    pair_status: Column[str | None] = c.text(
        "paired: another side of the exchange is in the dataset; orphan: it was seen but is not kept; "
        "off_screen: it was never seen; null: no exchange",
        null=True,
    )
    n_references: Column[int] = c.index("reference images in the sample")
    reference_names: Column[list[str]] = c.texts("their names: ref.jpg, a member, then those of the files in refs.tar")
    license: Column[str | None] = c.text("licence of the source; null = unknown", null=True)
    rights_holder: Column[str | None] = c.text("who holds the rights in the source; null = unknown", null=True)
    consent: Column[str | None] = c.text("what the people in the source agreed to; null = unknown", null=True)
    shard: Column[str] = c.text("tar file under shards/")
    members: Column[list[Member]] = Column(_MEMBERS, "members with byte offset and size inside the shard")
    member_sha256: Column[list[str] | None] = Column(
        pa.list_(pa.string()),
        "SHA-256 of each member, in the order of members; null = packed before they were kept",
        nullable=True,
    )
    shard_sha256: Column[str | None] = c.text("of the whole tar file; null likewise", null=True)
    annotators: Column[str] = c.text("JSON object: what measured what, with weights' hashes")
    policy_id: Column[str] = c.text("hash of the policy that kept it")
    vector: Column[list[float] | None] = c.reals(
        "what the clip shows, of length 1, for `lpm search`; null = no model was chosen", null=True
    )
    vector_model: Column[str | None] = c.text("the model; vectors of equal names alone may be compared", null=True)
    reference_vectors: Column[list[list[float] | None] | None] = Column(
        pa.list_(pa.list_(pa.float32())),
        "the same of each reference image, in the order of `reference_names`; null likewise",
        nullable=True,
    )


FORMER_KEY = "sample_id"
"""What the manifest's `segment_id` was called before all tables agreed on one name."""


class ManifestTable(Table[ManifestRow]):
    """The manifest: its own columns, then those of other tables that are packed, a user's among them."""

    @property
    def columns(self) -> tuple[Column[Any], ...]:
        """The columns in the order of the file."""
        from schemas.units import packed_columns  # units are made of tables

        marked = tuple(c for _, _, c in packed_columns() if c.packed is not None and c.packed.manifest)
        return (*self.row.columns, *(_in_manifest(c) for c in marked))


@lru_cache(maxsize=1024)
def _in_manifest(c: Column[Any]) -> Column[Any]:
    """Return a column as it is in the manifest: null where nothing of a sample was measured."""
    out = Column[Any](c.type, c.doc, c.unit, c.nullable or c.absent is None)
    out.name = c.name
    return out


MANIFEST = ManifestTable(ManifestRow, "manifest", (ManifestRow.segment_id,), grain="dataset")


class DecisionRow(Row):
    """The outcome of every unit: kept, filtered, quarantined or pending, with the reason."""

    unit: Column[str] = c.text("sources, shots, tracks, or segments")
    unit_id: Column[str] = c.text("its id")
    source_id: Column[str] = c.source_id()
    duration_s: Column[float] = c.seconds("its length")
    outcome: Column[str] = c.text("kept, filtered, quarantined, or pending")
    step: Column[str | None] = c.text("funnel step of the rule, or the stage that failed or is missing", null=True)
    rule: Column[str | None] = c.text("rule id, or the error's class", null=True)
    reason: Column[str | None] = c.text(
        "sentence for people: rule, measured values and threshold, or the error's message", null=True
    )
    measured: Column[str | None] = c.text("JSON object of the measured values the rule looked at", null=True)
    decided_by: Column[str] = c.text("the unit whose measurement decided: itself, a parent, or a child")


DECISIONS = Table(DecisionRow, "decisions", (DecisionRow.unit, DecisionRow.unit_id), grain="dataset")


class ErrorRow(Row):
    """Quarantine: what failed, where, and how."""

    source_id: Column[str] = c.source_id()
    stage: Column[str] = c.text("stage that failed")
    unit_id: Column[str] = c.text("the item that failed: the source, or a track or segment of it")
    error: Column[str] = c.text("exception class, media error code, `bug`, or how its process ended")
    message: Column[str] = c.text("what is wrong and what to do")
    traceback: Column[str] = c.text("last frames of the traceback")


ERRORS = Table(ErrorRow, "errors", (ErrorRow.source_id, ErrorRow.stage, ErrorRow.unit_id), grain="dataset")
