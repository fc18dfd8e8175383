"""Who is who: how far faces lie apart, what the limits cost, and how they do on clips that had no say in them.

    python benchmarks/identity.py DATASET MEDIA_DIR [--backend retail|dlib|arcface] [--json FILE]

DATASET is a finished dataset of the videos in MEDIA_DIR, which hold truth files with named people. Its portraits are
embedded again by the back-end asked for. Printed and written: distances of portraits and of tracks that show one person
and two, with the equal error rate; B-cubed precision and recall (weighted by frames) over a range of limits inside a
source and across sources; the same with the embedder's own limits, with and without voices; and leave one clip out:
for each clip the limits are set on all others, at `GUARD` below the first wrong merge there.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import record
from found_tracks import found_tracks
from identity_score import b_cubed
from points import main_person, people_of_tracks, points
from truth_people import read_truths

from annotators.face.distances import distances_of
from curation import Dataset
from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from stages.identity.clusters import Rules, clusters_of, merge
from stages.identity.faces import Face, portrait_vectors, track_faces
from stages.identity.identity import IdentitySettings, tracks_apart
from stages.identity.voices import voices_of
from stages.references.embedding import Embedding, EmbeddingSettings

GUARD = 0.95
"""Share of the smallest limit with a wrong merge among the other clips that a clip left out is clustered by."""

STEPS = np.arange(0.5, 1.2001, 0.02)
"""Limits tried, as shares of the embedder's own limit inside a source."""


@dataclass(frozen=True)
class Shown:
    """Tracks with truth: their faces, whom they show, for how many frames, and what is known of them besides."""

    faces: dict[str, Face]
    person: dict[str, str]
    frames: dict[str, float]
    apart: Mapping[str, set[str]]
    voices: Mapping[str, frozenset[str]]
    source_of: dict[str, str]

    def only(self, sources: Iterable[str]) -> Shown:
        """Return the tracks of some sources."""
        wanted = set(sources)
        mine = {k for k, s in self.source_of.items() if s in wanted}
        return replace(
            self,
            faces={k: v for k, v in self.faces.items() if k in mine},
            person={k: v for k, v in self.person.items() if k in mine},
            source_of={k: v for k, v in self.source_of.items() if k in mine},
        )

    def people(self, rules: Rules) -> dict[str, str]:
        """Return the cluster of each track, named by its smallest."""
        out = {k: k for k in self.person}
        for embedder, clusters in clusters_of(self.faces, self.apart, self.voices, rules).items():
            for cluster in merge(clusters.values(), self.source_of, embedder, rules):
                out |= dict.fromkeys(cluster.members, min(cluster.members))
        return out

    def score(self, rules: Rules) -> tuple[float, float]:
        """Return B-cubed precision and recall over tracks weighted by frames."""
        who = self.people(rules)
        precision, recall = b_cubed({k: (who[k], p, self.frames[k]) for k, p in self.person.items()})
        return precision or 0.0, recall or 0.0


def embedded(dataset: Dataset, backend: str, model: str) -> tuple[list[pa.Table], float]:
    """Return FACE_EMBEDDINGS by a back-end, one part a source, and CPU milliseconds a portrait."""
    stage = Embedding(EmbeddingSettings(backend={"use": backend, **({"model": model} if backend == "arcface" else {})}))  # type: ignore[arg-type]
    tables = {x: dataset.table(x) for x in (t.TRACKS, t.TRACKLETS, t.PORTRAITS, t.FACE_FRAMES)}
    out, spent = [], 0.0
    for source in sorted(set(tables[t.TRACKS]["source_id"].to_pylist())):
        mine = {x: [rows.filter(pc.field("source_id") == source)] for x, rows in tables.items()}
        units = tuple(mine[t.TRACKS][0]["track_id"].to_pylist())
        start = time.process_time()
        found = stage.run(WorkItem(source, units=units), MemoryInputs(Path("none"), mine))
        spent += time.process_time() - start
        out.append(found.tables.get(t.FACE_EMBEDDINGS, t.FACE_EMBEDDINGS.empty()))
    return out, 1000 * spent / max(1, sum(p.num_rows for p in out))


