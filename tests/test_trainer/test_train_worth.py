"""What a dataset is worth: sizes that crop or enlarge are named and others proposed, repeats and states counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from train_data_case import dataset

from lpm_train.config import Config, override
from lpm_train.presets import toy
from lpm_train.shards import Row
from lpm_train.tools.cli import doctor
from lpm_train.tools.worth import fit, judge, kept, propose

STRIDE = (4, 8, 8)


def clips(n: int, width: int, height: int, state: str = "speak", frames: int = 100) -> list[Row]:
    return [
        Row(f"{width}x{height}-{state}-{i}", state, width, height, frames, frames * 1920, "s", "", {}) for i in range(n)
    ]


def config(*settings: str) -> Config:
    return override(toy(), ["data.frames=48", "data.height=512", "data.width=512", *settings])


def test_what_a_size_keeps() -> None:
    assert kept(512, 512, (48, 512, 512)) == (1.0, 1.0)
    assert kept(1024, 512, (48, 512, 512)) == (0.5, 1.0)
    assert kept(512, 512, (48, 480, 832)) == (pytest.approx(480 / 832), pytest.approx(832 / 512))
    found = fit([*clips(3, 512, 512), *clips(1, 400, 400), *clips(1, 512, 768), *clips(1, 512, 512, frames=20)],
                [(48, 512, 512)])  # fmt: skip
    assert (found.fitting, found.enlarged, found.cropped, found.too_short) == (3, 1, 1, 1)
    assert found.largest == pytest.approx(1.28) and found.area == pytest.approx((4 + 2 / 3) / 5)


def test_sizes_are_proposed_from_what_was_packed_and_then_fit() -> None:
    """Of the clips' own aspects, whole tokens, no larger than was asked for; every clip keeps nine tenths."""
    rows = [*clips(6, 512, 512), *clips(3, 512, 910), *clips(2, 910, 512), *clips(1, 512, 900)]
    sizes = propose(rows, 48, 300 * 300, (16, 16))
    found = fit(rows, sizes)
    assert found.fitting == len(rows) and found.enlarged == found.cropped == 0 and found.area > 0.95
    assert len(sizes) == 3 and sizes[0] == (48, 288, 288)
    assert all(h % 16 == 0 == w % 16 and h * w <= 90_000 for _, h, w in sizes)
    assert propose(rows, 48, 10**7, (16, 16))[0] == (48, 512, 512)  # what is smaller than was asked for is not enlarged
    assert propose(clips(1, 30, 30), 48, 10**4, (64, 64)) == ()


def test_a_misfit_is_said_with_what_would_fit() -> None:
    rows = [*clips(90, 512, 512), *clips(10, 512, 512, "listen")]
    good = judge(rows, config(), STRIDE)
    assert good.proposed == () and not any("sizes" in said for said in good.advice)
    wide = judge(rows, config("data.height=480", "data.width=832"), STRIDE)
    assert (
        "100 of 100 clips: 100 keep less than 90% of their area, 100 are enlarged (up to 1.62 times)" in wide.advice[0]
    )
    assert "--set data.frames=48 data.height=512 data.width=512" in wide.advice[0]
    assert "pack them larger" in judge(clips(1, 12, 12), config(), STRIDE).advice[0]


def test_repeats_and_states_are_counted() -> None:
    rows = [*clips(95, 512, 512), *clips(5, 512, 512, "listen")]  # two clip lengths each
    found = judge(rows, config("run.steps=100", "data.batch=8"), STRIDE)
    assert (found.windows, found.passes, found.good_steps, found.most_steps) == (200, 4.0, 100, 400)
    assert found.shares == {"speak": 0.95, "listen": 0.05}
    assert found.advice == ["5% of what is drawn is listen: raise it with data.balance"]
    even = judge(rows, config("run.steps=100", "data.batch=8", "data.balance={speak: 1, listen: 1}"), STRIDE)
    assert even.shares["listen"] == 0.5 and "listen is repeated 40 times in 100 steps" in even.advice[0]
    alone = judge(clips(50, 512, 512), config("run.steps=10", "data.balance={speak: 1, listen: 1}"), STRIDE)
    assert alone.advice == ["no clip is in the state listen of data.balance"]
    assert "no clip shows the state listen" in judge(clips(50, 512, 512), config("run.steps=10"), STRIDE).advice
    short = judge([*rows, *clips(3, 512, 512, frames=30)], config("run.steps=10"), STRIDE)
    assert any("3 clips are shorter than every size" in said for said in short.advice)


def test_the_doctor_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "r.json"
    settings = ["data.frames=16", "data.height=64", "data.width=32", "run.steps=10"]
    assert doctor(str(dataset()), report=str(report), settings=settings, workers=1, batches=1) == 0
    said, found = capsys.readouterr().out, json.loads(report.read_text())["worth"]
    assert "ADVICE the sizes do not fit 24 of 24 clips" in said and found["fit"]["enlarged"] == 24
    assert found["windows"] == 24 and "worth" in said
