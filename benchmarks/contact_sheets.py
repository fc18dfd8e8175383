"""Contact sheets of a packed dataset, to be looked at: references, clips with their states, captions.

    python benchmarks/contact_sheets.py DATASET OUT_DIR [--truth MEDIA_DIR]

Writes `references-NNN.jpg` (per sample the clip's middle frame, then every reference image with its kind, view and
distances), `clips-NNN.jpg` (first, middle and last frame with state, times and confidence), `captions-NNN.jpg` (the
picture beside its caption, terms and words) and `index.html` with all of them. Everything is read from the shards, so
the pages show what a trainer gets. With `--truth` borders are green where the truth files beside the footage agree and
red where they do not. About 0.1 s a sample.
"""

from __future__ import annotations

import html
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import record
from sheet_drawing import BAD, GOOD, PLAIN, Image, Tile, row, write_pages

from curation import Dataset
from curation.media.encode import decode_jpeg
from curation.pack.samples import named
from schemas import tables as t
from schemas.samples.members import pictures
from schemas.tables.people import ReferenceRow


@dataclass(frozen=True)
class Sheet:
    """What the pages show of one sample."""

    facts: Mapping[str, Any]
    frames: tuple[Image, Image, Image]
    references: Mapping[str, Image]

    @property
    def title(self) -> str:
        """One line: which sample, of whom, in which state."""
        f = self.facts
        s = f["source"]
        return (
            f"{s['name']}  {f['sample_id']}  {s['start_s']:.2f}-{s['end_s']:.2f} s  {f['state']} ({f['category']})  "
            f"{f['identity_id']}  {f['split']}"
        )


def sheets(dataset: Dataset) -> Iterator[Sheet]:
    """Yield every packed sample in the order of source and time."""
    rows = dataset.table(t.MANIFEST).to_pylist()
    for entry in sorted(rows, key=lambda r: (r["source_id"], r["track_id"], r["start_s"])):
        shard = f"shards/{entry['shard']}"
        data = {m["name"]: dataset.store.read(shard, m["offset"], m["size"]) for m in entry["members"]}
        suffix = {name.partition(".")[2]: content for name, content in data.items()}
        facts = json.loads(suffix["json"])
        shown = {n: decode_jpeg(c) for n, c in pictures(suffix, [r["member"] for r in facts["references"]]).items()}
        yield Sheet(facts, first_middle_last(suffix["mp4"]), shown)


