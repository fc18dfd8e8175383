"""A small dataset of two people in a drawn video, its tables written straight into a store: for audits and review.

The picture gets brighter with time, and two drawn faces, red and blue, stand in it. Anna (left) speaks for 0-4 s,
listens for 4-8 s; Ben (right) listens and speaks the other way round. The last segment of each was left out.
"""

from __future__ import annotations

import hashlib
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from toy import filled

from curation import Dataset
from curation.dataset import FORMAT_VERSION
from curation.pack.shards import end_of_archive, write_members
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.table import Table

WIDTH, HEIGHT, FPS, LENGTH_S = 320, 180, 25, 12.0
FACES = ((40.0, 50.0, 60.0, 70.0), (220.0, 50.0, 60.0, 70.0))
PEOPLE = ("anna", "ben")
STATES = (("speak", "listen", "discard"), ("listen", "speak", "idle"))
EVIL = "<img src=x onerror=alert(1)> & 'quotes'"
POLICY: dict[str, Any] = {
    "name": "case",
    "rules": [
        {"id": "no_text", "on": "segments", "step": "overlay", "keep": "text_in_crop <= 0.0005", "why": "no words"},
        {"id": "usable_state", "on": "segments", "step": "conversation", "keep": "state <> 'discard'"},
        {"id": "longer", "on": "segments", "step": "conversation", "keep": "duration_s >= 3"},
    ],
}


def picture(t_s: float) -> npt.NDArray[np.uint8]:
    """Return the picture at a time: its ground is 20 + 12 a second bright."""
    image = np.full((HEIGHT, WIDTH, 3), round(20 + 12 * t_s), np.uint8)
    for (x, y, w, h), colour in zip(FACES, ((200, 40, 40), (40, 40, 200)), strict=True):
        centre = (int(x + w / 2), int(y + h / 2))
        cv2.ellipse(image, centre, (int(w / 2), int(h / 2)), 0, 0, 360, colour, -1)
    return image


