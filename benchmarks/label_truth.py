"""What the machine found against what people said: states frame by frame, voices, words, captions, cuts and people.

Part of benchmarks/accuracy.py. The tables hold what people said where they said something, so stages `attribution`,
`pairing` and `performance` run once more in memory without it (milliseconds a minute; nothing is written). Of several
labels on one thing the newest is the truth. Labels are mostly given where something is wrong: they tell of a dataset
only as far as whole clips were labelled.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from curation import Dataset
from curation.engine.inputs import StoreInputs
from curation.engine.workflow import Pipeline, resolve
from curation.labels.apply import LABELLED
from curation.stage import WorkItem
from schemas import tables as t
from schemas.settings.workflow import Workflow
from schemas.table import Table
from schemas.tables.labels import LabelRow
from schemas.tables.performance import CaptionRow
from schemas.tables.tracks import TrackRow
from schemas.time import Interval, grid_range
from stages.attribution.labels import faces_of, voice_at
from stages.pairing.labels import match, oldest_first
from stages.performance.labels import labels_of

STATES = ("speak", "listen", "idle", "both", "discard")


class _WithoutLabels(StoreInputs):
    """The dataset as if nobody had said anything; `instead` holds what then would be in other tables."""

    instead: dict[Table, Any]

    def read(self, table: Table) -> Any:
        if table in self.instead:
            return self.instead[table]
        return table.empty() if table in t.LABEL_TABLES else super().read(table)


def label_truth(labels: list[LabelRow], tracks: list[TrackRow]) -> dict[tuple[str, int], str]:
    """Return the labelled state by (track, grid index)."""
    out: dict[tuple[str, int], str] = {}
    for label in oldest_first(labels):
        for name in match(label, tracks):
            for k in grid_range(Interval(label.start_s, label.end_s)):
                out[name, k] = label.state
    return out


def stages_of(dataset: Dataset) -> Pipeline:
    """Return the stages of the dataset's own workflow."""
    spec = dataset.store.read_json("workflow.json")
    if spec is None:
        raise SystemExit("the dataset has no workflow.json; run `lpm run` on it first")
    return resolve(Workflow.model_validate(spec["workflow"]))


def machine_tables(dataset: Dataset, source_id: str) -> dict[Table, Any]:
    """Return a source's tables of `attribution` and `pairing` as the machine alone makes them."""
    pipeline = stages_of(dataset)
    if pipeline.writer(t.TIMELINE) is None:
        raise SystemExit("the dataset's workflow has no stage that writes timelines")
    windows = [f for f in dataset.files(t.FACE_FRAMES) if Path(f).name.startswith(f"{source_id}.w")]
    live = {r["track_id"] for r in dataset.table(t.TIMELINE, sources=[source_id]).to_pylist()}
    item = WorkItem(source_id, n_windows=len(windows), units=tuple(sorted(live)))
    inputs = _WithoutLabels(dataset.store, item, lambda: Path(), keep={"track_id": frozenset(live)})
    inputs.instead = {}
    asked: tuple[Table, ...] = (t.BINDINGS, t.TIMELINE)
    for table in asked:
        stage = pipeline.writer(table)
        if stage is not None:
            inputs.instead |= stage.build().run(item, inputs).tables
    return inputs.instead


