"""Talking stretches of a dataset, as the training of lip-audio sync wants them.

Reads the landmarks beside the face crops and the sources' own sound; both from the files named in the dataset, which
must still be where they were. Memory is one source at a time, beside the features that are returned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotators.lips.lip_sync_training import MIN_CLIP_FRAMES, TalkerClip
from annotators.lips.sync_audio import SyncAudio
from curation.dataset import Dataset
from curation.media.audio import read_audio
from schemas import tables as t
from schemas.tables.output import DecisionRow
from schemas.time import AUDIO_HZ, GRID_HZ
from stages.face_series import tracklets_of
from stages.speech.lip_series import LipSeries, lips_of_tracks

_MIN_SEEN = 0.8
"""Share of a stretch's grid points that must have landmarks: bridged gaps teach nothing."""
_MAX_S = 30.0


@dataclass(frozen=True)
class Stretch:
    """A track's grid points [start_k, end_k) in which `person` talks."""

    name: str
    person: str
    source_id: str
    track_id: str
    start_k: int
    end_k: int
    in_sync: bool = True


def spoken_stretches(dataset: Dataset, max_hours: float) -> list[Stretch]:
    """Return the kept speaking segments of a dataset, in pieces of at most 30 s, at most `max_hours` in all.

    The person is the identity, or, where none was assigned, the source. Every source gives as evenly as it can.
    """
    kept = {
        r.unit_id
        for r in t.DECISIONS.rows(
            dataset.table(t.DECISIONS, (DecisionRow.unit, DecisionRow.unit_id, DecisionRow.outcome))
        )
        if r.unit == "segments" and r.outcome == "kept"
    }
    identity = {r.track_id: r.identity_id for r in t.TRACK_IDENTITIES.rows(dataset.table(t.TRACK_IDENTITIES))}
    queues: dict[str, list[Stretch]] = defaultdict(list)
    for row in t.SEGMENTS.rows(dataset.table(t.SEGMENTS)):
        if row.state != "speak" or row.segment_id not in kept:
            continue
        person = identity.get(row.track_id, row.source_id)
        pieces = max(1, int(np.ceil((row.end_s - row.start_s) / _MAX_S)))
        edges = np.linspace(row.start_s, row.end_s, pieces + 1) * GRID_HZ
        for a, b in zip(edges[:-1].round().astype(int), edges[1:].round().astype(int), strict=True):
            found = Stretch(row.segment_id, person, row.source_id, row.track_id, int(a), int(b))
            queues[row.source_id].append(found)
    out: list[Stretch] = []
    left = max_hours * 3600 * GRID_HZ
    while left > 0 and any(queues.values()):
        for queue in queues.values():
            if queue and left > 0:
                out.append(queue.pop(0))
                left -= out[-1].end_k - out[-1].start_k
    return out


def talker_clips(
    dataset: Dataset, stretches: Sequence[Stretch], kinds: Mapping[str, SyncAudio]
) -> dict[str, list[TalkerClip]]:
    """Return, for each kind of sound feature, the clips of the stretches whose lips were seen and sound was read."""
    paths = {r.source_id: r.path for r in t.INPUTS.rows(dataset.table(t.INPUTS))}
    track_of = tracklets_of(dataset.table(t.TRACKLETS))
    crops = dataset.files(t.FACE_CROPS)
    out: dict[str, list[TalkerClip]] = {kind: [] for kind in kinds}
    for source_id in sorted({s.source_id for s in stretches}):
        mine = [s for s in stretches if s.source_id == source_id]
        lips = _lips(dataset, [c for c in crops if Path(c).name.startswith(source_id)], track_of)
        for s in mine:
            n = s.end_k - s.start_k
            shapes = lips[s.track_id].between(s.start_k, n) if s.track_id in lips else np.zeros((0, 0), np.float32)
            if n < MIN_CLIP_FRAMES or len(shapes) < n or np.isfinite(shapes[:, 0]).mean() < _MIN_SEEN:
                continue
            sound = read_audio(Path(paths[source_id]), s.start_k / GRID_HZ, s.end_k / GRID_HZ, AUDIO_HZ)
            if sound is None:
                continue
            for kind, features in kinds.items():
                heard = features(sound)[:n].astype(np.float16)
                m = min(len(heard), n)
                out[kind].append(TalkerClip(s.name, s.person, shapes[:m], heard[:m], s.in_sync))
    return out


def _lips(dataset: Dataset, names: Iterable[str], track_of: Mapping[str, str]) -> dict[str, LipSeries]:
    found: dict[str, LipSeries] = defaultdict(LipSeries)
    for name in names:
        for track_id, ks, shapes in lips_of_tracks(dataset.store.read_table(name, t.FACE_CROPS), track_of):
            found[track_id].add(ks, shapes)
    return found
