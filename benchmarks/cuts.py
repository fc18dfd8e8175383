"""Cuts against hand-made truth: PySceneDetect alone, TransNetV2 alone, both joined, and what the scan decides.

    python benchmarks/cuts.py CLIPS DATASET [--everywhere] [--json FILE]

CLIPS holds NAME.mp4 with NAME.truth.json (`cuts`, `cut_kinds`, `cut_spans`; without `cuts` the inner boundaries of
`shots`). DATASET is one that `lpm run` made of them: where faces are comes from it. A hard cut counts within 45 ms,
any other inside its extent and 0.2 s to either side, each once. `--everywhere` also asks TransNetV2 about every frame
(half a CPU second a second of video). Left out: each clip by limits that were chosen on all others.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import record

from annotators.picture.shot_change import Pictures, Thumbnails, compare
from annotators.picture.shots import ShotNetwork
from curation import Dataset
from curation.media.video import DecodeReport
from schemas import tables as t
from schemas.tables.scan import FaceCropRow
from schemas.time import Interval
from stages.scan.evidence import LIMITS, Limits, Shift, face_shift
from stages.scan.grid import read
from stages.scan.scan import ScanSettings
from stages.scan.shots import ShotMeter, decide

HARD_S, OTHER_S = 0.045, 0.2
CHANCE = 0.3
GRIDS: Mapping[str, tuple[float, ...]] = {
    "least": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "least_kept_other": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "other_scene": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "kept": (0.0, 0.01, 0.02, 0.03, 0.04, 0.06),
}
"""Limits that are chosen anew for each clip left out, one after the other; the middle of the best ones is taken."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A true cut: the first clean frame's time, its kind, and the extent within which it may be found, in seconds."""

    t_s: float
    kind: str
    first_s: float
    last_s: float