def against_labels(dataset: Dataset) -> dict[str, Any]:
    """Return accuracy, recall and confusion of the machine's states on the labelled frames."""
    names = {r["source_id"]: r["name"] for r in dataset.table(t.INPUTS).to_pylist()}
    labels, tracks = t.LABELS.rows(dataset.table(t.LABELS)), t.TRACKS.rows(dataset.table(t.TRACKS))
    confusion: Counter[tuple[str, str]] = Counter()
    per_source: dict[str, dict[str, float]] = {}
    for sid in sorted({r.source_id for r in labels}):
        truth = label_truth([r for r in labels if r.source_id == sid], [r for r in tracks if r.source_id == sid])
        found: dict[tuple[str, int], str] = {}
        for r in t.TIMELINE.rows(machine_tables(dataset, sid)[t.TIMELINE]):
            for k in grid_range(Interval(r.start_s, r.end_s)):
                found[r.track_id, k] = r.state
        mine = Counter((state, found.get(at, "missing")) for at, state in truth.items())
        confusion += mine
        right = sum(n for (a, b), n in mine.items() if a == b)
        per_source[names[sid]] = {"accuracy": right / max(1, mine.total()), "frames": mine.total()}
    total = confusion.total()
    of = {s: sum(n for (a, _), n in confusion.items() if a == s) for s in STATES}
    return {
        "truth": "human labels",
        "authors": sorted({r.author for r in labels}),
        "labels": len(labels),
        "frames": total,
        "accuracy": sum(n for (a, b), n in confusion.items() if a == b) / total if total else None,
        "recall": {s: confusion[s, s] / of[s] if of[s] else None for s in STATES},
        "confusion": {s: {p: confusion[s, p] for p in (*STATES, "missing")} for s in STATES},
        "per_source": per_source,
        "voices": voices_right(dataset),
        "words": words_right(dataset),
        "captions": captions_right(dataset),
        "cuts": cuts_right(dataset),
        "people": people_decided(dataset),
    }


def voices_right(dataset: Dataset) -> dict[str, int]:
    """Count the voices that people gave to faces, and those that the machine alone gives to the same."""
    right = n = 0
    labels = t.VOICE_LABELS.rows(dataset.table(t.VOICE_LABELS))
    for sid in sorted({x.source_id for x in labels}):
        made = machine_tables(dataset, sid)
        turns = t.VOICE_TURNS.rows(made[t.VOICE_TURNS])
        tracks = t.TRACKS.rows(dataset.table(t.TRACKS, sources=[sid]))
        found: dict[str, set[str]] = {}
        for r in t.BINDINGS.rows(made[t.BINDINGS]):
            if r.bound:
                found.setdefault(r.speaker_id, set()).add(r.track_id)
        newest = {voice_at(x, turns): x for x in sorted(labels, key=lambda x: x.labelled_at) if x.source_id == sid}
        for voice, x in newest.items():
            n += 1
            theirs, mine = found.get(voice or "", set()), set(faces_of(x, tracks))
            right += mine <= theirs if mine else not theirs
    return {"right": right, "labels": n}


def words_right(dataset: Dataset) -> dict[str, int]:
    """Count the stretches whose words people gave, and those in which the recogniser wrote the same."""
    words = t.WORDS.rows(dataset.table(t.WORDS))
    right = 0
    newest = {
        (x.source_id, x.start_s, x.end_s): x
        for x in sorted(t.WORD_LABELS.rows(dataset.table(t.WORD_LABELS)), key=lambda x: x.labelled_at)
    }
    for (sid, start_s, end_s), x in newest.items():
        said = [w for w in words if w.source_id == sid and start_s <= (w.start_s + w.end_s) / 2 <= end_s]
        right += _plain(" ".join(w.word or "" for w in said)) == _plain(x.word or "")
    return {"right": right, "labels": len(newest)}


def captions_right(dataset: Dataset) -> dict[str, int]:
    """Count the fields of captions that people gave, and those that the machine alone gives the same clip."""
    labels = t.CAPTION_LABELS.rows(dataset.table(t.CAPTION_LABELS))
    right = n = 0
    for sid in sorted({x.source_id for x in labels}):
        mine = [x for x in labels if x.source_id == sid]
        made = machine_captions(dataset, sid)
        tracks = {r.track_id: r for r in t.TRACKS.rows(dataset.table(t.TRACKS, sources=[sid]))}
        for segment in t.SEGMENTS.rows(dataset.table(t.SEGMENTS, sources=[sid])):
            if segment.segment_id not in made:
                continue
            newest = {x.field: x for x in labels_of(segment, tracks[segment.track_id], mine)}
            n += len(newest)
            row = made[segment.segment_id]
            right += sum(_same(row["caption" if f == "prose" else f], json.loads(x.value)) for f, x in newest.items())
    return {"right": right, "labels": n}


