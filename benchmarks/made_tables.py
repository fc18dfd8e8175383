"""Tables as a run of the workflow `conversation` leaves them for a source, made without media; for other programs here.

Each shot has two people and each track ten segments of four seconds; about half of them are kept by the policy
`default`. Every ninth track's face is too small to be followed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from schemas import tables as t
from schemas.table import Table

SEGMENT_S = 4.0
PER_TRACK = 10
"""Segments of a track."""
TRACK_S = SEGMENT_S * PER_TRACK
CLIP = "clips/synthetic.tar"
STATES = ("speak", "listen", "idle", "discard")
CATEGORIES = ("Speak", "Listen_dialogue", "Silence", "Unknown")


def filled(table: Table, n: int, /, **given: Any) -> pa.Table:
    """Return `n` rows of a table with the given columns and, in all others, null or what is nearest to nothing."""
    arrays = []
    for c in table.columns:
        value = given.get(c.name)
        if value is None and c.nullable:
            arrays.append(pa.nulls(n, c.type))
        elif value is None:
            arrays.append(pa.repeat(pa.scalar(_nothing(c.type), c.type), n))
        elif isinstance(value, str | float | int):
            arrays.append(pa.repeat(pa.scalar(value, c.type), n))
        elif isinstance(value, pa.Array):
            arrays.append(value.cast(c.type))
        else:
            arrays.append(pa.array(value, c.type))
    return pa.Table.from_arrays(arrays, schema=table.schema)


def _nothing(kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return ""
    if pa.types.is_list(kind):
        return []
    if pa.types.is_binary(kind):
        return b""
    return False if pa.types.is_boolean(kind) else 0


def source_tables(source_id: str, per_source: int, asd_rows: int) -> dict[Table, pa.Table]:
    """Return the tables of one source that hold rows. Every ninth track's face is too small to be followed."""
    rng = np.random.default_rng(int(source_id, 16))
    n_tracks = -(-per_source // PER_TRACK) * 9 // 8
    n_shots = -(-n_tracks // 2)
    length = n_shots * TRACK_S
    shots = [f"{source_id}-s{i:04d}" for i in range(n_shots)]
    shot_start = np.arange(n_shots) * TRACK_S
    tracks = [f"{source_id}-t{i:04d}" for i in range(n_tracks)]
    shot_of = np.arange(n_tracks) // 2
    face = np.where(np.arange(n_tracks) % 9 == 8, 20.0, 60.0 + rng.integers(0, 80, n_tracks))
    live = np.flatnonzero(face > 36)[: per_source // PER_TRACK]
    face[np.setdiff1d(np.arange(n_tracks), live)] = 20.0
    time = {"start_s": shot_start, "end_s": shot_start + TRACK_S, "duration_s": np.full(n_shots, TRACK_S)}
    mine = {k: v[shot_of] for k, v in time.items()}
    of = np.repeat(live, PER_TRACK)
    start = mine["start_s"][of] + np.tile(np.arange(PER_TRACK) * SEGMENT_S, len(live))
    n = len(of)
    segments = [f"{tracks[i]}-{round(1000 * s):08d}" for i, s in zip(of, start, strict=True)]
    state = (rng.integers(0, 4, n) + np.arange(n)) % 4
    partner = [tracks[i ^ 1] if (i ^ 1) < n_tracks else None for i in of]
    asd_per_track = np.full(len(live), max(1, asd_rows // len(live)))
    asd_of = np.repeat(live, asd_per_track)
    said = np.arange(2 * n) * length / (2 * n)
    voices = [f"{source_id}-v00", f"{source_id}-v01"]
    confidence = np.round(rng.uniform(0.3, 1.0, n), 3)
    seg = {"segment_id": segments, "source_id": source_id}
    return {
        t.SOURCES: filled(t.SOURCES, 1, source_id=source_id, sha256=source_id * 4, duration_s=length, has_audio=True,
                          width=1280, height=720, short_side_px=720, fps=25.0, n_frames=round(25 * length)),
        t.AUDIO: filled(t.AUDIO, 1, source_id=source_id, has_audio=True, language="en"),
        t.TURN_TAKING: filled(t.TURN_TAKING, 1, source_id=source_id, n_voices=2),
        t.SHOTS: filled(t.SHOTS, n_shots, shot_id=shots, source_id=source_id, **time, people_ratio=1.0,
                        n_people_mean=2.0, n_people_max=2, luma_mean=np.where(shot_start % 400 == 0, 90.0, 110.0)),
        t.TRACKS: filled(t.TRACKS, n_tracks, track_id=tracks, source_id=source_id, shot_id=[shots[i] for i in shot_of],
                         **mine, median_face_px=face, visible_ratio=1.0, sharpness=20.0, n_frames=round(25 * TRACK_S)),
        t.TRACKLETS: filled(t.TRACKLETS, n_tracks, source_id=source_id, track_id=tracks,
                            tracklet_id=[f"{source_id}-w0000-{i:03d}" for i in range(n_tracks)]),
        t.SPEAKERS: filled(t.SPEAKERS, 2, speaker_id=voices, source_id=source_id),
        t.VOICES: filled(t.VOICES, 2, speaker_id=voices, diarized_as=voices, source_id=source_id),
        t.TURNS: filled(t.TURNS, n_shots, speaker_id=voices[0], source_id=source_id, start_s=shot_start,
                        end_s=shot_start + 9),
        t.VOICE_TURNS: filled(t.VOICE_TURNS, n_shots, speaker_id=voices[0], diarized_as=voices[0],
                              source_id=source_id, start_s=shot_start, end_s=shot_start + 9),
        t.WORDS: filled(t.WORDS, 2 * n, source_id=source_id, n=np.arange(2 * n), start_s=said, end_s=said + 0.4,
                        word=[f"word{i % 500}" for i in range(2 * n)], probability=0.9, speaker_id=voices[0]),
        t.SYNC: filled(t.SYNC, n_tracks, track_id=tracks, offset_ms=np.round(rng.normal(0, 20, n_tracks))),
        t.ASD_FRAMES: filled(t.ASD_FRAMES, len(asd_of), track_id=np.array(tracks)[asd_of],
                             k=np.concatenate([np.arange(x) for x in asd_per_track]),
                             score=np.round(rng.normal(0, 2, len(asd_of)) * 4) / 4, annotator="synthetic"),
        t.TIMELINE: filled(t.TIMELINE, n, track_id=[tracks[i] for i in of], source_id=source_id, start_s=start,
                           end_s=start + SEGMENT_S, state=[STATES[i] for i in state], confidence=confidence,
                           reason="synced_voice"),
        t.SEGMENTS: filled(t.SEGMENTS, n, **seg, shot_id=[shots[shot_of[i]] for i in of],
                           track_id=[tracks[i] for i in of], start_s=start, end_s=start + SEGMENT_S,
                           duration_s=SEGMENT_S, state=[STATES[i] for i in state],
                           category=[CATEGORIES[i] for i in state], reason="synced_voice", confidence=confidence,
                           visible_ratio=1.0, speech_ratio=np.round(rng.uniform(0, 1, n), 2), text="some words said",
                           median_face_px=face[of], partner_track_id=partner, speaker_id=voices[0],
                           pair_id=[f"{source_id}-p{i:04d}" for i in (start // SEGMENT_S).astype(int)]),
        t.CLIP_PLANS: filled(t.CLIP_PLANS, n, **seg, framing="shoulders", clip_face_px=face[of], packed_face_px=120.0,
                             face_in_crop=1.0, crop_path=[[0.0, 1.0, 2.0, 3.0, 4.0]] * n,
                             text_in_crop=np.where(rng.uniform(size=n) < 0.1, 0.02, 0.0)),
        t.BODIES: filled(t.BODIES, n, **seg, track_id=[tracks[i] for i in of], measured_ratio=1.0),
        t.CAPTIONS: filled(t.CAPTIONS, n, **seg, caption="Medium close-up of a person who says something.",
                           gaze="at_camera", shot_type="medium_close_up", body_motion="low", tags="[]"),
        t.CLIPS: filled(t.CLIPS, n, **seg, file=CLIP, width=512, height=512, n_frames=100, n_audio_samples=192_000,
                        crop_xywh=[[1.0, 2.0, 3.0, 4.0]] * n),
    }  # fmt: skip
