"""A packed dataset of made recordings in which two people talk, each with a pitch of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from table_rows import row, source_row

from curation.dataset import Dataset
from curation.pack.shards import ShardIndex, end_of_archive, stored_size, write_members
from curation.storage.store import Store, table_file
from lpm_train.data.shards import Shards
from lpm_train.proof.synthetic_shards import write_dataset
from schemas import tables as t
from schemas.samples.manifest import manifest_row
from schemas.samples.sample import Sample
from schemas.table import Table
from schemas.time import PACKED_AUDIO_HZ

FRAMES = 24
PITCH_HZ = {"v00": 440.0, "v01": 660.0}
Turns = Sequence[tuple[str, float, float]]
Seen = Sequence[tuple[int, float, float, str]]


@dataclass(frozen=True)
class Talk:
    """A recording: who is heard and who is seen when; person 0 has voice v00, person 1 voice v01."""

    turns: Turns
    seen: Seen
    seconds: float = 40.0
    clips: dict[int, Sequence[float]] = field(default_factory=lambda: {0: (2.0, 9.0), 1: (5.5,)})
    """when kept clips of a person begin"""


TALK = Talk(
    turns=[("v00", 2, 5), ("v01", 5.5, 8.5), ("v00", 9, 12), ("v01", 11.5, 15), ("v00", 30, 33)],
    seen=[
        (0, 2, 4, "speak"), (1, 4, 5.4, "listen"), (1, 5.4, 8, "speak"), (0, 9, 10, "speak"), (0, 20, 22, "idle"),
        (0, 22, 24, "discard"),
    ],
)  # fmt: skip


def sound(talk: Talk) -> np.ndarray:
    """Return what is recorded, [N] at 48 kHz: a tone a voice, and a faint room."""
    at_s = np.arange(round(talk.seconds * PACKED_AUDIO_HZ)) / PACKED_AUDIO_HZ
    out = 1e-3 * np.random.default_rng(0).standard_normal(len(at_s))
    for voice, start_s, end_s in talk.turns:
        out += 0.2 * np.sin(2 * np.pi * PITCH_HZ[voice] * at_s) * ((at_s >= start_s) & (at_s < end_s))
    return out.astype(np.float32)


def source_of(number: int) -> str:
    """Return a source's id."""
    return f"{number:02d}" + 14 * "a"


def write(folder: Path, talks: Sequence[Talk | None]) -> Dataset:
    """Write a dataset of recordings in a folder, and its packed clips; of None the file is there no more."""
    made = folder / "made"
    write_dataset(made, identities=2, held_out=0, clips=4, n_frames=FRAMES)
    puppets, store = Shards(made), Store(str(folder / "d"))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    rows, faces, offset = [], [], 0
    with store.open_output("shards/train-000000.tar") as out:
        for number, talk in enumerate(talks):
            source, file = source_of(number), folder / f"{number}.wav"
            if talk is not None:
                soundfile.write(file, sound(talk), PACKED_AUDIO_HZ)
            for person, starts in (talk or TALK).clips.items():
                faces.append(row(t.TRACK_IDENTITIES, track_id=_track(source, person), source_id=source,
                                 identity_id=f"p-{person}", annotator="made"))  # fmt: skip
                for n, start_s in enumerate(starts):
                    like = puppets[f"puppet-p{person:05d}-c{n:03d}"]
                    data = puppets.read(like, like.members)
                    sample = _moved(Sample.model_validate_json(data["json"]), source, person, start_s)
                    data["json"] = sample.model_dump_json().encode()
                    members = [(f"{sample.sample_id}.{suffix}", value) for suffix, value in data.items()]
                    index = write_members(out, members, offset)
                    offset += stored_size(len(value) for _, value in members)
                    rows.append(manifest_row(sample, str(file), "train-000000.tar", index))
            _tables(store, source, talk or TALK)
        end_of_archive(out)
    store.write_table(
        table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows(sorted(rows, key=lambda r: r.segment_id))
    )
    store.write_table(table_file(t.TRACK_IDENTITIES), t.TRACK_IDENTITIES, t.TRACK_IDENTITIES.from_rows(faces))
    ShardIndex("made").write(store)
    return Dataset(store.uri)


def _track(source: str, person: int) -> str:
    return f"{source}-t{person:04d}"


def _moved(sample: Sample, source: str, person: int, start_s: float) -> Sample:
    track = _track(source, person)
    place = {"source_id": source, "track_id": track, "start_s": start_s, "end_s": start_s + FRAMES / 25}
    return sample.model_copy(
        update={
            "sample_id": f"{track}-{round(1000 * start_s):08d}", "identity_id": f"p-{person}",
            "source": sample.source.model_copy(update=place),
        }
    )  # fmt: skip


def _tables(store: Store, source: str, talk: Talk) -> None:
    def put(table: Table, *rows: Any) -> None:
        store.write_table(table_file(table, source), table, table.from_rows(rows))

    put(t.SOURCES, source_row(source, duration_s=talk.seconds))
    put(t.VOICE_TURNS, *(
        row(t.VOICE_TURNS, source_id=source, speaker_id=f"{source}-{v}", start_s=a, end_s=b) for v, a, b in talk.turns
    ))  # fmt: skip
    put(t.BINDINGS, *(
        row(t.BINDINGS, source_id=source, speaker_id=f"{source}-v0{p}", track_id=_track(source, p), bound=True)
        for p in (0, 1)
    ))  # fmt: skip
    put(t.TIMELINE, *(
        row(t.TIMELINE, source_id=source, track_id=_track(source, p), start_s=a, end_s=b, state=state, confidence=0.9)
        for p, a, b, state in sorted(talk.seen)
    ))  # fmt: skip
    words = [("Hello", 2.1, 2.5), ("there.", 2.6, 3.0), ("Yes.", 6.0, 6.4)]
    put(t.WORDS, *(
        row(t.WORDS, source_id=source, n=n, start_s=a, end_s=b, word=word, guess=word, probability=0.9)
        for n, (word, a, b) in enumerate(words)
    ))  # fmt: skip
