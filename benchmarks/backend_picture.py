"""What back-ends that look are asked, and how near they come to the truth; part of `backends.py`."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from accuracy import finished
from backend_footage import Footage, Tried, equal_error_rate
from cuts import hits, true_cuts
from found_tracks import found_tracks
from points import points
from truth_people import read_truths

from annotators.body.measures import body_yaw_deg
from annotators.face.boxes import crop_box, cut_square
from annotators.face.portrait_embedder import PortraitEmbedder
from annotators.picture.overlay import TextDetecting
from annotators.picture.shots import ShotChanges
from annotators.protocols import Box, FaceAnalyzer, FaceDetecting, Image
from annotators.protocols_body import BodyAnalyzer
from curation.media.grid import frames_on_grid
from curation.media.video import DecodeReport, frame_times, iter_frames
from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from schemas.table import Table
from schemas.time import GRID_HZ, Interval
from stages.scan.evidence import face_shift
from stages.scan.grid import read
from stages.scan.people import embed_row
from stages.scan.scan import ScanSettings
from stages.scan.shots import ShotMeter
from stages.speech.active_speaker import ActiveSpeakerSettings, ActiveSpeakerStage

EVERY_S = 2.0
"""From one picture to the next where single pictures are looked at."""
SLACK = 0.02
"""A face's centre may lie so far (of the picture's width) outside the range that the truth gives it."""
LATE_MS = 80.0
"""Sound and lips that are two frames apart are still in sync: the conversations were filmed so."""


def _pictures(footage: Footage) -> Iterator[tuple[str, int, Image]]:
    """Yield (video, grid point, picture) of the real conversations."""
    for name in sorted(read_truths(footage.wild)):
        path = footage.wild / name
        n = int(frame_times(path)[-1] / EVERY_S) + 1
        for i, frame in enumerate(frames_on_grid(iter_frames(path), 0.0, n, 1 / EVERY_S)):
            yield name, round(i * EVERY_S * GRID_HZ), frame.rgb()


def face_detecting(part: FaceDetecting, footage: Footage) -> Tried:
    """Share of labelled people whose face is found where the truth says it is, in a picture every 2 s."""
    tried, hit, n, found_n, pictures = Tried(), 0, 0, 0, 0
    truths = {name: dict(truth.faces()) for name, truth in read_truths(footage.wild).items()}
    for name, k, rgb in _pictures(footage):
        with tried.at_work(EVERY_S):
            found = part.detect(rgb)
        centres = [(b.x + b.w / 2) / rgb.shape[1] for b in found]
        people = [f for f in truths[name].get(k, ()) if f.x is not None]
        seen = [any(f.x[0] - SLACK <= c <= f.x[1] + SLACK for c in centres) for f in people if f.x]
        hit, n, found_n, pictures = hit + sum(seen), n + len(seen), found_n + len(found), pictures + 1
        tried.said += [int(s) for s in seen]
    tried.figures = {"people_found": hit / max(1, n), "people": float(n), "faces_a_picture": found_n / pictures}
    return tried


def text_detecting(part: TextDetecting, footage: Footage) -> Tried:
    """Lines of text in a picture every 2 s; nothing is known of how many there are."""
    tried = Tried()
    for _, _, rgb in _pictures(footage):
        with tried.at_work(EVERY_S):
            tried.said.append(len(part.detect(rgb)))
    return tried


def _faces(footage: Footage) -> dict[tuple[str, int], list[Box]]:
    names = {r.source_id: r.name for r in t.INPUTS.rows(footage.dataset.table(t.INPUTS))}
    out: dict[tuple[str, int], list[Box]] = defaultdict(list)
    for r in t.FACE_FRAMES.rows(footage.dataset.table(t.FACE_FRAMES)):
        out[names[r.source_id], r.k].append(Box(r.x, r.y, r.w, r.h))
    return out


def face_analyzer(part: FaceAnalyzer, footage: Footage) -> Tried:
    """Share of found faces that get a mesh, in a picture every 2 s."""
    tried, faces = Tried(), _faces(footage)
    for name, k, rgb in _pictures(footage):
        for box in faces[name, k]:
            with tried.at_work(EVERY_S):
                mesh = part.landmarks(cut_square(rgb, crop_box(box), 256))
            tried.said.append(int(mesh is not None))
    tried.figures = {"meshes": float(np.mean([int(x == 1) for x in tried.said]))}
    return tried


def body_analyzer(part: BodyAnalyzer | None, footage: Footage) -> Tried:
    """Share of found faces that get a body, and of bodies whose shoulders tell a direction."""
    tried, faces, turned = Tried(), _faces(footage), 0
    for name, k, rgb in _pictures(footage):
        for box in faces[name, k]:
            others = [b for b in faces[name, k] if b is not box]
            with tried.at_work(EVERY_S):
                body = None if part is None else part.measure(rgb, box, others)
            tried.said.append(int(body is not None))
            turned += body is not None and body_yaw_deg(body, (rgb.shape[1], rgb.shape[0])) is not None
    n = len(tried.said)
    tried.figures = {"bodies": sum(x == 1 for x in tried.said) / max(1, n), "with_direction": turned / max(1, n)}
    return tried


def shot_changes(part: ShotChanges | None, footage: Footage) -> Tried:
    """F1 of cuts, as the scan decides them: a hard cut within 45 ms, any other inside its extent and 0.2 s around."""
    tried, found_n, true_n, hit_n = Tried(), 0, 0, 0
    settings = ScanSettings.model_validate({})
    names = {r.name: r.source_id for r in t.INPUTS.rows(footage.dataset.table(t.INPUTS))}
    for file in sorted(footage.wild.glob("*.truth.json")):
        path = file.with_name(file.name.replace(".truth.json", ".mp4"))
        crops = footage.dataset.table(t.FACE_CROPS, sources=[names[path.name]])
        meter = ShotMeter()
        with tried.at_work(float(frame_times(path)[-1])):
            for shown in read(
                path, Interval(0.0, 1e6), DecodeReport(), max_side=settings.max_side_px,
                threshold=settings.cut_threshold, min_content=settings.cut_min_content,
            ):  # fmt: skip
                meter.add(shown.t_s, shown.grid.start, shown.index, shown.small, shown.content, shown.cut)
            network = None if part is None else part.probabilities
            found = [c.t_s for c in meter.changes(face_shift(t.FACE_CROPS.rows(crops)), network)]
        true = true_cuts(json.loads(file.read_text(encoding="utf-8")))
        found_n, true_n, hit_n = found_n + len(found), true_n + len(true), hit_n + len(hits(found, true))
        tried.said += [int(bool(hits(found, [cut]))) for cut in true]
    tried.figures = {"f1": 2 * hit_n / max(1, found_n + true_n), "true": float(true_n), "found": float(found_n)}
    return tried


def portrait_embedder(part: PortraitEmbedder | None, footage: Footage) -> Tried | None:
    """Equal error rate of portraits of one source, at most four a track: one person against two, by the truth."""
    if part is None:
        return None
    tried, pairs = Tried(), []
    dataset = footage.dataset
    track_of = {r.tracklet_id: r.track_id for r in t.TRACKLETS.rows(dataset.table(t.TRACKLETS))}
    truths = finished(dataset, footage.wild)
    found = found_tracks(dataset, list(truths))
    for source, truth in truths.items():
        seen: dict[str, list[str | None]] = defaultdict(list)
        for p in points(truth, found[source]):
            if p.track is not None:
                seen[p.track].append(p.person)
        people = {track: max(set(who), key=who.count) for track, who in seen.items()}
        kept: dict[str, int] = defaultdict(int)
        vectors = []
        for row in t.PORTRAITS.rows(dataset.table(t.PORTRAITS, sources=[source])):
            track = track_of.get(row.tracklet_id, "")
            if people.get(track) is None or not row.points_xy or kept[track] == 4:
                continue
            kept[track] += 1
            with tried.at_work(1.0):
                vectors.append((people[track], embed_row(part, row)))
        pairs += [
            (-float(np.linalg.norm(a - b)), one == two) for (one, a), (two, b) in itertools.combinations(vectors, 2)
        ]
    tried.figures = {"equal_error_rate": equal_error_rate(pairs), "pairs": float(len(pairs))}
    return tried


def _scored(footage: Footage, tried: Tried, **settings: str) -> Iterator[tuple[str, MemoryInputs, dict[Table, object]]]:
    """Run stage `active_speaker` on every source; yield its id, inputs and tables."""
    dataset = footage.dataset
    stage = ActiveSpeakerStage(ActiveSpeakerSettings.model_validate(settings))
    names = {r.source_id: Path(r.name) for r in t.INPUTS.rows(dataset.table(t.INPUTS))}
    for row in t.SOURCES.rows(dataset.table(t.SOURCES)):
        source = row.source_id
        parts = {x: [dataset.table(x, sources=[source])] for x in stage.reads}
        units = tuple(r.track_id for r in t.TRACKS.rows(dataset.table(t.TRACKS, sources=[source])))
        inputs = MemoryInputs(footage.wild / names[source], parts)
        with tried.at_work(row.duration_s):
            outputs = stage.run(WorkItem(source, units=units), inputs)
        yield source, inputs, dict(outputs.tables)


def active_speaker(footage: Footage, choice: str) -> Tried:
    """Chance that a labelled frame of a speaking face scores above one of a listening or idle face (all clips)."""
    tried, scores = Tried(), []
    truths = finished(footage.dataset, footage.wild)
    found = found_tracks(footage.dataset, list(truths))
    for source, _, tables in _scored(footage, tried, backend=choice, sync="heuristic"):
        asd = {(r.track_id, r.k): r.score for r in t.ASD_FRAMES.rows(tables[t.ASD_FRAMES])}  # type: ignore[arg-type]
        for p in points(truths[source], found[source]) if source in truths else ():
            score = asd.get((p.track or "", p.k))
            if p.scored and score is not None and p.true in ("speak", "listen", "idle"):
                scores.append((score, p.true == "speak"))
                tried.said.append(int(score > 0))
    ordered = np.array([s for _, s in sorted(scores)])
    below = np.cumsum(~ordered)[ordered].sum()
    tried.figures = {"auc": float(below / max(1, ordered.sum() * (~ordered).sum())), "frames": float(len(ordered))}
    return tried


def lip_sync(footage: Footage, choice: str) -> Tried:
    """Share of tracks with an offset within 80 ms of 0, of those whose person speaks for 2 s and more by the truth.

    `own_voice`: their mean, and that of people who only listen or are idle. The cost includes the plain scorer's.
    """
    tried, near, own, others = Tried(), [], [], []
    truths = finished(footage.dataset, footage.wild)
    found = found_tracks(footage.dataset, list(truths))
    for source, _, tables in _scored(footage, tried, backend="heuristic", sync=choice):
        states: dict[str, list[str | None]] = defaultdict(list)
        for p in points(truths[source], found[source]) if source in truths else ():
            states[p.track or ""].append(p.true)
        for row in t.SYNC.rows(tables[t.SYNC]):  # type: ignore[arg-type]
            spoken_s = sum(s == "speak" for s in states[row.track_id]) / GRID_HZ
            if spoken_s >= 2 and row.offset_ms is not None:
                near.append(abs(row.offset_ms) <= LATE_MS)
                tried.said.append(int(near[-1]))
            if row.own_voice is not None and (spoken_s >= 2 or not spoken_s):
                (own if spoken_s else others).append(row.own_voice)
    tried.figures = {
        "in_sync": float(np.mean(near)) if near else None,
        "own_voice_of_speakers": float(np.mean(own)) if own else None,
        "own_voice_of_others": float(np.mean(others)) if others else None,
    }
    return tried
