"""Samples without pictures: a piece of a recording as one person says and hears it.

They have the members and the record of packed clips but for `mp4`, so whoever reads clips reads them. What is not of
the piece itself (caption, references, rights, picture size) is that of the person's kept clip that is nearest in time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from curation.dataset import Dataset
from curation.export.samples import Packed, read
from curation.labels.apply import said_words
from curation.media.audio import AudioReader
from curation.media.encode import encode_flac
from schemas import tables as t
from schemas.samples import sample as s
from schemas.samples.members import FIRST, FURTHER
from schemas.tables.attribution import BindingRow, VoiceTurnRow
from schemas.tables.output import ClipRow, ManifestRow
from schemas.tables.pairing import SegmentRow, TimelineRow
from schemas.tables.people import TrackIdentityRow
from schemas.tables.speech import WordRow
from schemas.time import PACKED_AUDIO_HZ, Interval
from stages.packing.audio import Role, Run, Samples, level_db, role_gain
from workflows.conversations.sides import OFF_SCREEN, Did, category, did, pieces, runs, stretches, timeline

FADE_S = 0.015
"""`fade_ms` of stage `packing`."""

MEMBERS = ("speak.flac", "listen.flac", "json", FIRST, FURTHER)


@dataclass(frozen=True)
class Rules:
    """How recordings are cut."""

    piece_s: float = 20.0
    absent_s: float = 30.0
    unseen: Literal["voices", "silence"] = "voices"
    """what is taken of a person who is not seen: what the voices say, or nothing"""


@dataclass(frozen=True)
class Recording:
    """What tables hold of a source, and its kept clips."""

    source_id: str
    duration_s: float
    clips: Sequence[ManifestRow]
    turns: Sequence[VoiceTurnRow]
    bindings: Sequence[BindingRow]
    timeline: Sequence[TimelineRow]
    faces: dict[str, str]
    """track_id -> identity_id"""
    words: Sequence[WordRow]

    @classmethod
    def of(cls, dataset: Dataset, source_id: str, clips: Sequence[ManifestRow]) -> Recording:
        """Read a source's tables."""
        one = [source_id]
        (source,) = t.SOURCES.rows(dataset.table(t.SOURCES, None, one))
        columns = (TrackIdentityRow.track_id, TrackIdentityRow.identity_id)
        faces = dataset.table(t.TRACK_IDENTITIES, columns, one)
        return cls(
            source_id, max(source.duration_s, source.audio_duration_s or 0.0), clips,
            list(t.VOICE_TURNS.rows(dataset.table(t.VOICE_TURNS, None, one))),
            list(t.BINDINGS.rows(dataset.table(t.BINDINGS, None, one))),
            list(t.TIMELINE.rows(dataset.table(t.TIMELINE, None, one))),
            {r.track_id: r.identity_id for r in t.TRACK_IDENTITIES.rows(faces)},
            said_words(
                list(t.WORDS.rows(dataset.table(t.WORDS, None, one))),
                list(t.WORD_LABELS.rows(dataset.table(t.WORD_LABELS, None, one))),
            ),
        )  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A person in a recording: what they do, and their kept clips in order of time."""

    what: Did
    seen: Sequence[TimelineRow]
    clips: Sequence[ManifestRow]
    gains: Sequence[Run]

    @property
    def name(self) -> str:
        """What its samples are called after: the first of the person's kept faces."""
        return min(clip.track_id for clip in self.clips)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of most of the person's pictures."""
        frames: dict[tuple[int, int], int] = {}
        for clip in self.clips:
            frames[clip.width, clip.height] = frames.get((clip.width, clip.height), 0) + clip.n_frames
        return max(sorted(frames), key=lambda size: frames[size])

    def nearest(self, start_s: float, end_s: float) -> ManifestRow:
        """Return the clip that is nearest to a time; of several the one that overlaps most, then the first."""

        def away(clip: ManifestRow) -> tuple[float, float]:
            overlap = min(end_s, clip.end_s) - max(start_s, clip.start_s)
            return max(0.0, -overlap), -overlap

        return min(self.clips, key=away)


def sides(recording: Recording, unseen: Literal["voices", "silence"] = Rules.unseen) -> list[Side]:
    """Return the people of whom a clip is kept, in order of their names.

    A face that nobody was found for is a person of its own.
    """
    clips: dict[str, list[ManifestRow]] = {}
    for clip in sorted(recording.clips, key=lambda c: (c.start_s, c.segment_id)):
        clips.setdefault(clip.identity_id or clip.track_id, []).append(clip)
    turns = [(turn.speaker_id, Interval(turn.start_s, turn.end_s)) for turn in recording.turns]
    frames = int(recording.duration_s * s.FPS)
    out = []
    for person, mine in clips.items():
        tracks = {track for track, who in recording.faces.items() if who == person} | {c.track_id for c in mine}
        own = frozenset(b.speaker_id for b in recording.bindings if b.bound and b.track_id in tracks)
        seen = [row for row in recording.timeline if row.track_id in tracks]
        theirs = {b.track_id for b in recording.bindings if b.bound and b.speaker_id in own}
        others = [row for row in recording.timeline if row.track_id not in tracks | theirs]
        what = did(turns, own, seen, frames, others)
        what = what if unseen == "voices" else what.where_seen()
        out.append(Side(what, seen, mine, timeline(what)))
    return sorted(out, key=lambda side: side.name)