def shown_in(dataset: Dataset, media: Path, parts: list[pa.Table]) -> tuple[Shown, dict[str, str]]:
    """Return the tracks with truth, and the clip's name of each source."""
    names = {r["name"]: r["source_id"] for r in dataset.table(t.INPUTS).to_pylist()}
    truths = {names[n]: truth for n, truth in read_truths(media).items() if n in names}
    found = found_tracks(dataset, list(truths))
    people = people_of_tracks([p for s, truth in truths.items() for p in points(truth, found[s])])
    tracks = {r.track_id: r for r in t.TRACKS.rows(dataset.table(t.TRACKS)) if r.track_id in people}
    faces = {k: f for k, f in track_faces(parts).items() if k in tracks}
    shown = Shown(
        faces,
        {k: main_person(people[k]) for k in tracks},
        {k: float(sum(map(len, people[k].values()))) for k in tracks},
        tracks_apart(tracks.values(), IdentitySettings().min_overlap_s),
        voices_of(t.BINDINGS.rows(dataset.table(t.BINDINGS))),
        {k: r.source_id for k, r in tracks.items()},
    )
    return shown, {s: truth.clip for s, truth in truths.items()}


def rules(shown: Shown, **values: Any) -> Rules:
    """Return the default rules with some of them changed."""
    s = IdentitySettings()
    usual = Rules(s.max_distance, s.max_distance_across, s.min_quality, s.voice_one, s.voice_two, s.n_neighbours)
    return replace(usual, **values)


def distances(pairs: Iterable[tuple[float, bool]]) -> dict[str, Any]:
    """Return quantiles of the distances of one person's and of two people's pairs, and the equal error rate."""
    rows = list(pairs)
    same = np.array([d for d, one in rows if one])
    other = np.array([d for d, one in rows if not one])
    if not len(same) or not len(other):
        return {"same": len(same), "different": len(other)}
    at = np.unique(np.concatenate([same, other]))
    missed = 1 - np.searchsorted(np.sort(same), at, side="right") / len(same)
    wrong = np.searchsorted(np.sort(other), at, side="right") / len(other)
    best = int(np.argmin(np.maximum(missed, wrong)))
    return {
        "same": len(same),
        "different": len(other),
        "eer": float(max(missed[best], wrong[best])),
        "eer_at": float(at[best]),
        "same_median_p90_max": [float(x) for x in np.quantile(same, [0.5, 0.9, 1.0])],
        "different_min_p01_p1": [float(x) for x in np.quantile(other, [0.0, 0.001, 0.01])],
    }


def portrait_pairs(parts: list[pa.Table], shown: Shown) -> dict[str, Any]:
    """Return distances of aligned portraits of two tracks, which may be of one source."""
    vectors: dict[str, npt.NDArray[np.float64]] = {}
    for part in parts:
        if part.num_rows:
            found, worth = portrait_vectors(part)
            ids = np.array(part["track_id"].to_pylist())
            vectors |= {k: found[(ids == k) & (worth > 0)] for k in set(ids.tolist()) & shown.person.keys()}
    pairs: list[tuple[float, bool]] = []
    for a, b in itertools.combinations(sorted(k for k, v in vectors.items() if len(v)), 2):
        gaps = np.sqrt(((vectors[a][:, None] - vectors[b][None]) ** 2).sum(axis=2)).ravel()
        pairs += [(float(g), shown.person[a] == shown.person[b]) for g in gaps]
    return distances(pairs)


def track_pairs(shown: Shown, least: float, within: bool | None = None) -> dict[str, Any]:
    """Return distances of tracks' faces whose best portrait is worth `least`; inside sources, across them, or all."""
    pairs = []
    for a, b in itertools.combinations(sorted(k for k, f in shown.faces.items() if f.best >= least), 2):
        together = shown.source_of[a] == shown.source_of[b]
        if within is None or (together == within and b not in shown.apart.get(a, ())):
            gap = float(np.linalg.norm(shown.faces[a].mean - shown.faces[b].mean))
            pairs.append((gap, shown.person[a] == shown.person[b]))
    return distances(pairs)


def first_wrong(shown: Shown, steps: npt.NDArray[np.float64], across: bool) -> float:
    """Return the smallest limit with a wrong merge (inside sources, or across them by the embedder's own inside)."""
    for step in steps:
        limits = {"max_distance_across": float(step)} if across else {"max_distance": float(step), **NOBODY_ACROSS}
        if shown.score(rules(shown, **limits))[0] < 1.0:
            return float(step)
    return float(steps[-1])


NOBODY_ACROSS = {"max_distance_across": 1e-6}


