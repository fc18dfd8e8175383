"""Lip-audio sync on people never seen: own voice against others', lag, dubbing, and which of two faces is heard.

    python benchmarks/lip_sync.py ../shared/media [--dataset DATASET] [--model FILE]
                                  [--conversations DATASET=MEDIA_DIR] [--without CLIP]

Without `--dataset` the footage is scanned first (five minutes on one core). Every figure comes from a model that was
fitted without the person it judges, and edited clips of a person count as that person. `--model` writes the model
fitted on all talkers. `real_newsreader_offset` (known to be 3 frames off) is shown and not counted for the lag;
`odd_old_film_zoom` is left out. `--conversations` adds the stretches of real conversations in which one person speaks
by hand-made truth, each clip held out as one; their figures stand apart. `--without` leaves one such clip out of the
model that is written. Writes benchmarks/results/lip_sync.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import record
from accuracy import finished
from found_tracks import found_tracks
from points import points

from annotators.lips.lip_sync import EnvelopeLipSync
from annotators.lips.lip_sync_model import LearnedLipSync, SyncTowers, lag_index, save_towers
from annotators.lips.lip_sync_training import (
    MIN_CLIP_FRAMES,
    TAPS,
    HeldOut,
    TalkerClip,
    at_one_lag,
    calibrated,
    evaluate,
    fit,
    held_out_towers,
)
from annotators.lips.sync_audio import MelSyncAudio, SyncAudio, WhisperSyncAudio
from curation.dataset import Dataset
from curation.media.audio import read_audio
from schemas import tables as t
from schemas.time import AUDIO_HZ, GRID_HZ
from stages.attribution.attribution import AttributionSettings
from stages.face_series import tracklets_of
from stages.speech.lip_series import LipSeries, lips_of_tracks, trace
from workflows.cli import main as lpm
from workflows.talkers import Stretch, talker_clips

HERE = Path(__file__).parent
SAME_PERSON = {"generated_woman3": "generated_13"}
OUT_OF_SYNC = {"real_newsreader_offset"}
EDITED = {"talk_woman_garden", "talk_woman_studio"}
"""The people of the edited clips: two_talkers and the like show both, so those are judged by a model without either."""
PAUSE_FRAMES = 12
"""A longer silence ends a stretch of speech."""
SCAN = """
name: scan_only
policy: default
stages:
  probe: {use: "stages.sources.probe:Probe"}
  scan: {use: "stages.scan.scan:Scan"}
  tracks: {use: "stages.tracks.tracks:Tracks"}
"""


def scanned(media: Path, where: Path) -> Dataset:
    """Scan the footage into a dataset."""
    workflow = where / "scan.yaml"
    workflow.write_text(SCAN)
    names = [str(p) for p in sorted((media / "talkers").iterdir()) if p.suffix in {".mp4", ".avi"}]
    others = ("talk_woman_garden", "talk_woman_studio", "late_audio", "dubbed", "two_talkers", "split_screen")
    names += [str(media / f"{n}.mp4") for n in (*others, "session_talker", "noisy_speech", "quiet_speech")]
    try:
        lpm(["run", *names, "--workflow", str(workflow), "--out", str(where / "ds"), "--allow-quarantine"])
    except SystemExit as e:
        if e.code:
            raise
    return Dataset(str(where / "ds"))


def stretches(dataset: Dataset) -> dict[str, list[Stretch]]:
    """Return the tracks of the dataset by the clip's name, longest first."""
    name_of = {r["source_id"]: Path(r["name"]).stem for r in dataset.table(t.INPUTS).to_pylist()}
    out: dict[str, list[Stretch]] = {}
    for r in sorted(dataset.table(t.TRACKS).to_pylist(), key=lambda r: -r["duration_s"]):
        name = name_of[r["source_id"]]
        first, last = (round(r[x] * GRID_HZ) for x in ("start_s", "end_s"))
        person = SAME_PERSON.get(name, name)
        found = Stretch(name, person, r["source_id"], r["track_id"], first, last, name not in OUT_OF_SYNC)
        out.setdefault(name, []).append(found)
    return out