def samples(
    dataset: Dataset, recording: Recording, audio: AudioReader, rules: Rules
) -> Iterator[tuple[s.Sample, str, list[tuple[str, bytes]]]]:  # fmt: skip
    """Yield (record, where the source lay, members by name) of a recording's pieces, in order of their ids.

    A stretch in which nobody talks is left out.
    """

    @functools.lru_cache(maxsize=8)
    def like(segment_id: str) -> Packed:
        (row,) = (clip for clip in recording.clips if clip.segment_id == segment_id)
        return next(read(dataset, [row], (FIRST, FURTHER)))

    for side in sides(recording, rules.unseen):
        number = 0
        for start, stop in stretches(side.what.present_T, round(rules.absent_s * s.FPS)):
            if not (side.what.state_T[start:stop] > 0).any():
                continue
            for first, last in pieces(start, stop, round(rules.piece_s * s.FPS)):
                nearest = side.nearest(first / s.FPS, last / s.FPS)
                base = like(nearest.segment_id)
                key = f"{side.name}-w{number:06d}"
                number += 1
                tracks = _tracks(audio, side.gains, first, last)
                record = _record(key, base.sample, recording, side, first, last, tracks)
                data = {f"{role}.flac": encode_flac(wave, PACKED_AUDIO_HZ) for role, wave in tracks.items()}
                data |= {"json": record.model_dump_json(indent=1).encode()}
                data |= {name: base.members[name] for name in (FIRST, FURTHER)}
                yield record, nearest.uri, [(f"{key}.{name}", data[name]) for name in MEMBERS]


def _tracks(audio: AudioReader, gains: Sequence[Run], first: int, last: int) -> dict[Role, Samples]:
    """Return both sounds of frames [first, last), float32 [n] at 48 kHz, with the gains of packing."""
    a, n = first * s.SAMPLES_PER_FRAME, (last - first) * s.SAMPLES_PER_FRAME
    sound, roles = audio.read_samples(a, a + n), get_args(Role)
    return {r: sound * role_gain(gains, r, a / PACKED_AUDIO_HZ, n, PACKED_AUDIO_HZ, FADE_S) for r in roles}


def _record(
    key: str, like: s.Sample, recording: Recording, side: Side, first: int, last: int, tracks: dict[Role, Samples]
) -> s.Sample:  # fmt: skip
    start_s, end_s = first / s.FPS, last / s.FPS
    found = [
        s.StateRun(
            state=state, start_s=round(a / s.FPS - start_s, 3), end_s=round(b / s.FPS - start_s, 3),
            confidence=side.seen[row].confidence if row >= 0 else 0.0,
            reason=side.seen[row].reason if row >= 0 else OFF_SCREEN,
        )
        for a, b, state, row in runs(side.what, first, last)
    ]  # fmt: skip
    seconds = dict.fromkeys(("idle", "speak", "listen", "both", "discard"), 0.0)
    for run in found:
        seconds[run.state] += run.end_s - run.start_s
    known = {state: x for state, x in seconds.items() if state != "discard"}
    total, (width, height) = end_s - start_s, side.size
    words = [w for w in recording.words if w.word is not None and start_s <= (w.start_s + w.end_s) / 2 < end_s]
    return like.model_copy(
        update={
            "sample_id": key, "state": max(known, key=lambda state: known[state]), "category": category(seconds),
            "text": " ".join(w.word or "" for w in words) or None,
            "source": like.source.model_copy(update={"start_s": start_s, "end_s": end_s}),
            "video": like.video.model_copy(update={"width": width, "height": height, "n_frames": last - first}),
            "audio": s.Audio.of(
                {
                    ClipRow.speak_level_db: level_db(tracks["speak"]),
                    ClipRow.listen_level_db: level_db(tracks["listen"]),
                    ClipRow.overlap_s: round(seconds["both"], 3), ClipRow.separated_s: 0.0,
                },
                rate_hz=PACKED_AUDIO_HZ, n_samples=(last - first) * s.SAMPLES_PER_FRAME, shift_ms=0.0,
            ),
            "words": [_word(w, start_s) for w in words], "states": found, "events": [],
            "partner": None, "partner_track_id": None, "pair_id": None, "pair_status": None,
            # No picture of the piece is there to be copied.
            "references": [r.model_copy(update={"overlaps_clip": False}) for r in like.references],
            "scores": s.Scores.of(
                {
                    SegmentRow.speech_ratio: (total - seconds["idle"] - seconds["discard"]) / total,
                    SegmentRow.overlap_ratio: seconds["both"] / total,
                    SegmentRow.visible_ratio: float((side.what.row_T[first:last] >= 0).mean()),
                },
                state_confidence=sum((r.end_s - r.start_s) * r.confidence for r in found) / total,
            ),
        }
    )  # fmt: skip


def _word(w: WordRow, start_s: float) -> s.WordRef:
    start, end = (round(at - start_s, 3) for at in (w.start_s, w.end_s))
    return s.WordRef(word=w.word or "", start_s=start, end_s=end, probability=w.probability, speaker_id=w.speaker_id)