def machine_captions(dataset: Dataset, source_id: str) -> dict[str, dict[str, Any]]:
    """Return a source's captions by clip as the machine alone makes them; none where no stage writes them."""
    stage = stages_of(dataset).writer(t.CAPTIONS)
    ids = tuple(sorted(CaptionRow.segment_id.values(dataset.table(t.CAPTIONS, sources=[source_id]))))
    if stage is None or not ids:
        return {}
    windows = [f for f in dataset.files(t.FACE_FRAMES) if Path(f).name.startswith(f"{source_id}.w")]
    (media, *_) = (r.path for r in t.INPUTS.rows(dataset.table(t.INPUTS)) if r.source_id == source_id)
    item = WorkItem(source_id, n_windows=len(windows), units=ids)
    inputs = _WithoutLabels(dataset.store, item, lambda: Path(media), keep={"segment_id": frozenset(ids)})
    inputs.instead = {}
    return {r["segment_id"]: r for r in stage.build().run(item, inputs).tables[t.CAPTIONS].to_pylist()}


def _same(found: object, said: object) -> bool:
    if isinstance(found, list) and isinstance(said, list):
        return sorted(map(str, found)) == sorted(map(str, said))
    if isinstance(found, str) and isinstance(said, str):
        return _plain(found) == _plain(said)
    return (found or None) == (said or None)


def cuts_right(dataset: Dataset) -> dict[str, int]:
    """Count the cuts that people put in and took out, and those of either that the machine had right."""
    found: dict[str, list[float]] = {}
    for r in t.CUTS.rows(dataset.table(t.CUTS)):
        if r.annotator != LABELLED:
            found.setdefault(r.source_id, []).append(r.t_s)
    labels = t.CUT_LABELS.rows(dataset.table(t.CUT_LABELS))
    near = [any(x.start_s - 0.1 <= s <= x.end_s + 0.1 for s in found.get(x.source_id, [])) for x in labels]
    return {
        "right": sum(there == x.cut for x, there in zip(labels, near, strict=True)),
        "labels": len(labels),
        "missed": sum(x.cut and not there for x, there in zip(labels, near, strict=True)),
        "wrong": sum(there and not x.cut for x, there in zip(labels, near, strict=True)),
    }


def people_decided(dataset: Dataset) -> dict[str, int]:
    """Count what people decided of who is who: each merge is one person taken for two, each split two for one."""
    rows = t.IDENTITY_DECISIONS.rows(dataset.table(t.IDENTITY_DECISIONS))
    kinds = Counter(kind for _, kind in {(r.decision_id, r.kind) for r in rows})
    return {"taken_for_two": kinds["merge"], "taken_for_one": kinds["split"]}


def _plain(text: str) -> str:
    return "".join(x for x in text.casefold() if x.isalnum() or x.isspace()).strip()


def show_labels(result: dict[str, Any]) -> str:
    """Return the result as text."""
    others = {name: x for name in ("voices", "words", "captions", "cuts") if (x := result[name])["labels"]}
    if result["accuracy"] is None and not others and not any(result["people"].values()):
        return "no human labels in this dataset: give some in `lpm review`, or bring them with `lpm labels import`"
    lines = []
    if result["accuracy"] is not None:
        lines = [f"states against {result['labels']} human labels: accuracy {result['accuracy']:.4f} "
                 f"over {result['frames']} frames"]  # fmt: skip
    lines += [f"  recall {s}: {v:.4f}" for s, v in result["recall"].items() if v is not None]
    lines += [f"  {n}: {json.dumps(v)}" for n, v in result["per_source"].items()]
    lines += [f"{name}: {x['right']} of {x['labels']} right" for name, x in others.items()]
    if any(result["people"].values()):
        lines.append("people: {taken_for_two} taken for two, {taken_for_one} pairs for one".format(**result["people"]))
    return "\n".join(lines)
