"""Whose voice is in the packed sounds, where the truth has two people speak.

Of a packed sample's speak sound, the energy in frames in which its person speaks alone is its own and the energy in
frames in which another speaks and the person does not is another's; purity is the own share. The listen sound is taken
the other way round. Frames in which both speak are left out: their energy cannot be told apart. Reads the packed tar
files; null where nothing was packed.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from points import Point
from truth_people import Truth

from curation import Dataset
from schemas import tables as t
from schemas.time import GRID_HZ


def frame_energy(wave: npt.NDArray[np.float32], rate_hz: int, start_s: float, k: int) -> float:
    """Return the energy of a sample's sound within grid frame k of its source."""
    a = round((k / GRID_HZ - start_s) * rate_hz)
    part = wave[max(0, a) : max(0, a + rate_hz // GRID_HZ)].astype(np.float64)
    return float((part**2).sum())


def sounds(dataset: Dataset, file: str) -> dict[str, tuple[npt.NDArray[np.float32], int]]:
    """Return the speak and listen sounds (samples, rate) of a packed clip."""
    out = {}
    with tarfile.open(dataset.store.local_path(file)) as tar:
        for member in tar:
            for name in ("speak", "listen"):
                if member.name.endswith(f".{name}.flac") and (f := tar.extractfile(member)) is not None:
                    out[name] = soundfile.read(io.BytesIO(f.read()), dtype="float32")
    return out


def sound_purity(dataset: Dataset, points: Sequence[Point], truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Return the purity of speak and listen sounds over all packed samples of clips in which two people speak."""
    talkative = {clip for clip, truth in truths.items() if _voices(truth) > 1}
    at: dict[str, dict[int, Point]] = {}
    for p in points:
        if p.track is not None and p.clip in talkative:
            at.setdefault(p.track, {})[p.k] = p
    segments = {r["segment_id"]: r for r in dataset.table(t.SEGMENTS).to_pylist()}
    own = {"speak": 0.0, "listen": 0.0}
    other = {"speak": 0.0, "listen": 0.0}
    samples = 0
    for clip in dataset.table(t.CLIPS).to_pylist():
        segment = segments.get(clip["segment_id"])
        if segment is None or segment["track_id"] not in at or not dataset.store.exists(clip["file"]):
            continue
        samples += 1
        mine = at[segment["track_id"]]
        for name, (wave, rate) in sounds(dataset, clip["file"]).items():
            for k in range(round(segment["start_s"] * GRID_HZ), round(segment["end_s"] * GRID_HZ)):
                q = mine.get(k)
                if q is None or not q.scored or q.both or q.true not in ("speak", "listen"):
                    continue
                energy = frame_energy(wave, rate, segment["start_s"], k)
                (own if q.true == name else other)[name] += energy
    return {name: _purity(own[name], other[name]) for name in own} | {"samples": samples}


def _purity(own: float, other: float) -> float | None:
    return own / (own + other) if own + other else None


def _voices(truth: Truth) -> int:
    return len({f.person for s in truth.spans for f in s.faces if f.state in ("speak", "both") and f.scored})