def leave_one_out(shown: Shown, clips: Mapping[str, str], own: float) -> dict[str, Any]:
    """Return the score when each clip is clustered by limits that the others set."""
    steps = own * STEPS
    who: dict[str, str] = {}
    limits: dict[str, list[float]] = {}
    wrong_across = 0
    for source, clip in clips.items():
        others = shown.only(s for s in clips if s != source)
        inside = GUARD * first_wrong(others, steps, across=False)
        across = min(inside, GUARD * first_wrong(others, steps, across=True))
        limits[clip] = [inside, across]
        chosen = rules(shown, max_distance=inside, max_distance_across=across)
        found = shown.people(chosen)
        mine = {k for k in found if shown.source_of[k] == source}
        who |= {k: found[k] for k in mine}
        wrong_across += sum(
            any(found[o] == found[k] and shown.person[o] != shown.person[k] for o in found if o not in mine)
            for k in mine
        )
    # Each clip was clustered with its own limits, so clusters meet only by name: who is in a clip is scored there.
    named = {k: (f"{shown.source_of[k]} {who[k]}", shown.person[k], shown.frames[k]) for k in who}
    precision, recall = b_cubed(named)
    return {
        "precision_inside": precision, "recall_inside": recall, "tracks_joined_to_a_stranger_elsewhere": wrong_across,
        "limits_min_max": {
            "inside": [min(x[0] for x in limits.values()), max(x[0] for x in limits.values())],
            "across": [min(x[1] for x in limits.values()), max(x[1] for x in limits.values())],
        },
    }  # fmt: skip


def measure(dataset: Dataset, media: Path, backend: str, model: str) -> dict[str, Any]:
    """Return all figures of one back-end."""
    parts, cost_ms = embedded(dataset, backend, model)
    shown, clips = shown_in(dataset, media, parts)
    (embedder,) = {f.embedder for f in shown.faces.values()}
    own = distances_of(embedder)
    least = IdentitySettings().min_quality
    voiceless = {"voice_one": 0.0, "voice_two": 0.0}
    sweep = own.within_source * STEPS
    return {
        "embedder": embedder,
        "limits": {"within_source": own.within_source, "across_sources": own.across_sources},
        "cpu_ms_a_portrait": cost_ms,
        "clips": len(clips), "people": len(set(shown.person.values())), "tracks": len(shown.person),
        "tracks_too_poor": sum(f.best < least for f in shown.faces.values()),
        "portraits": portrait_pairs(parts, shown),
        "tracks_all": track_pairs(shown, least),
        "tracks_within": track_pairs(shown, least, within=True),
        "tracks_across": track_pairs(shown, least, within=False),
        "chosen": dict(zip(("precision", "recall"), shown.score(rules(shown)), strict=True)),
        "chosen_without_voices": dict(
            zip(("precision", "recall"), shown.score(rules(shown, **voiceless)), strict=True)
        ),
        "by_limit_within": {
            f"{x:.3f}": shown.score(rules(shown, max_distance=float(x), **NOBODY_ACROSS)) for x in sweep
        },
        "by_limit_across": {f"{x:.3f}": shown.score(rules(shown, max_distance_across=float(x))) for x in sweep},
        "leave_one_clip_out": leave_one_out(shown, clips, own.within_source),
    }  # fmt: skip


def show(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    lines = [f"{result['embedder']}: {result['cpu_ms_a_portrait']:.1f} CPU ms a portrait"]
    lines.append(f"{result['clips']} clips, {result['people']} people, {result['tracks']} tracks")
    for name in ("portraits", "tracks_all", "tracks_within", "tracks_across"):
        d = result[name]
        if "eer" in d:
            same, other = (", ".join(f"{x:.2f}" for x in d[k]) for k in ("same_median_p90_max", "different_min_p01_p1"))
            lines.append(f"{name}: EER {d['eer']:.4f} at {d['eer_at']:.2f}; same {same}; different {other}")
    for name in ("chosen", "chosen_without_voices"):
        lines.append(f"{name}: precision {result[name]['precision']:.3f}, recall {result[name]['recall']:.3f}")
    for name in ("by_limit_within", "by_limit_across"):
        lines.append(f"{name}: " + ", ".join(f"{x}: {p:.3f}/{r:.3f}" for x, (p, r) in result[name].items()))
    lines.append(f"leave one clip out: {result['leave_one_clip_out']}")
    return "\n".join(lines)


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("dataset", help="a finished dataset of the videos in MEDIA_DIR")
    parser.add_argument("media", type=Path, help="directory of videos with truth files")
    parser.add_argument("--backend", default="retail", choices=["retail", "dlib", "arcface"])
    parser.add_argument("--model", default="w600k_r50.onnx", help="for arcface")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    result = measure(Dataset(args.dataset), args.media, args.backend, args.model)
    sys.stdout.write(show(result) + "\n")
    command = f"python benchmarks/identity.py DATASET MEDIA_DIR --backend {args.backend}"
    record.write(args.json, result | {"run": {"command": command, **record.today_here()}})


if __name__ == "__main__":
    main()