def conversations(pair: str) -> tuple[Dataset, list[Stretch]]:
    """Return a dataset (of DATASET=MEDIA_DIR) and the stretches of 3 s and more in which one person speaks alone."""
    name, _, media = pair.partition("=")
    dataset = Dataset(name)
    truths = finished(dataset, Path(media))
    found = found_tracks(dataset, list(truths))
    out = []
    for source, truth in truths.items():
        spoken: dict[str, list[int]] = {}
        for p in points(truth, found[source]):
            if p.scored and p.true == "speak" and not p.both and p.track is not None:
                spoken.setdefault(p.track, []).append(p.k)
        for track, ks in sorted(spoken.items()):
            edges = [0, *(np.flatnonzero(np.diff(ks) > PAUSE_FRAMES) + 1).tolist(), len(ks)]
            for a, b in pairwise(edges):
                if ks[b - 1] + 1 - ks[a] >= MIN_CLIP_FRAMES:
                    out.append(Stretch(f"{truth.clip}:{ks[a]}", truth.clip, source, track, ks[a], ks[b - 1] + 1))
    return dataset, out


def shown(found: HeldOut) -> dict[str, Any]:
    median = {name: round(float(np.median(lags)) * 40) for name, lags in sorted(found.lags.items())}
    return {
        "window_s": found.window_s,
        "auc": round(found.auc, 4),
        "auc_within_2_frames_of_zero": round(found.auc_at_zero, 4),
        "lag_within_2_frames": round(found.hits, 3),
        "lag_within_1_frame_of_the_clips_own": round(_steady(found), 3),
        "windows": {"own": len(found.own), "other": len(found.other)},
        "median_lag_ms": median,
    }


def dubbing_limit(clips: list[TalkerClip], held_out: dict[str, SyncTowers], towers: SyncTowers) -> dict[str, Any]:
    """Return by window the shares of people's own voices and of others' that `attribution` would call dubbed."""
    rule = AttributionSettings()
    slope, offset = towers.per_frame
    out = {}
    for seconds in (3, 5, 7):
        shares = {}
        for whose, found in zip(("own", "other"), at_one_lag(clips, held_out, seconds), strict=True):
            a_second = (slope * found[:, 0] + offset) * GRID_HZ
            below = (a_second < rule.max_unsynced_per_s) & (a_second * seconds < rule.max_unsynced)
            shares[whose] = {"share": round(float(below.mean()), 3), "windows": len(below),
                             "lowest_per_s": round(float(a_second.min()), 2)}  # fmt: skip
        out[f"{seconds}_s"] = shares
    return out


def _steady(found: HeldOut) -> float:
    near = [abs(x - np.median(lags)) <= 1 for lags in found.lags.values() if len(lags) > 1 for x in lags]
    return float(np.mean(near))


def edited(dataset: Dataset, media: Path, sync: LearnedLipSync, tracks: dict[str, list[Stretch]]) -> dict[str, Any]:
    """Measure the edited clips as the stage would, with a model that knows neither person."""
    paths = {r["source_id"]: Path(r["path"]) for r in dataset.table(t.INPUTS).to_pylist()}
    track_of = tracklets_of(dataset.table(t.TRACKLETS))
    out: dict[str, Any] = {}
    for name, mine in sorted(tracks.items()):
        truth_file = media / f"{name}.truth.json"
        if name.startswith(("generated", "real", "odd", "interview")):
            continue
        truth = json.loads(truth_file.read_text()) if truth_file.exists() else {}
        series: dict[str, LipSeries] = {s.track_id: LipSeries() for s in mine}
        for file in dataset.files(t.FACE_CROPS):
            if Path(file).name.startswith(mine[0].source_id):
                for track_id, ks, shapes in lips_of_tracks(dataset.store.read_table(file, t.FACE_CROPS), track_of):
                    series[track_id].add(ks, shapes)
        for number, s in enumerate(mine):
            n = s.end_k - s.start_k
            if n < 100:
                continue

            def sound(first: int, frames: int, path: Path = paths[s.source_id]) -> np.ndarray[Any, Any]:
                heard = read_audio(path, first / GRID_HZ, (first + frames) / GRID_HZ, AUDIO_HZ)
                return np.zeros(frames * 640, np.float32) if heard is None else heard

            found = trace(sync, series[s.track_id], sound, s.start_k, n)
            m = sync.summary(found)
            row: dict[str, Any] = {
                "offset_ms": round(m.offset_ms), "confidence": round(m.confidence, 3),
                "own_voice": round(m.own_voice, 4),
            }  # fmt: skip
            if "shots" in truth and number < 2:
                row["log_odds_per_s_by_shot"] = [
                    {
                        "from_s": shot["start"], "voice": shot.get("voice"),
                        "at_zero": round(float(found.log_odds[a:b, lag_index(0)].mean() * GRID_HZ), 2),
                    }
                    for shot in truth["shots"]
                    if (b := min(n, round(shot["end"] * GRID_HZ) - s.start_k))
                    > (a := max(0, round(shot["start"] * GRID_HZ) - s.start_k))
                ]  # fmt: skip
            out.setdefault(name, []).append(row)
    return out


