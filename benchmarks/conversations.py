"""Whole conversations against hand-made truth: what people do while nobody sees them, and how far rollouts may run.

    python benchmarks/conversations.py DATASET [MEDIA] [--json FILE]

DATASET is one that `accuracy.py` built of MEDIA (`--dataset`). In every frame of every exported side the truth says who
is heard: the side's person, somebody else, or nobody. Three figures are counted on it: the states that the export
writes where the person is not seen (`off_screen`), those that it writes where they are (`seen`, the timeline's), and
what its rule would have said there from the voices alone (`rule_where_seen`), which has more frames to be judged on.
Nothing in the rule was fitted. Then: the longest chain of conditions that a person has, of clips and in conversations.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import record
from accuracy import finished
from found_tracks import found_tracks
from points import main_person, people_of_tracks, points
from truth_people import Truth

from curation.dataset import Dataset
from curation.export.samples import selected
from lpm_train.data.chains import Link, join
from schemas.samples.sample import FPS
from schemas.tables.output import ManifestRow
from schemas.time import Interval
from workflows.conversations.samples import Recording, Rules, Side, sides
from workflows.conversations.sides import UNKNOWN, did, stretches
from workflows.performing.states import NAMES

Counts = Counter[tuple[str, str]]
"""Frames by what is true and what was found."""


def heard(truth: Truth, frames: int) -> list[str | None]:
    """Return who is heard in each frame: names, another voice, "" for nobody, None where nothing is claimed."""
    out: list[str | None] = [None] * frames
    for span in truth.spans:
        unsure = span.voice in ("unsure", "unknown") or any(not face.scored for face in span.faces)
        for k in span.frames:
            if k < frames and not unsure:
                out[k] = span.voice or ""
    return out


def true_state(person: str, voice: str, seen: str | None) -> str:
    """Return what a person does by the truth: who is seen as their face says, else as the voice does."""
    if seen is not None:
        return seen
    return "speak" if person in voice.split("+") else "listen" if voice else "idle"


def score(counts: Counts) -> dict[str, Any]:
    """Return the share of frames in the right state, and where the others went."""
    total = sum(counts.values())
    right = sum(n for (true, found), n in counts.items() if true == found)
    return {
        "frames": total,
        "right": round(right / total, 4) if total else None,
        "of": {f"{true} as {found}": n for (true, found), n in sorted(counts.items())},
    }


def person_of(clip: ManifestRow) -> str:
    """Return whom a clip shows."""
    return clip.identity_id or clip.track_id


def longest(links: list[Link]) -> dict[str, float]:
    """Return, by person, the seconds of their longest chain."""
    out: dict[str, float] = {}
    for chain in join(links, 1.0):
        who = next(x.identity_id for x in links if x.sample_id == chain.pieces[0].sample_id)
        out[who] = max(out.get(who, 0.0), chain.frames / FPS)
    return out


def judge(truth: Truth, recording: Recording, mine: list[Side], people: dict[str, str], seen: dict[Any, str | None],
          counts: dict[str, Counts]) -> None:  # fmt: skip
    """Count the frames of a recording's sides."""
    turns = [(turn.speaker_id, Interval(turn.start_s, turn.end_s)) for turn in recording.turns]
    for side in mine:
        names = Counter(people[r.track_id] for r in side.seen if r.track_id in people)
        if not names:
            continue
        person, tracks = names.most_common(1)[0][0], {r.track_id for r in side.seen}
        own = frozenset(b.speaker_id for b in recording.bindings if b.bound and b.track_id in tracks)
        alone = did(turns, own, [], len(side.what.state_T))
        voices = heard(truth, len(side.what.state_T))
        for first, last in stretches(side.what.present_T, round(Rules().absent_s * FPS)):
            for k in range(first, last):
                voice, there = voices[k], (person, k) in seen
                if voice is None or (there and seen[person, k] in (None, "discard")):
                    continue
                true = true_state(person, voice, seen[person, k] if there else None)
                found = {"seen" if side.what.row_T[k] >= 0 else "off_screen": int(side.what.state_T[k])}
                if side.what.row_T[k] >= 0:
                    found["rule_where_seen"] = int(alone.state_T[k])
                for name, code in found.items():
                    state = "discard" if code == UNKNOWN else NAMES[code]
                    counts[name][true, "speak" if state == "both" else state] += 1


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("dataset")
    parser.add_argument("media", nargs="?", type=Path, default=record.MEDIA.parent / "wild")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    dataset = Dataset(args.dataset)
    truths = {s: x for s, x in finished(dataset, args.media).items() if x.by_hand}
    found = found_tracks(dataset, list(truths))
    counts: dict[str, Counts] = {"off_screen": Counter(), "seen": Counter(), "rule_where_seen": Counter()}
    chains: dict[str, list[float]] = {"clips": [], "conversations": []}
    for source, truth in sorted(truths.items(), key=lambda x: x[1].clip):
        try:
            clips = selected(dataset, f"source_id = '{source}'")
        except ValueError:
            continue  # nobody of it is kept
        every = points(truth, found[source])
        people = {track: main_person(who) for track, who in people_of_tracks(every).items()}
        seen = {(p.person, p.k): p.true if p.scored else None for p in every}
        recording = Recording.of(dataset, source, clips)
        mine = sides(recording)
        judge(truth, recording, mine, people, seen, counts)
        packed = longest(
            [Link(source, person_of(c), (c.height, c.width), c.start_s, c.segment_id, c.n_frames) for c in clips]
        )
        for side in mine:
            who = person_of(side.clips[0])
            whole = stretches(side.what.present_T, round(Rules().absent_s * FPS))
            chains["clips"].append(packed[who])
            chains["conversations"].append(max((b - a) / FPS for a, b in whole))
    result = {
        "states": {name: score(c) for name, c in counts.items()},
        "chains": {
            name: {"people": len(s), "median_s": round(sorted(s)[len(s) // 2], 2), "longest_s": max(s)}
            for name, s in chains.items()
        },
        "run": {"command": "python benchmarks/conversations.py DATASET MEDIA", **record.today_here()},
    }
    sys.stdout.write(record.as_json(result))
    record.write(args.json, result)


if __name__ == "__main__":
    main()
