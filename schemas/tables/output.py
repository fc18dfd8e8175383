"""Tables of what comes out: clips, manifest, decisions, errors."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import (
    DURATION,
    END,
    SEGMENT,
    SOURCE,
    START,
    TRACK,
    count,
    index,
    real,
    reals,
    seconds,
    text,
    texts,
)
from schemas.table import Column, Table

_MEMBERS = pa.list_(pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))

CLIPS = Table(
    "clips",
    "encoded clips, before they are gathered into shards",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        text("file", "path of the clip's tar under the dataset"),
        text("sha256", "of that tar"),
        index("width", "of the video, in pixels"),
        index("height", "of the video, in pixels"),
        index("n_frames", "video frames at 25 fps"),
        count("n_audio_samples", "samples of each audio at 48 kHz"),
        real("audio_shift_ms", "sound moved by this much to correct a constant lip-audio offset", "ms"),
        reals("crop_xywh", "the person crop in the picture; the mean of one that moves", "px"),
        real("speak_level_db", "RMS of the speak audio", "dBFS", null=True),
        real("listen_level_db", "RMS of the listen audio", "dBFS", null=True),
        real(
            "speak_wrong_energy",
            "share of the speak audio's energy where another voice is heard; overlapped speech counts whole",
            "0-1",
            null=True,
        ),
        real(
            "listen_wrong_energy",
            "share of the listen audio's energy where the person's own voice is heard; the same",
            "0-1",
            null=True,
        ),
        seconds("overlap_s", "seconds in which the person's own and another voice are heard at once"),
        seconds("separated_s", "of these, seconds taken apart by a separation model"),
    ),
)

MANIFEST = Table(
    "manifest",
    "one row a sample",
    ("sample_id",),
    (
        text("sample_id", "key in the shard; equals the segment_id"),
        SOURCE,
        TRACK,
        text("identity_id", "person"),
        text("split", "train, val, test, or withheld: in none of them, as that would leak"),
        text("state", "speak, listen, idle, or both"),
        text("category", "Speak, Conversation, Listen_dialogue, Listen_nondialogue, Silence (LPM 1.0's classes)"),
        START,
        END,
        DURATION,
        index("width", "video width in pixels"),
        index("height", "video height in pixels"),
        real("fps", "video frame rate", "1/s"),
        index("n_frames", "video frames"),
        count("n_audio_samples", "samples of each audio at 48 kHz"),
        text("language", "language of the source's speech", null=True),
        text("text", "words spoken or heard; null where they are not known", null=True),
        text("caption", "prose caption"),
        texts("emotions", "emotion terms"),
        texts("expressions", "expression terms"),
        real("asd_mean", "mean active speaker score", null=True),
        real("sync_offset_ms", "lip-audio offset of the track", "ms", null=True),
        real("sync_confidence", "its confidence", null=True),
        real("confidence", "mean state confidence", "0-1"),
        *(
            real(name, f"mean score of {name} in the source's sound; null where there is none", "0-1", null=True)
            for name in ("music", "singing", "laughter", "noise")
        ),
        real("median_face_px", "median shorter side of the face box in the source", "px"),
        text("partner_track_id", "face of the other person", null=True),
        text("pair_id", "exchange this sample belongs to", null=True),
        text(
            "pair_status",
            "paired: another side of the exchange is in the dataset; orphan: it was seen but is not kept; off_screen: "
            "it was never seen; null: no exchange",
            null=True,
        ),
        index("n_references", "reference images in the sample"),
        text("license", "licence of the source; null = unknown", null=True),
        text("shard", "tar file under shards/"),
        Column("members", _MEMBERS, "members with byte offset and size inside the shard"),
        text("annotators", "JSON object: what measured what, with weights' hashes"),
        text("policy_id", "hash of the policy that kept it"),
    ),
    grain="dataset",
)


DECISIONS = Table(
    "decisions",
    "the outcome of every unit: kept, filtered, quarantined or pending, with the reason",
    ("unit", "unit_id"),
    (
        text("unit", "sources, shots, tracks, or segments"),
        text("unit_id", "its id"),
        SOURCE,
        seconds("duration_s", "its length"),
        text("outcome", "kept, filtered, quarantined, or pending"),
        text("step", "funnel step of the rule, or the stage that failed or is missing", null=True),
        text("rule", "rule id, or the error's class", null=True),
        text(
            "reason",
            "sentence for people: rule, measured values and threshold, or the error's message",
            null=True,
        ),
        text("measured", "JSON object of the measured values the rule looked at", null=True),
        text("decided_by", "the unit whose measurement decided: itself, a parent, or a child"),
    ),
    grain="dataset",
)

ERRORS = Table(
    "errors",
    "quarantine: what failed, where, and how",
    ("source_id", "stage", "unit_id"),
    (
        SOURCE,
        text("stage", "stage that failed"),
        text("unit_id", "the item that failed: the source, or a track or segment of it"),
        text("error", "exception class or media error code"),
        text("message", "what is wrong and what to do"),
        text("traceback", "last frames of the traceback"),
    ),
    grain="dataset",
)
