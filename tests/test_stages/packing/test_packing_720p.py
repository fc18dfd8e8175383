"""What packing offers for training at 720p: nothing is enlarged, and sizes keep nine tenths or are refused in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hostile
import pytest
from packing_case import case, frames, members, pack, plan, segment_row

from lpm_train.data.shards import Shape
from lpm_train.data.sizes import Rule, choose, choose_bucket, fit, kept, refusal
from schemas import tables as t
from schemas.tables.plans import ClipPlanRow
from stages.clip_plan.content import encoded_size
from stages.clip_plan.crop_path import CropPath

SETTINGS = {"short_side_px": 720, "aspect": 1.78, "max_upscale": 1.0}
FRAMES, PIXELS, TOKEN = 81, 1280 * 720, (16, 16)
BUCKET = (FRAMES, 720, 1280)

LARGE = {"4K, near": ((3840, 2160), 700), "4K, far": ((3840, 2160), 300), "1080p, near": ((1920, 1080), 400),
         "1080p, far": ((1920, 1080), 150)}  # fmt: skip
SMALL = {"1080p, very far": ((1920, 1080), 90), "720p, near": ((1280, 720), 200), "720p, far": ((1280, 720), 90),
         "360p": ((640, 360), 100)}  # fmt: skip
"""Pictures, and the height of a face in their middle, in pixels."""


def planned(size: tuple[int, int], face_px: int) -> tuple[ClipPlanRow, tuple[int, int]]:
    """Plan a clip of a person in the middle; returns the plan, and the encoded width and height."""
    x, y = (size[0] - face_px) / 2, (size[1] - face_px) / 3
    parts = case(size, 4.0, [(x, y, face_px, face_px)], [segment_row(0.0, 4.0)], [(0.0, 4.0, "speak")])
    out = plan(parts, **SETTINGS)
    assert not out.errors
    (row,) = t.CLIP_PLANS.rows(out.tables[t.CLIP_PLANS])
    return row, encoded_size(CropPath.of(row.crop_path), round(row.packed_short_px))


@pytest.mark.parametrize("name", [*LARGE, *SMALL])
def test_nothing_is_enlarged_and_what_is_large_enough_becomes_720p(name: str) -> None:
    size, face_px = {**LARGE, **SMALL}[name]
    row, (width, height) = planned(size, face_px)
    assert row.upscale <= 1.0 and height <= row.crop_h + 1 and width <= row.crop_w + 1
    assert (height == 720 and width == pytest.approx(1281, abs=2)) == (name in LARGE)
    if name in SMALL:
        assert height == 2 * round(row.crop_short_px / 2) < 720, "it stays as small as it is"


def shapes(names: dict[str, tuple[tuple[int, int], int]], clips: int) -> Counter[Shape]:
    out = Counter[Shape]()
    for size, face_px in names.values():
        width, height = planned(size, face_px)[1]
        out[Shape(100, width, height, "speak")] += clips
    return out


def test_chosen_sizes_keep_nine_tenths_of_every_clip_and_enlarge_none() -> None:
    large, small = shapes(LARGE, 100), shapes(SMALL, 30)
    assert choose(large, FRAMES, PIXELS, TOKEN) == (BUCKET,)
    sizes = choose(large + small, FRAMES, PIXELS, TOKEN)
    assert sizes[0] == BUCKET and fit(large + small, sizes).misfits == 0
    for shape in large + small:
        bucket = choose_bucket(*shape[:3], sizes, Rule())
        assert bucket is not None
        share, scale = kept(shape.width, shape.height, bucket)
        assert share >= 0.9 and scale <= 1.0, (shape, bucket)
    assert all(choose_bucket(*shape[:3], sizes, Rule()) == BUCKET for shape in large)


def test_small_clips_are_refused_at_720p_with_what_to_do() -> None:
    """Where 1280 x 720 is asked for by name and somebody was packed smaller."""
    clips = shapes(LARGE, 1) + shapes(SMALL, 1)
    found = fit(clips, [BUCKET])
    assert (found.fitting, found.enlarged, found.misfits) == (4, 4, 4)
    said = refusal(found, Rule(), choose(clips, FRAMES, PIXELS, TOKEN))
    assert said.startswith("the sizes do not fit 4 of 8 clips: 4 are enlarged (up to ")
    assert "--set data.auto_sizes=4 chooses sizes" in said and "--set data.misfits=leave trains without them" in said


def test_a_clip_is_encoded_at_720p(tmp_path: Path) -> None:
    pictures = [hostile.picture(n, 1920, 1080) for n in range(10)]
    media = hostile.write(tmp_path / "a.mp4", pictures, sound=hostile.tone(0.4))
    rows = [segment_row(0.0, 0.4)]
    out = pack(media, case((1920, 1080), 0.4, [(760.0, 200.0, 400.0, 400.0)], rows, [(0.0, 0.4, "speak")]), **SETTINGS)
    assert not out.errors
    (clip,), (tar,) = out.tables[t.CLIPS].to_pylist(), out.files.values()
    assert (clip["width"], clip["height"]) == (1282, 720) and clip["crop_xywh"][3] == pytest.approx(1079, abs=1)
    assert {p.shape for p in frames(members(tar)["mp4"])[1]} == {(720, 1282, 3)}
