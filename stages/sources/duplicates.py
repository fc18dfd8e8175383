"""Near duplicates among sources: the same recording under other bytes (re-encoded, resized, other container).

Three measurements must agree: the perceptual hashes are close, the durations are close, and where both copies carry
speech, it is heard at the same times. The hash alone cannot tell two takes of one person in one chair apart; when
people pause can. Candidates come from equal bands of the hash (pigeonhole, nothing is missed), so the cost grows with
the number of similar sources, not with the square of all. A million sources take some minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.table import Table
from schemas.tables import DUPLICATES, SOURCES, SPEECH
from schemas.tables.people import DuplicateRow
from schemas.tables.registry import SourceRow
from schemas.tables.speech import SpeechRow
from schemas.time import GRID_HZ

SpeechMask = npt.NDArray[np.bool_]


class DuplicatesSettings(StageSettings):
    """When two sources are one recording."""

    max_distance: float = Field(
        0.04,
        ge=0,
        le=0.5,
        description="largest share of differing hash bits; measured: 0-0.039 between copies (other codec, size, rate), "
        "0.004-0.2 between takes of one person in one place",
    )
    max_distance_unheard: float = Field(
        0.01, ge=0, le=0.5, description="the same where speech cannot be compared, because one of the two has none"
    )
    max_duration_gap_s: float = Field(0.1, ge=0, description="largest difference in duration, absolute part (s)")
    max_duration_gap_ratio: float = Field(0.0005, ge=0, description="the same, as a share of the longer duration")
    min_speech_agreement: float = Field(
        0.75, ge=0, le=1, description="least intersection over union of the stretches with speech, where both have any"
    )
    min_hash_contrast: float = Field(
        0.1, ge=0, le=0.5, description="hashes whose rarer bit is rarer than this are flat pictures and tell nothing"
    )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What one source is compared by."""

    source_id: str
    duration_s: float
    bits: npt.NDArray[np.bool_]


class Duplicates:
    """Stage: which sources are copies of which."""

    name: ClassVar[str] = "duplicates"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "dataset"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, SPEECH)
    writes: ClassVar[tuple[Table, ...]] = (DUPLICATES,)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "together"
    Settings: ClassVar[type[StageSettings]] = DuplicatesSettings

    def __init__(self, settings: DuplicatesSettings) -> None:
        self._settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Compare all live sources."""
        table = inputs.read(SOURCES)
        sources, durations = SourceRow.source_id.values(table), SourceRow.duration_s.values(table)
        hashes = (hash_bits(text) for text in SourceRow.perceptual_hash.values(table))
        prints = [Fingerprint(*facts) for facts in zip(sources, durations, hashes, strict=True)]
        pairs = list(similar_pairs(prints, self._settings))
        wanted = {source for pair in pairs for source in pair[:2]}
        speech = _speech_masks(inputs.parts(SPEECH), wanted) if wanted else {}
        pairs = [p for p in pairs if self._agrees(p[2], speech_agreement(speech.get(p[0]), speech.get(p[1])))]
        return Outputs({DUPLICATES: DUPLICATES.from_rows(duplicate_rows(sources, pairs))})

    def _agrees(self, distance: float, agreement: float | None) -> bool:
        if agreement is None:
            return distance <= self._settings.max_distance_unheard
        return agreement >= self._settings.min_speech_agreement


def hash_bits(text: str) -> npt.NDArray[np.bool_]:
    """Return the bits of a hexadecimal hash; no bits for an empty one."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(bool)


def _hash_distance(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Return the share of differing bits of two hashes of equal, non-zero length."""
    return float(np.count_nonzero(a != b) / len(a))


def similar_pairs(prints: Iterable[Fingerprint], settings: DuplicatesSettings) -> Iterator[tuple[str, str, float]]:
    """Yield (smaller id, larger id, distance) of all pairs whose hashes and durations are close; each pair once.

    Hashes of different lengths are never similar. Two hashes within d differing bits agree in at least one of d + 1
    bands (pigeonhole principle), so only sources that share a band are compared.
    """
    by_band: dict[tuple[int, int, bytes], list[Fingerprint]] = defaultdict(list)
    for p in sorted(prints, key=lambda p: (p.duration_s, p.source_id)):
        n = len(p.bits)
        rarer = min(np.count_nonzero(p.bits), n - np.count_nonzero(p.bits))
        if n == 0 or rarer < settings.min_hash_contrast * n:
            continue
        n_bands = min(n, int(settings.max_distance * n) + 1)
        for band, bits in enumerate(np.array_split(p.bits, n_bands)):
            by_band[n, band, np.packbits(bits).tobytes()].append(p)
    seen: set[tuple[str, str]] = set()
    for bucket in by_band.values():
        for i, a in enumerate(bucket):
            for b in bucket[i + 1 :]:  # in order of duration: stop at the first that is too long
                if b.duration_s - a.duration_s > _allowed_gap_s(b.duration_s, settings):
                    break
                pair = (min(a.source_id, b.source_id), max(a.source_id, b.source_id))
                if pair in seen:
                    continue
                seen.add(pair)
                distance = _hash_distance(a.bits, b.bits)
                if distance <= settings.max_distance:
                    yield *pair, distance


def _speech_masks(parts: Iterable[pa.Table], sources: set[str]) -> dict[str, SpeechMask]:
    """Return, for each wanted source with speech, which 40 ms steps hold speech (up to its last speech)."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for part in parts:
        columns = (SpeechRow.source_id.values(part), SpeechRow.start_s.values(part), SpeechRow.end_s.values(part))
        for source, start_s, end_s in zip(*columns, strict=True):
            if source in sources:
                spans[source].append((start_s, end_s))
    masks = {}
    for source, stretches in spans.items():
        mask = np.zeros(round(max(end for _, end in stretches) * GRID_HZ) + 1, bool)
        for start_s, end_s in stretches:
            mask[round(start_s * GRID_HZ) : round(end_s * GRID_HZ)] = True
        if mask.any():
            masks[source] = mask
    return masks


def speech_agreement(a: SpeechMask | None, b: SpeechMask | None) -> float | None:
    """Return intersection over union of two speech masks, 0-1; None when one has no speech to compare."""
    if a is None or b is None:
        return None
    n = max(len(a), len(b))
    a, b = np.pad(a, (0, n - len(a))), np.pad(b, (0, n - len(b)))
    return float(np.count_nonzero(a & b) / np.count_nonzero(a | b))


def duplicate_rows(sources: Iterable[str], pairs: Iterable[tuple[str, str, float]]) -> list[DuplicateRow]:
    """Return a DUPLICATES row for every source: the smallest source that is no copy itself and lies close enough.

    A chain a ~ b ~ c does not make c a copy of a: each copy is close to the source it points to.
    """
    nearer: dict[str, dict[str, float]] = defaultdict(dict)
    for small, large, distance in pairs:
        nearer[large][small] = distance
    copies: dict[str, tuple[str, float]] = {}
    for source in sorted(sources):
        originals = [(s, d) for s, d in nearer[source].items() if s not in copies]
        if originals:
            copies[source] = min(originals)
    return [
        DuplicateRow(
            source_id=source,
            near_duplicate_of=copies[source][0] if source in copies else None,
            distance=copies[source][1] if source in copies else None,
        )
        for source in sorted(sources)
    ]


def _allowed_gap_s(longer_s: float, settings: DuplicatesSettings) -> float:
    return max(settings.max_duration_gap_s, settings.max_duration_gap_ratio * longer_s)
