"""A small three-state head on LR-ASD's frozen features, against the rules; leave one video out.

    python benchmarks/train_states.py DATASET [--media DIR] [--json FILE] [--save FILE]

The paper's transfer learning (LPM 1.0: LR-ASD from two states to three) at the size of what footage there is: a
linear classifier (logistic regression) from 384 features a frame to speak, listen, or idle-or-discard. Truth is the
dataset's human labels and, with --media, the NAME.truth.json files there. Each video is judged by a head that never
saw it; videos that share people or sound (a file that was edited into others) still make the figure optimistic.
Costs about 3 ms a face frame for features and seconds for training.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import record
from accuracy import finished
from found_tracks import FoundTracks, found_tracks
from label_truth import label_truth, machine_tables
from points import points
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from truth_people import Truth

from annotators.lips.active_speaker import LrAsdActiveSpeaker, audio_of_frames
from curation import Dataset
from curation.media.audio import read_audio
from schemas import tables as t
from schemas.time import AUDIO_HZ, GRID_HZ, Interval, grid_range
from stages.face_series import tracklets_of
from stages.speech.crop_blocks import CropBuffer, rows_of_tracks

CLASSES = ("speak", "listen", "idle_or_discard")


def class_of(state: str) -> int:
    """Return the class of a state; speech of both counts as speaking."""
    return {"speak": 0, "both": 0, "listen": 1}.get(state, 2)


def file_truth(truth: Truth, found: FoundTracks) -> dict[tuple[str, int], str]:
    """Return the true state by (track, grid index) from a truth file."""
    every = points(truth, found)
    return {(p.track, p.k): p.true for p in every if p.scored and p.track is not None and p.true is not None}


def examples(dataset: Dataset, media: Path | None) -> dict[str, tuple[Any, Any, Any]]:
    """Return features [N, 384], classes [N] and the rules' classes [N] by video."""
    network = LrAsdActiveSpeaker()
    inputs = {r["source_id"]: r for r in dataset.table(t.INPUTS).to_pylist()}
    labels, tracks = t.LABELS.rows(dataset.table(t.LABELS)), t.TRACKS.rows(dataset.table(t.TRACKS))
    given = finished(dataset, media) if media is not None else {}
    found = found_tracks(dataset, list(given))
    runs = t.TIMELINE.rows(dataset.table(t.TIMELINE))
    out = {}
    for sid, row in sorted(inputs.items(), key=lambda x: x[1]["name"]):
        mine = [x for x in tracks if x.source_id == sid]
        truth = file_truth(given[sid], found[sid]) if sid in given else {}
        truth |= label_truth([x for x in labels if x.source_id == sid], mine)
        labelled = any(x.source_id == sid for x in labels)  # then the stored timeline holds human states
        rows = [r for r in runs if r.source_id == sid]
        if labelled:
            rows = t.TIMELINE.rows(machine_tables(dataset, sid)[t.TIMELINE])
        rules = {(r.track_id, k): r.state for r in rows for k in grid_range(Interval(r.start_s, r.end_s))}
        if not truth:
            continue
        sys.stderr.write(f"features of {row['name']}\n")
        x, y, z = [], [], []
        for track, first, features in track_features(dataset, sid, Path(row["path"]), network):
            for i, vector in enumerate(features):
                at = (track, first + i)
                if at in truth and at in rules:
                    x.append(vector)
                    y.append(class_of(truth[at]))
                    z.append(class_of(rules[at]))
        if x:
            out[row["name"]] = (np.stack(x), np.array(y), np.array(z))
    return out


