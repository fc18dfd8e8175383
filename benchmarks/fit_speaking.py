"""Fit the weights of `annotators.lips.speaking` on footage with truth, and say how they do on clips left out.

    python benchmarks/fit_speaking.py DATASET=MEDIA_DIR [DATASET=MEDIA_DIR ...] [--out annotators/models/speaking.json]
                                      [--without CLIP] [--json FILE]

Each DATASET must hold the active speaker scores of the videos in MEDIA_DIR, which has a NAME.truth.json beside each.
Learnt from: frames in which a labelled face speaks (alone or with others) against frames in which it listens or is
idle. Frames of lips that move under somebody else's voice (discard) are left out: whose voice it is, lip-audio sync
says. Prints the share of these frames told right with every clip left out of the fit once, and by which set of media.
The JSON has precision and recall of speaking at several operating points too. `--without` leaves one clip out of the
weights that are written, for judging a whole run on it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import record
from accuracy import finished
from found_tracks import found_tracks
from points import points
from sklearn.linear_model import LogisticRegression

from annotators.lips.speaking import FEATURES, SpeakingModel, speaking
from curation import Dataset
from schemas import tables as t
from stages.pairing.lips import track_features

Floats = npt.NDArray[np.float64]
PENALTY = 0.1
"""Inverse strength of the quadratic penalty on standardised weights (scikit-learn's C); 0.01 to 1 gave within 0.7
points of the same accuracy on clips left out."""


ASKED_NATS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Operating points: log-odds asked for before a face is said to speak."""


@dataclass(frozen=True)
class Labelled:
    """One track of a clip: features of all its frames [T, 8], and which of them [n] are labelled how [n]."""

    clip: str
    media: str
    kind: str
    features: Floats
    at: npt.NDArray[np.int64]
    speaks: npt.NDArray[np.bool_]


def labelled(dataset: Dataset, media: Path) -> list[Labelled]:
    """Return the labelled tracks of a dataset."""
    truths = finished(dataset, media)
    found = found_tracks(dataset, list(truths))
    asd = {r["track_id"] for r in dataset.table(t.TRACKS, ["track_id"]).to_pylist()}
    out = []
    for source, truth in truths.items():
        rows = [r for r in t.TRACKS.rows(dataset.table(t.TRACKS)) if r.source_id == source]
        frames = dataset.table(t.SPEECH_FRAMES).to_pandas()
        voice = frames[frames["source_id"] == source].sort_values("k")["speech"].to_numpy(np.float32)
        table = dataset.table(t.ASD_FRAMES)
        features, names = track_features(table, rows, voice)
        states: dict[str, dict[int, bool]] = {}
        for p in points(truth, found[source]):
            if p.scored and p.track in asd and p.true in ("speak", "listen", "idle"):
                states.setdefault(p.track or "", {})[p.k] = p.true == "speak"
        for track, seen in sorted(states.items()):
            series, inputs = features[track]
            if np.isnan(inputs).any():
                continue
            ks = [k for k in sorted(seen) if k in series.ks]
            at = np.array([k - series.ks.start for k in ks], np.int64)
            speaks = np.array([seen[k] for k in ks], bool)
            out.append(Labelled(truth.clip, media.name, names[track].split("(")[0].split(" ")[0], inputs, at, speaks))
    return out


def fitted(tracks: list[Labelled], kind: str) -> SpeakingModel:
    """Return weights fitted on labelled tracks; every set of media weighs the same."""
    x = np.concatenate([m.features[m.at] for m in tracks])
    y = np.concatenate([m.speaks for m in tracks])
    media = np.concatenate([[m.media] * len(m.at) for m in tracks])
    names, count = np.unique(media, return_counts=True)
    weight = np.array([len(x) / len(names) / dict(zip(names, count, strict=True))[m] for m in media])
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    found = LogisticRegression(C=PENALTY, max_iter=1000).fit((x - mean) / scale, y, sample_weight=weight)
    return SpeakingModel(kind, mean, scale, found.coef_[0].astype(np.float64), float(found.intercept_[0]))


def right(model: SpeakingModel, tracks: list[Labelled]) -> tuple[int, int]:
    """Return (frames told right, frames)."""
    counts = told(model, tracks, 0.0)
    return int(counts[0] + counts[3]), int(counts.sum())


def told(model: SpeakingModel, tracks: list[Labelled], asked: float) -> npt.NDArray[np.int64]:
    """Return frames [4]: speaking found, speaking claimed wrongly, speaking missed, the rest."""
    out = np.zeros(4, np.int64)
    for m in tracks:
        found = speaking(model.log_odds(m.features) - asked)[m.at]
        out += [int(x.sum()) for x in (found & m.speaks, found & ~m.speaks, ~found & m.speaks, ~found & ~m.speaks)]
    return out


def left_out(tracks: list[Labelled], kind: str) -> dict[str, dict[str, Any]]:
    """Return by media the share told right with each clip left out once, and with it in; and operating points."""
    out: dict[str, dict[str, Any]] = {}
    whole = fitted(tracks, kind)
    for media in sorted({m.media for m in tracks}):
        mine = [m for m in tracks if m.media == media]
        clips = sorted({m.clip for m in mine})
        models = {c: fitted([m for m in tracks if m.clip != c], kind) for c in clips}
        points = {}
        for asked in ASKED_NATS:
            counts = sum(
                (told(models[c], [m for m in mine if m.clip == c], asked) for c in clips), np.zeros(4, np.int64)
            )
            hit, false, missed, rest = (int(x) for x in counts)
            points[f"{asked:g}"] = {
                "right": (hit + rest) / (hit + false + missed + rest),
                "precision": hit / max(1, hit + false), "recall": hit / max(1, hit + missed),
            }  # fmt: skip
        good, frames = right(whole, mine)
        out[media] = {"left_out": points["0"]["right"], "fitted_on": good / frames, "frames": frames,
                      "left_out_by_nats_asked": points}  # fmt: skip
    return out


def as_json(model: SpeakingModel) -> dict[str, Any]:
    """Return the form that `annotators.lips.speaking` reads."""
    numbers = {name: [round(float(v), 5) for v in getattr(model, name)] for name in ("mean", "scale", "weights")}
    return {"features": list(FEATURES), **numbers, "offset": round(model.offset, 5)}


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("pairs", nargs="+", metavar="DATASET=MEDIA_DIR")
    parser.add_argument("--out", type=Path, help="write the weights here")
    parser.add_argument("--without", help="a clip that the written weights must not know")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    tracks: list[Labelled] = []
    for pair in args.pairs:
        dataset, _, media = pair.partition("=")
        if not Path(media).is_dir():
            sys.exit(f"{pair}: give DATASET=MEDIA_DIR, a dataset and the folder its videos and truth came from")
        tracks += labelled(Dataset(dataset), Path(media))
    result: dict[str, Any] = {}
    sets = {}
    for kind in sorted({m.kind for m in tracks}):
        mine = [m for m in tracks if m.kind == kind]
        if args.json or not args.out:
            result[kind] = left_out(mine, kind)
            for media, found in result[kind].items():
                print(f"{kind} {media}: {found['left_out']:.4f} left out, {found['fitted_on']:.4f} fitted on, "
                      f"{found['frames']} frames")  # fmt: skip
        sets[kind] = as_json(fitted([m for m in mine if m.clip != args.without], kind))
    if args.out:
        about = {"frames": sum(len(m.at) for m in tracks), "clips": len({m.clip for m in tracks})}
        old = json.loads(args.out.read_text())["sets"] if args.out.exists() else {}
        args.out.write_text(json.dumps({"about": about, "sets": old | sets}, indent=1) + "\n")
    if args.json:
        record.write(args.json, result | {"run": record.today_here()})


if __name__ == "__main__":
    main()
