"""What a dataset is worth: clips that fit no size, repeats and states are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from train_data_case import dataset

from lpm_train.config import Config, override
from lpm_train.data.shards import Row
from lpm_train.presets import toy
from lpm_train.tools.cli import doctor
from lpm_train.tools.worth import judge

STRIDE = (4, 8, 8)


def clips(n: int, width: int, height: int, state: str = "speak", frames: int = 100) -> list[Row]:
    return [
        Row(f"{width}x{height}-{state}-{i}", state, width, height, frames, frames * 1920, "s", "", {}) for i in range(n)
    ]


def config(*settings: str) -> Config:
    return override(toy(), ["data.frames=48", "data.height=512", "data.width=512", *settings])


def test_a_misfit_is_counted_with_what_would_fit() -> None:
    rows = [*clips(90, 512, 512), *clips(10, 512, 512, "listen")]
    good = judge(rows, config(), STRIDE)
    assert good.proposed == () and good.fit.misfits == 0
    wide = judge(rows, config("data.height=480", "data.width=832"), STRIDE)
    assert wide.proposed == ((48, 512, 512),)
    assert (wide.fit.misfits, wide.fit.cropped, wide.fit.enlarged) == (100, 100, 100)
    assert judge(clips(1, 12, 12), config(), STRIDE).proposed == ()


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
    settings = ["data.frames=16", "data.height=32", "data.width=32", "run.steps=10"]
    assert doctor(str(dataset()), report=str(report), settings=settings, workers=1, batches=1) == 0
    said, found = capsys.readouterr().out, json.loads(report.read_text())
    assert "worth" in said and found["worth"]["windows"] == 24
    assert (found["worth"]["fit"]["fitting"], found["misfits"], found["refused"]) == (24, [], "")