def track_features(dataset: Dataset, sid: str, video: Path, network: LrAsdActiveSpeaker) -> Any:
    """Yield (track, first grid index, features [T, 384]) of a source's tracks."""
    owner = tracklets_of(dataset.table(t.TRACKLETS).filter(_is(dataset.table(t.TRACKLETS), sid)))
    buffers: dict[str, CropBuffer] = {}
    for name in dataset.files(t.FACE_CROPS):
        if Path(name).name.startswith(sid):
            for track, _, ks, images in rows_of_tracks(dataset.store.read_table(name, t.FACE_CROPS), owner):
                buffers.setdefault(track, CropBuffer()).add(ks, images)
    for track, buffer in buffers.items():
        first = buffer.first_k or 0
        for block in buffer.blocks(last=True):
            at, n = first + block.low, len(block.crops)
            heard = read_audio(video, at / GRID_HZ, (at + n) / GRID_HZ, AUDIO_HZ)
            sound = audio_of_frames(np.zeros(0, np.float32) if heard is None else heard, 0, n)
            features = network.features(block.crops, sound)
            yield track, first + block.start, features[block.start - block.low : block.end - block.low]


def _is(rows: Any, sid: str) -> Any:
    return np.array([s == sid for s in rows["source_id"].to_pylist()], bool)


def head() -> Pipeline:
    """Return an untrained head: standardised features, L2-regularised logistic regression, classes weighed equally."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300, class_weight="balanced"))


def settle(p: Any, reach: int = GRID_HZ // 2) -> Any:
    """Return classes of probabilities [T, 3] averaged over about a second, as the rules' own smoothing does."""
    kernel = np.ones(2 * reach + 1)
    weight = np.convolve(np.ones(len(p)), kernel, "same")
    return np.argmax([np.convolve(c, kernel, "same") / weight for c in p.T], axis=0)


def scores(true: Any, found: Any) -> dict[str, Any]:
    """Return accuracy and recall by class."""
    recall = {c: float((found[true == i] == i).mean()) if (true == i).any() else None for i, c in enumerate(CLASSES)}
    return {"accuracy": float((true == found).mean()), "recall": recall}


def leave_one_out(data: dict[str, tuple[Any, Any, Any]]) -> dict[str, Any]:
    """Judge each video by a head trained on the others."""
    found: dict[str, Any] = {}
    for name, (x, _, _) in data.items():
        others = [v for n, v in data.items() if n != name]
        model = head().fit(np.concatenate([v[0] for v in others]), np.concatenate([v[1] for v in others]))
        p = np.zeros((len(x), len(CLASSES)))
        p[:, model.classes_] = model.predict_proba(x)
        found[name] = settle(p)
    true = np.concatenate([v[1] for v in data.values()])
    return {
        "frames": len(true),
        "videos": len(data),
        "frames_by_class": {c: int((true == i).sum()) for i, c in enumerate(CLASSES)},
        "head": scores(true, np.concatenate(list(found.values()))),
        "rules": scores(true, np.concatenate([v[2] for v in data.values()])),
        "per_video": {
            n: {"head": float((found[n] == v[1]).mean()), "rules": float((v[2] == v[1]).mean()), "frames": len(v[1])}
            for n, v in data.items()
        },
    }


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("dataset", help="a dataset that `lpm run` made")
    parser.add_argument("--media", type=Path, help="directory of NAME.truth.json files for its videos")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--save", type=Path, help="write the head trained on everything here (.npz)")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # 300 steps are plenty for a strongly regularised head
    data = examples(Dataset(args.dataset), args.media)
    if len(data) < 2:
        sys.exit("leave-one-video-out needs labels or truth files of two videos; see docs/labels.md")
    result = leave_one_out(data)
    sys.stdout.write(record.as_json(result))
    record.write(args.json, result)
    if args.save:
        model = head().fit(np.concatenate([v[0] for v in data.values()]), np.concatenate([v[1] for v in data.values()]))
        scale, line = model.steps[0][1], model.steps[1][1]
        np.savez(args.save, mean=scale.mean_, scale=scale.scale_, weight=line.coef_, bias=line.intercept_,
                 classes=[CLASSES[i] for i in line.classes_])  # fmt: skip


if __name__ == "__main__":
    main()