def heuristic_auc(dataset: Dataset, clips: list[TalkerClip], tracks: dict[str, list[Stretch]]) -> float:
    """Return the old measure's AUC over whole clips of 7 s, for reference (mouth gap out of the lip shapes)."""
    paths = {r["source_id"]: Path(r["path"]) for r in dataset.table(t.INPUTS).to_pylist()}
    sync, scores = EnvelopeLipSync(), {True: [], False: []}  # type: ignore[var-annotated]
    sounds = []
    for c in clips:
        s = tracks[c.name][0]
        sounds.append(read_audio(paths[s.source_id], s.start_k / GRID_HZ, (s.start_k + 175) / GRID_HZ, AUDIO_HZ))
    for c in clips:
        if len(c.lips) < 175:
            continue
        gap = np.abs(c.lips[:175, 2 * 25 + 1] - c.lips[:175, 2 * 35 + 1])  # landmarks 13 and 14
        for other, sound in zip(clips, sounds, strict=True):
            if len(other.lips) >= 175 and (other is c or other.person != c.person):
                scores[other is c].append(sync.measure(sound, gap).confidence)
    return float(np.mean([a > b for a in scores[True] for b in scores[False]]))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("media", type=Path)
    parser.add_argument("--dataset", help="a dataset in which this footage has been scanned")
    parser.add_argument("--model", type=Path, help="write the model fitted on all talkers here")
    parser.add_argument("--conversations", metavar="DATASET=MEDIA_DIR", help="conversations with truth, to fit on too")
    parser.add_argument("--without", help="a clip of these that the written model must not know")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "lip_sync.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="openlpm-lip-sync-") as scratch:
        dataset = Dataset(args.dataset) if args.dataset else scanned(args.media, Path(scratch))
        result = measured(dataset, args.media, args.model, args.conversations, args.without)
    record.write(args.json, result)
    print(record.as_json(result), end="")


def measured(
    dataset: Dataset, media: Path, model: Path | None, talks: str | None, without: str | None
) -> dict[str, Any]:
    tracks = stretches(dataset)
    talking = [s[0] for n, s in tracks.items() if n.startswith(("generated", "real")) or n in EDITED]
    kinds: dict[str, SyncAudio] = {"whisper-base": WhisperSyncAudio(), "mel": MelSyncAudio()}
    began = time.process_time()
    clips = talker_clips(dataset, talking, kinds)
    seconds = sum(len(c.lips) for c in clips["mel"]) / GRID_HZ
    real: dict[str, list[TalkerClip]] = {kind: [] for kind in kinds}
    if talks is not None:
        real = talker_clips(*conversations(talks), kinds)
    every = [*clips["mel"], *real["mel"]]
    about: dict[str, object] = {"clips": len(every), "people": len({c.person for c in every}),
                                "seconds": round(sum(len(c.lips) for c in every) / GRID_HZ),
                                "of_real_conversations_s": round(sum(len(c.lips) for c in real["mel"]) / GRID_HZ),
                                }  # fmt: skip
    cost = round((time.process_time() - began) / seconds, 3)
    result: dict[str, Any] = {"talkers": about, "feature_cpu_s_per_face_s": cost,
                              "heuristic_auc_7_s": round(heuristic_auc(dataset, clips["mel"], tracks), 3)}  # fmt: skip
    towers: dict[str, SyncTowers] = {}
    for kind, of_kind in clips.items():
        everyone = [c for c in [*of_kind, *real[kind]] if c.person != without]
        held_out = held_out_towers(everyone, TAPS[kind], leave_one_out=True)
        towers[kind] = calibrated(fit(everyone, TAPS[kind]), everyone, held_out)
        result[kind] = {"leave_one_person_out": [shown(evaluate(of_kind, held_out, s)) for s in (7, 3, 2)]}
        if real[kind] and without is None:
            found = [shown(evaluate(real[kind], held_out, s)) for s in (7, 3, 2)]
            result[kind]["leave_one_conversation_out"] = found
        result[kind]["below_dubbing_limit"] = dubbing_limit([*of_kind, *real[kind]], held_out, towers[kind])
        strangers = fit([c for c in everyone if c.person not in EDITED], TAPS[kind])
        full = towers[kind]
        strangers = replace(strangers, correlation=full.correlation, per_frame=full.per_frame, own_voice=full.own_voice)
        result[kind]["edited"] = edited(dataset, media, LearnedLipSync(strangers, kinds[kind]), tracks)
    if model is not None:
        save_towers(model, towers, about)
    return result


if __name__ == "__main__":
    main()