def first_middle_last(mp4: bytes) -> tuple[Image, Image, Image]:
    """Return three frames (height, width, 3) of a clip."""
    with av.open(io.BytesIO(mp4)) as container:
        frames = list(container.decode(video=0))
    picked = (frames[0], frames[len(frames) // 2], frames[-1])
    first, middle, last = (f.to_ndarray(format="rgb24") for f in picked)
    return first, middle, last


Judge = Mapping[tuple[str, str], bool]
"""(sample, member or "state") -> whether the truth agrees; not in it where the truth says nothing."""


def border(judged: Judge, sample: str, what: str) -> tuple[int, int, int]:
    """Return the colour round a picture."""
    verdict = judged.get((sample, what))
    return PLAIN if verdict is None else GOOD if verdict else BAD


def reference_row(sheet: Sheet, judged: Judge) -> Image:
    """Return the clip's middle frame and all its references."""
    f = sheet.facts
    tiles = [Tile(sheet.frames[1], ("the clip", f["identity_id"]))]
    for r in f["references"]:
        name = r["member"].removeprefix("ref_").removesuffix(".jpg")
        inside = "  inside the clip" if r["overlaps_clip"] else ""
        away = " ".join(f"{v:.2f}" for k, v in r.items() if k.endswith("distance") and v is not None)
        lines = (f"{name}  d {away}", f"{r['view']} {r['expression']}", f"{r['time_s']:.2f} s{inside}")
        tiles.append(Tile(sheet.references.get(r["member"]), lines, border(judged, f["sample_id"], r["member"])))
    return row(sheet.title, tiles)


def clip_row(sheet: Sheet, judged: Judge) -> Image:
    """Return first, middle and last frame with the states of the clip."""
    f = sheet.facts
    colour = border(judged, f["sample_id"], "state")
    tiles = [Tile(p, (n,), colour) for p, n in zip(sheet.frames, ("first", "middle", "last"), strict=True)]
    runs = "; ".join(f"{r['start_s']:.2f}-{r['end_s']:.2f} {r['state']} ({r['reason']} {r['confidence']:.2f})"
                     for r in f["states"])  # fmt: skip
    scores = ", ".join(f"{k} {v:.2f}" for k, v in f["scores"].items() if isinstance(v, float))
    return row(sheet.title, tiles, f"{runs}.    Partner: {f['partner']}.    {scores}")


def caption_row(sheet: Sheet) -> Image:
    """Return a frame beside what is said of it."""
    f = sheet.facts
    p = f["performance"]
    terms = ", ".join(p["emotions"] + p["expressions"] + p["head_motion"])
    rest = {k: v for k, v in p.items() if k not in ("caption", "emotions", "expressions", "head_motion", "annotator")}
    other = ", ".join(f"{k} {v}" for k, v in rest.items() if v)
    text = f"CAPTION: {p['caption']}    TERMS: {terms}    {other}    WORDS ({f['language']}): {f['text']}"
    return row(sheet.title, [Tile(sheet.frames[0]), Tile(sheet.frames[1])], text)


def judge(dataset: Dataset, media: Path) -> dict[tuple[str, str], bool]:
    """Return what the truth says of every sample: whom its references show, and whether its state holds throughout."""
    from accuracy import finished
    from found_tracks import found_tracks
    from points import Point, main_person, people_of_tracks, points

    truths = finished(dataset, media)
    found = found_tracks(dataset, list(truths))
    every = [p for source, truth in truths.items() for p in points(truth, found[source])]
    shown = {track: main_person(people) for track, people in people_of_tracks(every).items()}
    at = {(p.track, p.k): p.person for p in every if p.track is not None}
    by_track: dict[str, list[Point]] = {}
    for p in every:
        if p.track is not None and p.scored:
            by_track.setdefault(p.track, []).append(p)
    out: dict[tuple[str, str], bool] = {}
    segments = {r["segment_id"]: r for r in dataset.table(t.SEGMENTS).to_pylist()}
    of_segment: dict[str, list[ReferenceRow]] = {}
    for r in t.REFERENCES.rows(dataset.table(t.REFERENCES)):
        of_segment.setdefault(r.segment_id, []).append(r)
    for segment_id, mine in of_segment.items():
        track = segments[segment_id]["track_id"]
        for name, r in named(mine):
            seen = at.get((r.ref_track_id, r.ref_k)) or shown.get(r.ref_track_id)
            if track in shown and seen is not None:
                out[segment_id, name] = seen == shown[track]
    for name, s in segments.items():
        within = [p for p in by_track.get(s["track_id"], []) if s["start_s"] <= p.k / 25 < s["end_s"]]
        state = "speak" if s["state"] == "both" else s["state"]
        if within:
            out[name, "state"] = sum(p.true == state for p in within) >= 0.95 * len(within)
    return out


def page_index(folder: Path, pages: Sequence[Path]) -> None:
    """Write an HTML page with all sheets."""
    images = "\n".join(f'<h2>{html.escape(p.stem)}</h2><img src="{html.escape(p.name)}" alt="">' for p in pages)
    head = '<!doctype html><meta charset="utf-8"><title>Contact sheets</title>'
    style = "<style>body{background:#181818;color:#eee;font-family:sans-serif}img{max-width:100%}</style>"
    (folder / "index.html").write_text(f"{head}{style}\n{images}\n", encoding="utf-8")


def write_sheets(dataset: Dataset, folder: Path, judged: Judge) -> list[Path]:
    """Write every page and the index; return the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    every = list(sheets(dataset))
    pages = write_pages(folder, "references", (reference_row(s, judged) for s in every))
    pages += write_pages(folder, "clips", (clip_row(s, judged) for s in every))
    pages += write_pages(folder, "captions", (caption_row(s) for s in every))
    page_index(folder, pages)
    return pages


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--truth", type=Path, help="the footage with its truth files: colours the borders")
    args = parser.parse_args()
    dataset = Dataset(args.dataset)
    judged = judge(dataset, args.truth) if args.truth else {}
    pages = write_sheets(dataset, args.out, judged)
    if not pages:
        sys.exit(f"{args.dataset} holds no packed samples: look at `lpm status`")
    sys.stdout.write(f"{len(pages)} pages in {args.out}, all of them in {args.out / 'index.html'}\n")


if __name__ == "__main__":
    main()