class Asked:
    """TransNetV2 on one clip; remembers what it said, and what it cost."""

    def __init__(self, network: ShotNetwork, n: int) -> None:
        self._network, self._known, self._said = network, np.zeros(n, bool), np.zeros(n)
        self.cpu_s = 0.0

    def __call__(self, thumbs: Thumbnails, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Return the probability of each wanted frame."""
        new = wanted & ~self._known
        if new.any():
            start = time.process_time()
            self._said = np.where(new, self._network.probabilities(thumbs, new), self._said)
            self.cpu_s += time.process_time() - start
            self._known |= new
        return np.where(wanted, self._said, 0.0)


@dataclass(frozen=True, slots=True)
class Clip:
    """What is needed of one clip to decide about it again and again."""

    name: str
    true: list[Cut]
    duration_s: float
    times: npt.NDArray[np.float64]
    content: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    pictures: Pictures
    shift: Shift
    network: Asked

    def ours(self, limits: Limits = LIMITS, faces: bool = True, network: bool = True) -> list[float]:
        """Return the times that the scan's rules give."""
        shift: Shift = self.shift if faces else (lambda i, reach: None)
        asked = self.network if network else None
        return [self.times[i] for i, _, _ in decide(self.content, self.flagged, self.pictures, shift, asked, limits)]

    def detector(self, confirmed: bool | None = None) -> list[float]:
        """Return PySceneDetect's times: all, or those that TransNetV2 everywhere confirms, or those it does not."""
        found: list[float] = self.times[self.flagged].tolist()
        if confirmed is None:
            return found
        others = self.everywhere()
        return [f for f in found if (min((abs(f - g) for g in others), default=9.0) <= OTHER_S) == confirmed]

    def everywhere(self) -> list[float]:
        """Return the times at which TransNetV2 alone finds a cut, asked about every frame."""
        chance = self.network(self.pictures.thumbs, np.ones(len(self.times), bool))
        return [self.times[i] for i in peaks(chance)]


def peaks(chance: npt.NDArray[np.float64]) -> list[int]:
    """Return the likeliest frame of each stretch from `CHANCE` on."""
    out, stretch = [], []
    for i, value in enumerate([*chance, 0.0]):
        if value >= CHANCE:
            stretch.append(i)
        elif stretch:
            out.append(max(stretch, key=lambda j: chance[j]))
            stretch = []
    return out


def true_cuts(truth: Mapping[str, Any]) -> list[Cut]:
    """Return the cuts of a truth file."""
    times = truth["cuts"] if "cuts" in truth else [s["start"] for s in truth.get("shots", [])[1:]]
    kinds = truth.get("cut_kinds") or ["hard"] * len(times)
    spans = truth.get("cut_spans") or [(c, c) for c in times]
    return [
        Cut(c, k, c - HARD_S, c + HARD_S) if k == "hard" else Cut(c, k, a - OTHER_S, b + OTHER_S)
        for c, k, (a, b) in zip(times, kinds, spans, strict=True)
    ]


def hits(found: Iterable[float], true: list[Cut]) -> list[Cut]:
    """Return the true cuts that were found; nearest first, each found time and each cut once."""
    found = list(found)
    near = sorted(
        (abs(f - c.t_s), i, j)
        for i, f in enumerate(found)
        for j, c in enumerate(true)
        if c.first_s - 1e-6 <= f <= c.last_s + 1e-6
    )
    pairs: dict[int, int] = {}
    for _, i, j in near:
        if i not in pairs.values() and j not in pairs:
            pairs[j] = i
    return [true[j] for j in sorted(pairs)]


def load(clips: Path, dataset: Path) -> list[Clip]:
    """Read every clip once."""
    data, network = Dataset(dataset), ShotNetwork()
    names = {r["source_id"]: Path(r["name"]).stem for r in data.table(t.INPUTS).to_pylist()}
    crops: dict[str, list[FaceCropRow]] = {}
    for row in t.FACE_CROPS.rows(data.table(t.FACE_CROPS).select(["source_id", "k", "landmarks"])):
        crops.setdefault(names[row.source_id], []).append(row)
    settings, out = ScanSettings.model_validate({}), []
    for file in sorted(clips.glob("*.truth.json")):
        name = file.name.removesuffix(".truth.json")
        path = next((p for p in clips.glob(f"{name}.*") if not p.name.endswith(".json")), None)
        if path is None or name not in names.values():
            continue
        meter = ShotMeter()
        for shown in read(
            path, Interval(0.0, 1e6), DecodeReport(), max_side=settings.max_side_px, threshold=settings.cut_threshold,
            min_content=settings.cut_min_content,
        ):  # fmt: skip
            meter.add(shown.t_s, shown.grid.start, shown.index, shown.small, shown.content, shown.cut)
        shift, ks = face_shift(crops.get(name, [])), [k for k, _, _ in meter.rows]
        out.append(
            Clip(
                name,
                true_cuts(json.loads(file.read_text(encoding="utf-8"))),
                meter.rows[-1][1],
                np.array([t_s for _, t_s, _ in meter.rows]),
                np.array(meter.content),
                np.array(meter.flagged),
                compare(np.stack(meter.thumbs)),
                lambda i, reach, shift=shift, ks=ks: shift(ks[i] - 1 - reach, ks[i] + reach),  # type: ignore[misc]
                Asked(network, len(meter.rows)),
            )
        )
    return out


def score(clips: list[Clip], times: Callable[[Clip], list[float]]) -> dict[str, Any]:
    """Return counts, F1, and what was found of each kind."""
    found_n = true_n = hit_n = 0
    kinds, found_kinds = Counter[str](), Counter[str]()
    wrong: dict[str, dict[str, list[float]]] = {}
    for clip in clips:
        found = times(clip)
        good = hits(found, clip.true)
        found_n, true_n, hit_n = found_n + len(found), true_n + len(clip.true), hit_n + len(good)
        kinds += Counter(c.kind for c in clip.true)
        found_kinds += Counter(c.kind for c in good)
        missed = [c.t_s for c in clip.true if c not in good]
        if missed or len(found) > len(good):
            false = [round(float(f), 3) for f in found if not any(c.first_s <= f <= c.last_s for c in clip.true)]
            wrong[clip.name] = {"missed": missed, "false": false}
    return {
        "true": true_n,
        "found": found_n,
        "right": hit_n,
        "f1": round(2 * hit_n / max(1, found_n + true_n), 4),
        "by_kind": {k: [found_kinds[k], n] for k, n in sorted(kinds.items())},
        "wrong": wrong,
    }


def left_out(clips: list[Clip]) -> dict[str, Any]:
    """Score each clip by limits that were chosen on all others."""
    chosen: dict[str, Limits] = {}
    tables = {
        (clip.name, key, value): clip.ours(replace(LIMITS, **{key: value}))
        for clip in clips
        for key, values in GRIDS.items()
        for value in values
    }
    for clip in clips:
        others = [c for c in clips if c is not clip]
        limits = LIMITS
        for key, values in GRIDS.items():
            f1 = [score(others, lambda c, k=key, v=v: tables[c.name, k, v])["f1"] for v in values]  # type: ignore[misc]
            best = [v for v, f in zip(values, f1, strict=True) if f == max(f1)]
            limits = replace(limits, **{key: best[len(best) // 2]})
        chosen[clip.name] = limits
    result = score(clips, lambda c: c.ours(chosen[c.name]))
    result["chosen"] = {key: sorted({getattr(limits, key) for limits in chosen.values()}) for key in GRIDS}
    return result


def main() -> None:
    """Print one line for each way, and write all."""
    arguments = record.parser(__doc__)
    arguments.add_argument("clips", type=Path)
    arguments.add_argument("dataset", type=Path)
    arguments.add_argument("--everywhere", action="store_true", help="ask TransNetV2 about every frame too")
    arguments.add_argument("--json", type=Path)
    chosen = arguments.parse_args()
    clips = load(chosen.clips, chosen.dataset)
    seconds = sum(c.duration_s for c in clips)
    ways: dict[str, Any] = {"scan": score(clips, lambda c: c.ours())}
    cost = sum(c.network.cpu_s for c in clips) / seconds
    ways["scan, limits chosen without the clip"] = left_out(clips)
    ways["scan without faces"] = score(clips, lambda c: c.ours(faces=False))
    ways["scan without TransNetV2"] = score(clips, lambda c: c.ours(network=False))
    ways["PySceneDetect"] = score(clips, Clip.detector)
    if chosen.everywhere:
        ways["TransNetV2 everywhere"] = score(clips, Clip.everywhere)
        ways["union"] = score(clips, lambda c: [*c.everywhere(), *c.detector(confirmed=False)])
        ways["intersection"] = score(clips, lambda c: c.detector(confirmed=True))
    for name, way in ways.items():
        print(
            f"{name:40} {way['right']:3} right of {way['found']:3} found and {way['true']:3} true, F1 {way['f1']:.3f}"
        )
        print(f"{'':40} {way['by_kind']} {way['wrong']}")
    print(f"TransNetV2 cost {cost:.3f} CPU s a second of video ({seconds:.0f} s, {len(clips)} clips)")
    record.write(
        chosen.json,
        {
            **record.today_here(),
            "seconds": round(seconds, 1),
            "network_cpu_s_per_video_s": round(cost, 4),
            "ways": ways,
        },
    )


if __name__ == "__main__":
    main()
