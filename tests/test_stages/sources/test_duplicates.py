"""Near duplicates: copies are found, other takes of one person in one room are not, order does not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_rows import source_row

from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas.tables import DUPLICATES, SOURCES, SPEECH
from stages.sources.duplicates import (
    Duplicates,
    DuplicatesSettings,
    Fingerprint,
    duplicate_rows,
    hash_bits,
    similar_pairs,
    speech_agreement,
)

_RNG = np.random.default_rng(7)


def _flip(bits: np.ndarray, n: int, seed: int) -> np.ndarray:
    out = bits.copy()
    out[np.random.default_rng(seed).choice(len(bits), n, replace=False)] ^= True
    return out


def _print(source: str, duration_s: float, bits: np.ndarray) -> Fingerprint:
    return Fingerprint(source, duration_s, bits)


BASE = _RNG.random(256) < 0.5


def test_hash_bits_are_read_most_significant_first() -> None:
    assert hash_bits("80ff").tolist() == [True] + [False] * 7 + [True] * 8
    assert len(hash_bits("")) == 0


def test_a_copy_is_found_and_another_take_is_not() -> None:
    prints = [
        _print("b", 60.0, BASE),
        _print("a", 60.05, _flip(BASE, 5, 1)),  # re-encoded: 2 % of the bits
        _print("c", 60.0, _flip(BASE, 30, 2)),  # another take in the same room: 12 %
        _print("d", 75.0, BASE),  # the same picture for longer is another recording
    ]
    pairs = list(similar_pairs(prints, DuplicatesSettings()))
    assert [p[:2] for p in pairs] == [("a", "b")]
    assert pairs[0][2] == pytest.approx(5 / 256)


def test_flat_pictures_are_nobodys_copies() -> None:
    flat = np.zeros(256, bool)
    assert not list(similar_pairs([_print("a", 9.0, flat), _print("b", 9.0, flat)], DuplicatesSettings()))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 14)), min_size=2, max_size=12))
def test_bands_miss_nothing(spec: list[tuple[int, int]]) -> None:
    bases = [np.random.default_rng(i).random(128) < 0.5 for i in range(4)]
    prints = [_print(f"{i:02d}", 30.0, _flip(bases[b], n, i)) for i, (b, n) in enumerate(spec)]
    settings = DuplicatesSettings()
    brute = {
        (a.source_id, b.source_id)
        for i, a in enumerate(prints)
        for b in prints[i + 1 :]
        if np.mean(a.bits != b.bits) <= settings.max_distance
    }
    assert {p[:2] for p in similar_pairs(prints, settings)} == brute
    assert {p[:2] for p in similar_pairs(prints[::-1], settings)} == brute


def test_a_chain_points_to_originals_only() -> None:
    rows = duplicate_rows("abc", [("a", "b", 0.01), ("b", "c", 0.02)])
    assert {r["source_id"]: r["near_duplicate_of"] for r in rows} == {"a": None, "b": "a", "c": None}


def test_speech_agreement_knows_when_it_cannot_tell() -> None:
    a, b = np.zeros(100, bool), np.zeros(80, bool)
    a[10:50], b[10:50] = True, True
    assert speech_agreement(a, b) == 1.0
    assert speech_agreement(a, None) is None


def _speech(source: str, spans: list[tuple[float, float]]) -> list[dict[str, object]]:
    return [{"source_id": source, "start_s": a, "end_s": b, "probability": 0.9, "annotator": "test"} for a, b in spans]


def test_same_picture_but_other_speech_is_no_copy() -> None:
    text = np.packbits(BASE).tobytes().hex()
    sources = [source_row(s, duration_s=60.0, perceptual_hash=text) for s in ("a" * 16, "b" * 16, "c" * 16)]
    speech = [
        *_speech("a" * 16, [(1.0, 5.0), (8.0, 20.0)]),
        *_speech("b" * 16, [(1.1, 5.1), (8.0, 20.1)]),
        *_speech("c" * 16, [(4.5, 8.0), (19.0, 40.0)]),
    ]
    inputs = MemoryInputs(Path("none"), {SOURCES: [SOURCES.from_rows(sources)], SPEECH: [SPEECH.from_rows(speech)]})
    outputs = Duplicates(DuplicatesSettings()).run(WorkItem(), inputs)
    found = outputs.tables[DUPLICATES].to_pylist()
    assert [r["near_duplicate_of"] for r in found] == [None, "a" * 16, None]
    assert found[1]["distance"] == 0.0


def test_without_speech_only_a_nearly_equal_hash_counts() -> None:
    near, far = (np.packbits(_flip(BASE, n, n)).tobytes().hex() for n in (2, 8))
    texts = [np.packbits(BASE).tobytes().hex(), near, far]
    sources = [source_row(s * 16, perceptual_hash=h) for s, h in zip("abc", texts, strict=True)]
    inputs = MemoryInputs(Path("none"), {SOURCES: [SOURCES.from_rows(sources)]})
    found = Duplicates(DuplicatesSettings()).run(WorkItem(), inputs).tables[DUPLICATES].to_pylist()
    assert [r["near_duplicate_of"] for r in found] == [None, "a" * 16, None]
