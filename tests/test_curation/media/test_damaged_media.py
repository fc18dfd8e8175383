"""Damaged recordings: every picture that differs from the undamaged one lies in a stretch that is called damaged."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import av
import hostile
import numpy as np
import pytest
from damaged import with_a_hole
from hypothesis import given
from hypothesis import strategies as st

from curation.media.picture.damage import SPREAD_S, Damage
from curation.media.video import DecodeReport, iter_frames

SECONDS = 6.0
KEYS = 25
"""Frames from key frame to key frame: a second."""


def pictures() -> list[np.ndarray]:
    """Draw numbered pictures with grain, so that a packet is some kilobytes."""
    grain = np.random.default_rng(0).integers(-20, 20, (hostile.HEIGHT, hostile.WIDTH, 1))
    shifted = (np.roll(grain, 3 * n, axis=1) for n in range(round(25 * SECONDS)))
    return [np.clip(hostile.picture(n) + g, 0, 255).astype(np.uint8) for n, g in enumerate(shifted)]


def written(path: Path, codec: str = "libx264", **more: str) -> Path:
    options = {"g": str(KEYS), "keyint_min": str(KEYS), "sc_threshold": "0", **more}
    if codec == "libx265":
        return hostile.write(path, pictures(), codec=codec)
    return hostile.write(path, pictures(), codec=codec, codec_options=options)


def shown(path: Path, *window: float) -> tuple[dict[float, np.ndarray], list[tuple[float, float]]]:
    report = DecodeReport()
    return {round(f.pts_s, 3): f.rgb() for f in iter_frames(path, *window, report=report)}, report.damaged


def inside(t_s: float, stretches: list[tuple[float, float]]) -> bool:
    return any(a - 1e-3 <= t_s < b - 1e-3 for a, b in stretches)


def with_packets_lost(path: Path, out: Path, seed: int) -> Path:
    """Copy a transport stream without five packets in a row, far from its ends."""
    data, size = path.read_bytes(), 188
    n = len(data) // size
    first = random.Random(seed).randrange(n // 3, 2 * n // 3)
    out.write_bytes(data[: first * size] + data[(first + 5) * size :])
    return out


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libx265"])
def test_what_a_hole_spoils_is_found_and_ends_at_the_next_key_frame(tmp_path: Path, codec: str) -> None:
    whole = written(tmp_path / "whole.mp4", codec)
    right, nothing = shown(whole)
    assert nothing == [] and len(right) == round(25 * SECONDS)
    spoilt, stretches = shown(with_a_hole(whole, tmp_path / "spoilt.mp4", 2 * KEYS + 5))
    wrong = {t for t, p in right.items() if t not in spoilt or not np.array_equal(p, spoilt[t])}
    assert wrong and all(inside(t, stretches) for t in wrong if t <= max(spoilt))
    if codec != "libx265":  # x265 sets its own key frames
        called = {t for t in right if inside(t, stretches)}
        assert min(called) >= 1.9 and max(called) < 3.0
    for start_s, end_s in ((0.0, 2.5), (2.5, 4.0), (2.96, 3.04)):  # windows know as much as the whole
        _, mine = shown(tmp_path / "spoilt.mp4", start_s, end_s)
        ours = {t for t in right if start_s <= t < end_s and t in spoilt}
        assert {t for t in ours if inside(t, mine)} == {t for t in ours if inside(t, stretches)}


@pytest.mark.parametrize("seed", range(5))
def test_packets_that_a_transport_stream_lost_are_found(tmp_path: Path, seed: int) -> None:
    whole = written(tmp_path / "whole.ts")
    right, nothing = shown(whole)
    spoilt, stretches = shown(with_packets_lost(whole, tmp_path / "spoilt.ts", seed))
    assert nothing == [] and stretches
    assert all(inside(t, stretches) or np.array_equal(p, right[t]) for t, p in spoilt.items())
    assert all(inside(t, stretches) for t in right if t not in spoilt)


def test_no_harm_is_found_where_none_is(tmp_path: Path) -> None:
    for make in (hostile.make_plain, hostile.make_vfr, hostile.make_hevc, hostile.make_full_range):
        path = make(tmp_path / f"{make.__name__}.mp4")
        assert shown(path)[1] == [] and shown(path, 0.3, 0.7)[1] == []
    shutil.copy(written(tmp_path / "b.mp4"), tmp_path / "c.mp4")
    assert shown(tmp_path / "c.mp4", 3.3, 4.4)[1] == []


def without(path: Path, out: Path, frames: range) -> Path:
    """Copy a recording without the packets of some frames, by order of decoding."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for n, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None and n not in frames:
                packet.stream = stream
                target.mux(packet)
    return out


def test_a_jump_is_damage_where_frames_came_evenly_and_none_where_they_never_did(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.mkv", bf="0")  # a copy has the same times then
    right, _ = shown(whole)
    spoilt, stretches = shown(without(whole, tmp_path / "spoilt.mkv", range(2 * KEYS + 5, 3 * KEYS - 5)))
    assert all(inside(t, stretches) or np.array_equal(p, right[t]) for t, p in spoilt.items())
    assert all(inside(t, stretches) for t in right if t not in spoilt)
    assert max(t for t in right if inside(t, stretches)) < 3.0
    uneven = np.cumsum(np.random.default_rng(1).choice([0.02, 0.04, 0.07, 0.5], 100))
    path = hostile.write(tmp_path / "call.mkv", [hostile.picture(n) for n in range(100)], [float(t) for t in uneven])
    assert shown(path)[1] == []


kinds = st.sampled_from(["key", "corrupt", "between", "plain", "refused"])


@given(st.dictionaries(st.integers(0, 200), kinds, max_size=60))
def test_a_damage_lasts_until_a_whole_key_frame_or_for_so_long(events: dict[int, str]) -> None:
    damage = Damage()
    damage.begin("h264")
    begun, keys, anchors = [], [], []
    for t, kind in sorted(events.items()):
        if kind == "refused":
            damage.refused(t / 10)
        else:
            damage.frame(t / 10, kind == "key", kind == "corrupt", kind == "between")
        (begun if kind in ("refused", "corrupt") else keys if kind == "key" else []).append(t)
        if kind in ("key", "corrupt", "plain"):
            anchors.append(t)
    for t in range(210):
        expected = any(
            max([a for a in anchors if a < b], default=b) <= t < min([k for k in keys if k > b] + [b + 10 * SPREAD_S])
            for b in begun
        )
        assert inside(t / 10 + 1e-3, damage.stretches()) == expected