def video(
    path: Path, *, codec: str = "libx264", sound: str | None = "aac", length_s: float = LENGTH_S, gop: int = 50,
    start_s: float = 0.0, pix_fmt: str = "yuv420p", b_frames: int = 2,
) -> Path:  # fmt: skip
    """Write the drawn video with a tone, whatever the container; `start_s` is where its clock begins."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.codec_context.gop_size = gop
        if codec == "libx264":
            stream.options = {"bf": str(b_frames), "sc_threshold": "0", "keyint_min": str(gop)}
        rate = 48_000
        tone = None if sound is None else out.add_stream(sound, rate=rate, layout="mono")
        for k in range(round(length_s * FPS)):
            frame = av.VideoFrame.from_ndarray(picture(k / FPS), format="rgb24")
            frame.pts, frame.time_base = k + round(start_s * FPS), Fraction(1, FPS)
            out.mux(stream.encode(frame))
            if tone is not None:
                n = rate // FPS
                wave = 0.3 * np.sin(2 * np.pi * 440 * (np.arange(n) + k * n) / rate)
                heard = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
                heard.sample_rate, heard.pts = rate, k * n + round(start_s * rate)
                heard.time_base = Fraction(1, rate)
                out.mux(tone.encode(heard))
        out.mux(stream.encode(None))
        if tone is not None:
            out.mux(tone.encode(None))
    return path


def put(store: Store, table: Table, rows: list[dict[str, Any]], source_id: str = "") -> None:
    window = 0 if table.grain == "window" else None
    known = [filled(table, **r) for r in rows]
    store.write_table(table_file(table, source_id, window), table, table.from_rows(known))


def segments(source_id: str, moved_s: float = 0.0, states: Any = STATES) -> list[dict[str, Any]]:
    """Return the segments of both people; their inner borders may be moved."""
    out = []
    for person, row in enumerate(states):
        borders = [0.0, 4.0 + moved_s, 8.0 + moved_s, LENGTH_S]
        for n, state in enumerate(row):
            start, end = borders[n], borders[n + 1]
            track = f"{source_id}-t{person:04d}"
            out.append(
                {
                    "segment_id": f"{track}-{round(1000 * start):08d}", "source_id": source_id, "track_id": track,
                    "shot_id": f"{source_id}-s0000", "start_s": start, "end_s": end, "duration_s": end - start,
                    "state": state, "reason": "synced_voice" if state == "speak" else "heard_voice",
                    "category": "Speak", "confidence": 0.6 + 0.1 * n, "text": f"words of {PEOPLE[person]} {EVIL}",
                    "partner_track_id": f"{source_id}-t{1 - person:04d}",
                    "partner": f"track:{source_id}-t{1 - person:04d}",
                    "pair_id": f"{source_id}-p{n}", "visible_ratio": 1.0, "median_face_px": 60.0, "asd_mean": 1.5,
                }
            )  # fmt: skip
    return out


def tables(store: Store, source_id: str, path: str, name: str, moved_s: float = 0.0) -> list[dict[str, Any]]:
    """Write the tables of one source; returns its decisions."""
    s, shot = source_id, f"{source_id}-s0000"
    span = {"source_id": s, "start_s": 0.0, "end_s": LENGTH_S, "duration_s": LENGTH_S}
    put(store, t.SOURCES, [{"source_id": s, "duration_s": LENGTH_S, "width": WIDTH, "height": HEIGHT, "fps": FPS,
                            "has_audio": True}], s)  # fmt: skip
    put(store, t.SHOTS, [{"shot_id": shot, **span}], s)
    put(store, t.TRACKS, [
        {"track_id": f"{s}-t{i:04d}", "shot_id": shot, **span, "median_face_px": w, "visible_ratio": 1.0,
         "center_x": (x + w / 2) / WIDTH, "center_y": (y + h / 2) / HEIGHT}
        for i, (x, y, w, h) in enumerate(FACES)
    ], s)  # fmt: skip
    put(store, t.TRACKLETS, [
        {"tracklet_id": f"{s}-w0000-{i:03d}", "source_id": s, "track_id": f"{s}-t{i:04d}"} for i in range(2)
    ], s)  # fmt: skip
    ks = range(round(LENGTH_S * 25))
    put(store, t.FACE_FRAMES, [
        {"source_id": s, "tracklet_id": f"{s}-w0000-{i:03d}", "k": k, "t_s": k / 25, "x": x, "y": y, "w": w, "h": h,
         "score": 0.9, "has_mesh": True}
        for i, (x, y, w, h) in enumerate(FACES) for k in ks
    ], s)  # fmt: skip
    portrait = cv2.imencode(".jpg", cv2.cvtColor(picture(2.0), cv2.COLOR_RGB2BGR)[20:160, 10:150])[1].tobytes()
    put(store, t.PORTRAITS, [
        {"source_id": s, "tracklet_id": f"{s}-w0000-{i:03d}", "k": k, "t_s": k / 25, "image": portrait}
        for i in range(2) for k in range(0, len(ks), 25)
    ], s)  # fmt: skip
    put(store, t.ASD_FRAMES, [
        {"track_id": f"{s}-t{i:04d}", "k": k, "score": 2.0 if (k < 100) == (i == 0) else -2.0, "annotator": "case"}
        for i in range(2) for k in ks
    ], s)  # fmt: skip
    put(store, t.SYNC_FRAMES, [
        {"track_id": f"{s}-t{i:04d}", "k": k, "log_odds": 0.4, "known": True, "annotator": "case"}
        for i in range(2) for k in ks
    ], s)  # fmt: skip
    put(store, t.LAYOUT, [
        {"source_id": s, "k": k, "t_s": k / 25, "text_boxes": [0.3, 0.85, 0.7, 0.95], "text_area": 0.04,
         "panel_boxes": [0, 0, 1, 1], "annotator": "case"}
        for k in range(0, len(ks), 25)
    ], s)  # fmt: skip
    put(store, t.CUTS, [], s)
    put(store, t.VOICE_TURNS, [
        {"speaker_id": f"{s}-v{i}", "diarized_as": f"{s}-v{i}", "source_id": s, "start_s": 4.0 * i,
         "end_s": 4.0 * i + 4}
        for i in range(2)
    ], s)  # fmt: skip
    put(store, t.WORDS, [
        {"source_id": s, "n": n, "start_s": n + 0.2, "end_s": n + 0.7, "word": EVIL if n == 1 else f"word{n}",
         "guess": "", "probability": 0.9, "speaker_id": f"{s}-v{n // 4}"}
        for n in range(8)
    ], s)  # fmt: skip
    rows = segments(s, moved_s)
    put(store, t.SEGMENTS, rows, s)
    put(store, t.TIMELINE, [
        {k: r[k] for k in ("track_id", "source_id", "start_s", "end_s", "state", "reason", "confidence", "partner")}
        for r in rows
    ], s)  # fmt: skip
    texts = {r["segment_id"]: 0.04 if r["state"] == "idle" else 0.0 for r in rows}
    put(store, t.CLIP_PLANS, [
        {"segment_id": r["segment_id"], "source_id": s, "framing": "shoulders",
         "crop_path": [0.0, 20.0 + 180 * (i > 2), 20.0, 120.0, 120.0],
         "crop_x": 20.0 + 180 * (i > 2), "crop_y": 20.0, "crop_w": 120.0, "crop_h": 120.0,
         "text_in_crop": texts[r["segment_id"]]}
        for i, r in enumerate(rows)
    ], s)  # fmt: skip
    put(store, t.CAPTIONS, [
        {"segment_id": r["segment_id"], "source_id": s, "caption": f"A person {r['state']}s. {EVIL}",
         "expressions": ["smiling"], "gaze": "camera", "shot_type": "medium", "body_motion": "low", "hands": "unknown",
         "camera": "static", "tags": "[]"}
        for r in rows
    ], s)  # fmt: skip
    put(store, t.EVENTS, [
        {"segment_id": r["segment_id"], "source_id": s, "track_id": r["track_id"], "n": 0, "event": "nod",
         "kind": "head_motion", "start_s": r["start_s"] + 1, "end_s": r["start_s"] + 1.5, "confidence": 0.7, "count": 1}
        for r in rows
    ], s)  # fmt: skip
    decided = []
    for unit, i, length in (("sources", s, LENGTH_S), ("shots", shot, LENGTH_S),
                            *(("tracks", f"{s}-t{i:04d}", LENGTH_S) for i in range(2))):  # fmt: skip
        decided.append(
            {"unit": unit, "unit_id": i, "source_id": s, "duration_s": length, "outcome": "kept", "decided_by": i}
        )
    for r in rows:
        rule = {"discard": "usable_state", "idle": "no_text"}.get(r["state"])
        decided.append({
            "unit": "segments", "unit_id": r["segment_id"], "source_id": s, "duration_s": r["duration_s"],
            "outcome": "filtered" if rule else "kept", "rule": rule, "step": "overlay" if rule else None,
            "reason": f"{rule} is false" if rule else None, "measured": "{}" if rule else None,
            "decided_by": r["segment_id"],
        })  # fmt: skip
    return decided


def _stat(path: Path) -> dict[str, int]:
    found = path.stat() if path.exists() else None
    return {"bytes": found.st_size if found else 1, "modified_ns": found.st_mtime_ns if found else 0}


def source_id_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def dataset(root: Path, files: dict[str, Path], moved_s: float = 0.0, policy: dict[str, Any] | None = None) -> Dataset:
    """Write a dataset of some files by name, which need not exist."""
    store = Store(str(root))
    store.write_json("dataset.json", {"format": FORMAT_VERSION, "name": "openlpm"})
    chosen = Policy.model_validate(policy or POLICY)
    facts = {"policy": chosen.model_dump(mode="json"), "policy_id": chosen.policy_id, "pipeline": {}, "tables": []}
    store.write_json("workflow.json", facts)
    decided: list[dict[str, Any]] = []
    for name, path in files.items():
        decided += tables(store, source_id_of(name), str(path), name, moved_s)
    put(store, t.INPUTS, [
        {"path": str(path), "source_id": source_id_of(name), "name": name, **_stat(path)}
        for name, path in files.items()
    ])  # fmt: skip
    put(store, t.DECISIONS, decided)
    people = [(i, source_id_of(name)) for name in files for i in range(2)]
    put(store, t.TRACK_IDENTITIES, [
        {"track_id": f"{s}-t{i:04d}", "source_id": s, "identity_id": PEOPLE[i]} for i, s in people
    ])  # fmt: skip
    put(store, t.IDENTITIES, [{"identity_id": name, "group_id": name, "seen_s": LENGTH_S} for name in PEOPLE])
    put(store, t.REFERENCES, [
        {"segment_id": r["segment_id"], "kind": "global", "n": 0, "identity_id": "anna", "ref_source_id": s,
         "ref_track_id": r["track_id"], "ref_k": 25, "ref_t_s": 1.0, "view": "frontal", "expression": "neutral"}
        for s in (source_id_of(n) for n in files) for r in segments(s, moved_s)
    ])  # fmt: skip
    put(store, t.MANIFEST, [])
    return Dataset(str(root))


def pack(data: Dataset, folder: Path) -> None:
    """Pack the kept segments of the first source as a run does: a shard, its members' places in the manifest."""
    kept = data.query(
        "SELECT s.segment_id, s.source_id, s.track_id, s.state, s.start_s, s.end_s, s.pair_id, s.partner_track_id "
        "FROM segments s JOIN decisions d ON d.unit_id = s.segment_id WHERE outcome = 'kept' "
        "AND s.source_id = (SELECT min(source_id) FROM inputs WHERE name NOT LIKE 'gone%') ORDER BY 1"
    ).fetchall()
    clip = video(folder / "clip.mp4", sound=None, length_s=4.0, b_frames=0).read_bytes()
    heard = flac(4.0)
    rows: list[dict[str, Any]] = []
    with data.store.open_output("shards/train-000000.tar") as f:
        offset = 0
        for segment_id, source_id, track_id, state, start_s, end_s, pair_id, partner in kept:
            members = [
                (f"{segment_id}.mp4", clip),
                (f"{segment_id}.speak.flac", heard),
                (f"{segment_id}.listen.flac", heard),
            ]
            index = write_members(f, members, offset)
            offset = f.tell()
            rows.append({
                "segment_id": segment_id, "source_id": source_id, "track_id": track_id, "identity_id": "anna",
                "split": "train", "state": state, "start_s": start_s, "end_s": end_s, "duration_s": end_s - start_s,
                "pair_id": pair_id, "partner_track_id": partner, "shard": "train-000000.tar",
                "members": [{"name": n, "offset": o, "size": z} for n, o, z in index],
            })  # fmt: skip
        end_of_archive(f)
    put(data.store, t.MANIFEST, rows)


def flac(length_s: float) -> bytes:
    import soundfile

    out = io.BytesIO()
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(48_000 * length_s)) / 48_000)
    soundfile.write(out, tone.astype(np.float32), 48_000, format="FLAC", subtype="PCM_16")
    return out.getvalue()
