"""A diarized voice that is two people's is divided where lips show it, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_rows import row

from schemas import tables as t
from schemas.tables.attribution import VoiceTurnRow
from schemas.tables.speech import TurnRow
from schemas.time import GRID_HZ, Interval, union_s
from stages.attribution.split import SplitRule, owners, split_voices
from stages.attribution.sync import N_LAGS, SyncFrames

SOURCE, ZERO = "s", N_LAGS // 2
NOISE = np.random.default_rng(5).normal(0, 0.3, (4, 4000, N_LAGS))


def face(nats: dict[int, float], n: int, which: int, lag: int = ZERO) -> SyncFrames:
    """Return sync of n frames: `nats` a frame from each grid point on, at one lag; -0.3 at others; noise on all."""
    odds = NOISE[which, :n] - 0.3
    for start, value in sorted(nats.items()):
        odds[start:, lag] = value + NOISE[which, start:n, lag]
    return SyncFrames(np.arange(n), odds)


def turn(start_s: float, end_s: float, voice: str = "v0") -> TurnRow:
    return row(t.TURNS, source_id=SOURCE, speaker_id=voice, start_s=start_s, end_s=end_s, annotator="toy")


def split(
    turns: list[TurnRow],
    sync: dict[str, SyncFrames],
    scores: dict[str, dict[int, float]] | None = None,
    shots: dict[str, tuple[float, float]] | None = None,
    **rule: float,
) -> list[VoiceTurnRow]:
    n = max(len(s.ks) for s in sync.values())
    spans = shots or {name: (0.0, n / GRID_HZ) for name in sync}
    tracks = [row(t.TRACKS, track_id=x, shot_id="s0", start_s=a, end_s=b) for x, (a, b) in spans.items()]
    moving = {x: dict.fromkeys(range(round(a * GRID_HZ), round(b * GRID_HZ)), 2.0) for x, (a, b) in spans.items()}
    heard: dict[str, set[int]] = {}
    for one in turns:
        ks = range(round(one.start_s * GRID_HZ), round(one.end_s * GRID_HZ))
        heard.setdefault(one.speaker_id, set()).update(ks)
    return split_voices(turns, heard, tracks, scores or moving, sync, ZERO, SplitRule(**rule))


def test_two_people_taken_for_one_voice_are_told_apart() -> None:
    sync = {"a": face({0: 0.3, 90: -0.4}, 175, 0), "b": face({0: -0.4, 90: 0.3}, 175, 1)}
    rows = split([turn(0.0, 7.0)], sync)
    assert [r.speaker_id for r in rows] == ["v0.1", "v0.2"] and {r.diarized_as for r in rows} == {"v0"}
    assert rows[0].end_s == rows[1].start_s == pytest.approx(3.6, abs=0.2)
    assert all("lip-sync" in r.annotator for r in rows)


def test_each_face_may_have_a_lag_of_its_own() -> None:
    sync = {"a": face({0: 0.4, 90: -0.4}, 175, 0), "b": face({0: -0.5, 90: 0.4}, 175, 1, lag=ZERO + 3)}
    assert len(split([turn(0.0, 7.0)], sync)) == 2


def test_still_lips_under_a_voice_are_not_its_owner() -> None:
    sync = {"a": face({0: 0.1, 75: -0.2}, 150, 0), "b": face({0: 0.0, 75: 0.2}, 150, 1)}
    scores = {"a": dict.fromkeys(range(150), 2.0), "b": {k: -1.5 if k < 75 else 2.0 for k in range(150)}}
    rows = split([turn(0.0, 6.0)], sync, scores)
    assert [r.speaker_id for r in rows] == ["v0.1", "v0.2"]
    assert rows[0].end_s == pytest.approx(3.0, abs=0.3)


@pytest.mark.parametrize("other", [-0.4, 0.0, 0.2])
def test_one_owner_stays_one_however_the_other_moves(other: float) -> None:
    sync = {"a": face({0: 0.3}, 250, 0), "b": face({0: other}, 250, 1)}
    rows = split([turn(0.0, 4.0), turn(4.5, 10.0)], sync)
    assert [(r.speaker_id, r.start_s, r.end_s) for r in rows] == [("v0", 0.0, 4.0), ("v0", 4.5, 10.0)]


def test_nothing_is_divided_without_a_second_moving_face() -> None:
    sync = {"a": face({0: 0.3, 90: -0.9}, 175, 0), "b": face({0: -0.4, 90: 0.3}, 175, 1)}
    still = {"a": dict.fromkeys(range(175), 2.0), "b": dict.fromkeys(range(175), -2.0)}
    assert [r.speaker_id for r in split([turn(0.0, 7.0)], sync, still)] == ["v0"]
    assert owners([1, 2, 3], [], ZERO, SplitRule()) is None


def test_dividing_can_be_turned_off() -> None:
    sync = {"a": face({0: 0.3, 90: -0.4}, 175, 0), "b": face({0: -0.4, 90: 0.3}, 175, 1)}
    assert len(split([turn(0.0, 7.0)], sync, min_gain=float("inf"))) == 1


def test_outside_the_faces_time_a_turn_keeps_its_voice() -> None:
    sync = {"a": face({0: 0.3, 150: -0.4}, 250, 0), "b": face({0: -0.4, 150: 0.3}, 250, 1)}
    rows = split([turn(0.0, 10.0)], sync, shots={"a": (2.0, 9.0), "b": (2.0, 9.0)})
    assert [r.speaker_id for r in rows] == ["v0", "v0.1", "v0.2", "v0"]
    assert [r.start_s for r in rows][1] == 2.0 and rows[-1].start_s == 9.0


@given(st.lists(st.integers(5, 60), min_size=1, max_size=6), st.integers(0, 300), st.floats(-0.6, 0.6))
def test_time_is_neither_lost_nor_counted_twice(lengths: list[int], change: int, level: float) -> None:
    turns, at = [], 0
    for i, n in enumerate(lengths):
        turns.append(turn(at / GRID_HZ, (at + n) / GRID_HZ, f"v{i % 2}"))
        at += n + 3
    sync = {"a": face({0: level, change: -level}, at, 0), "b": face({0: -level, change: level}, at, 1)}
    rows = split(turns, sync)
    for whole in turns:
        inside = Interval(whole.start_s, whole.end_s)
        parts = [r for r in rows if inside.overlap_s(Interval(r.start_s, r.end_s)) > 1e-9]
        assert {r.diarized_as for r in parts} == {whole.speaker_id}
        assert union_s(Interval(r.start_s, r.end_s) for r in parts) == pytest.approx(inside.duration_s)
        assert sum(r.end_s - r.start_s for r in parts) == pytest.approx(inside.duration_s)


def test_an_hour_of_one_shot_takes_no_more_than_its_own_length() -> None:
    n = 90_000
    ks = np.arange(n)
    small = np.zeros((n, N_LAGS)) - 0.2
    small[: n // 2, ZERO] = 0.3
    other = np.zeros((n, N_LAGS)) - 0.2
    other[n // 2 :, ZERO] = 0.3
    sync = {"a": SyncFrames(ks, small), "b": SyncFrames(ks, other)}
    turns = [turn(a, a + 8.0) for a in range(0, n // GRID_HZ, 10)]
    rows = split(turns, sync)
    assert {r.speaker_id for r in rows} == {"v0.1", "v0.2"} and len(rows) in (len(turns), len(turns) + 1)
