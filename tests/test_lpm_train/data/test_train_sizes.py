"""Sizes are chosen from what was packed: nothing is enlarged, nine tenths are kept, and what does not fit is named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_data_case import copy, dataset, encoders

from lpm_train.config import Config, ConfigError, Data, override
from lpm_train.data.loader import Loader
from lpm_train.data.precomputed import read_sizes
from lpm_train.data.shards import Shape, Shards, of_shapes, shapes_of
from lpm_train.data.sizes import Rule, choose, choose_bucket, chosen_for, fit, kept, refusal, said
from lpm_train.fitting import misfits, sized
from lpm_train.presets import PRESETS, toy
from lpm_train.resolve import resolve
from lpm_train.storage import DataError
from lpm_train.tools.cli import doctor
from lpm_train.tools.precompute import precompute

PLAIN = ["data.codec=patch", "data.codec.stride=[4, 8, 8]", "data.text=hashed-words", "data.frames=16"]


def counts(*rows: tuple[int, int, int], frames: int = 100) -> Counter[Shape]:
    return Counter({Shape(frames, width, height, "speak"): n for width, height, n in rows})


def test_what_a_size_keeps() -> None:
    assert kept(512, 512, (48, 512, 512)) == (1.0, 1.0)
    assert kept(1024, 512, (48, 512, 512)) == (0.5, 1.0)
    assert kept(512, 512, (48, 480, 832)) == (pytest.approx(480 / 832), pytest.approx(832 / 512))
    found = fit(
        counts((512, 512, 3), (400, 400, 1), (512, 768, 1)) + counts((512, 512, 1), frames=20), [(48, 512, 512)]
    )
    assert (found.fitting, found.enlarged, found.cropped, found.too_short, found.misfits) == (3, 1, 1, 1, 2)
    assert found.largest == pytest.approx(1.28) and found.area == pytest.approx((4 + 2 / 3) / 5)
    assert fit(counts((400, 400, 1)), [(48, 512, 512)], Rule(upscale=True)).misfits == 0
    assert fit(counts((1024, 512, 1)), [(48, 512, 512)], Rule(min_kept=0.5)).misfits == 0


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.builds(Shape, st.sampled_from([20, 60, 200]), st.integers(8, 700), st.integers(8, 700), st.just("speak")),
        st.integers(1, 1000), max_size=30,
    ),
    st.integers(400, 400_000), st.sampled_from([8, 16, 32]), st.integers(1, 5),
)  # fmt: skip
def test_chosen_sizes_enlarge_no_clip_and_keep_nine_tenths(
    shapes: dict[Shape, int], pixels: int, unit: int, most: int
) -> None:
    """Whatever was packed; every clip is cut to a size that fits it, is too short, or is counted as a misfit."""
    clips, rule = Counter(shapes), Rule()
    sizes = choose(clips, 60, pixels, (unit, unit), most)
    assert len(sizes) <= most and all(h % unit == 0 == w % unit and 0 < h * w <= pixels for _, h, w in sizes)
    assert sizes == choose(Counter(dict(reversed(shapes.items()))), 60, pixels, (unit, unit), most)
    tally: Counter[str] = Counter()
    for s, n in clips.items():
        size = choose_bucket(s.n_frames, s.width, s.height, sizes, rule)
        if size is not None:
            share, scale = kept(s.width, s.height, size)
            assert share >= 0.9 and scale <= 1 and s.n_frames >= size[0]
        tally["cut" if size else "short" if s.n_frames < 60 else "misfit"] += n
    found = fit(clips, sizes, rule)
    if sizes:
        assert (found.fitting, found.too_short, found.misfits) == (tally["cut"], tally["short"], tally["misfit"])
        assert (
            all(choose_bucket(s.n_frames, s.width, s.height, sizes, rule) for s in clips)
            or found.misfits
            or (found.too_short)
        )
    else:  # no clip is long enough, or none holds a unit that keeps its aspect
        assert not tally["cut"]


def test_sizes_show_most_of_what_was_packed() -> None:
    rows = counts((512, 512, 6), (512, 910, 3), (910, 512, 2), (512, 900, 1))
    sizes = choose(rows, 48, 300 * 300, (16, 16))
    assert sizes == ((48, 288, 288), (48, 400, 224), (48, 224, 400))
    assert fit(rows, sizes).misfits == 0
    assert said(sizes, rows, Rule()) == "48x288x288 (6 clips), 48x400x224 (4 clips), 48x224x400 (2 clips)"
    assert choose(rows, 48, 10**7, (16, 16))[0] == (48, 512, 512)  # what is smaller than was asked for is not enlarged
    few_small = counts((512, 512, 99), (100, 100, 1))
    assert choose(few_small, 48, 10**7, (16, 16)) == ((48, 512, 512), (48, 96, 96))  # not 96x96 for all
    assert choose(few_small, 48, 10**7, (16, 16), most=1) == ((48, 512, 512),)
    assert choose(counts((1280, 720, 1)), 81, 720 * 1280, (16, 16)) == ((81, 720, 1280),)
    assert choose(counts((30, 30, 1)), 48, 10**4, (64, 64)) == () == choose(rows, 200, 10**6, (16, 16))


def test_a_clip_goes_to_the_size_that_shows_most_of_it() -> None:
    sizes = [(48, 288, 512), (48, 96, 160), (96, 96, 160)]
    assert choose_bucket(60, 910, 512, sizes, Rule()) == (48, 288, 512)
    assert choose_bucket(200, 910, 512, sizes, Rule()) == (96, 96, 160)  # the longest first
    assert choose_bucket(60, 300, 180, sizes, Rule()) == (48, 96, 160)
    assert choose_bucket(60, 300, 300, sizes, Rule()) is None and choose_bucket(60, 300, 300, sizes) is not None


def test_a_refusal_says_what_to_do() -> None:
    clips, wide = counts((512, 512, 99), (910, 512, 1)), [(48, 480, 832)]
    text = refusal(fit(clips, wide), Rule(), [(48, 512, 512)])
    assert text == (
        "the sizes do not fit 99 of 100 clips: 99 keep less than 90% of their area, 99 are enlarged (up to 1.62 "
        "times); --set data.auto_sizes=4 chooses sizes from the clips' own (here 48x512x512), --set data.misfits=leave "
        "trains without them, --set data.min_kept=0.57 --set data.upscale=true takes them so"
    )
    assert fit(clips, wide, Rule(0.57, True)).misfits == 0
    assert "pack them larger" in refusal(fit(counts((12, 12, 1)), wide), Rule(), [])


def test_settings_that_make_no_sense() -> None:
    for change in ("data.auto_sizes=-1", "data.pixels=-1", "data.min_kept=1.5"):
        with pytest.raises(ConfigError, match=change.partition("=")[0]):
            override(toy(), [change])
    assert all(PRESETS[n]().data.auto_sizes == (0 if n == "toy" else 4) for n in PRESETS)


def of_sizes(root: Path, sides: list[int]) -> None:
    """Let a manifest say that its first clips are of other widths; nothing is decoded by what is tested with it."""
    table = pq.read_table(root / "manifest.parquet")
    place = table.schema.get_field_index("width")
    widths = sides + table["width"].to_pylist()[len(sides) :]
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pc.cast(widths, field.type)), root / "manifest.parquet")


def made(root: Path, *changes: str) -> Config:
    return resolve("toy", str(root), None, [*PLAIN, *changes])


def test_shapes_are_counted_without_the_rest_of_a_manifest(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    of_sizes(root, [64, 64, 1000])
    assert shapes_of(root) == Shards(root).shapes() and shapes_of(root).total() == 24
    assert shapes_of(root, "width = 64").total() == 2
    assert len(list(of_shapes(root, None, lambda n, width, height: width == 1000))) == 1


def test_chosen_sizes_are_those_of_precomputing_training_and_later_stages(tmp_path: Path) -> None:
    root, told = copy(tmp_path / "d"), list[str]()
    of_sizes(root, [1000])  # no unit keeps nine tenths of 1000 x 32
    made_here = encoders()
    config = made(root, "data.auto_sizes=3")
    first = sized(config, made_here, told.append).data
    assert (first.frames, first.height, first.width, first.auto_sizes) == (16, 32, 32, 0)
    assert first.misfits == "leave" and first.pixels == 64 * 64
    (left,) = misfits(first)
    assert told == [
        "sizes, frames x height x width: 16x32x32 (23 clips)",
        f"1 of 24 clips fit no size and are left out (--set data.auto_sizes=N chooses up to N sizes): {left}",
    ]
    assert sized(override(config, ["data.auto_sizes=3"]), made_here).data == first
    later = override(sized(config, made_here), ["run.stage=causal"])
    assert sized(later, made_here).data == first  # a later stage, by the settings of the one before
    assert sized(override(later, ["data.auto_sizes=3"]), made_here).data == first  # and where it is asked again
    with Loader(first, made_here) as loader:
        assert loader.summary["misfits"] == 1 and left not in loader.order.samples and len(loader.order.samples) == 23
    precompute(root, "a", made_here, [(16, 16, 16)], dtype="float32")
    of_set = sized(override(config, ["data.precomputed=a"]), made_here).data
    assert of_set.sizes == ((16, 16, 16),)
    for changes in (["data.frames=8"], ["data.pixels=64"]):
        with pytest.raises(ConfigError, match=r"precomputed/a holds clips of 16x16x16; .*name another set"):
            sized(override(config, ["data.precomputed=a", "data.auto_sizes=3", *changes]), made_here)


def test_an_attempt_that_encoded_nothing_decides_no_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy(tmp_path / "d")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("lpm_train.tools.precompute._encode_sample", stopped)
        precompute(root, "a", encoders(), [(16, 16, 16)], dtype="float32")
    assert read_sizes(str(root), "a") == ()
    precompute(root, "a", encoders(), [(16, 32, 32)], dtype="float32")
    assert read_sizes(str(root), "a") == ((16, 32, 32),)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["data.height=64"], "24 of 24 clips: 24 keep less than 90% of their area, 24 are enlarged"),
        (["data.height=16", "data.width=32"], "24 keep less than 90% of their area; --set data.auto_sizes=4 chooses"),
        (["data.auto_sizes=2", "data.frames=200"], "set fewer data.frames"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: list[str], told: str) -> None:
    config = made(dataset(), "data.height=32", "data.width=32", *changes)
    with pytest.raises(ConfigError, match=told):
        sized(config, encoders())
    with pytest.raises(DataError):
        Loader(config.data, encoders())
    if "auto" not in changes[0]:
        wanted = override(config, ["data.min_kept=0.5", "data.upscale=true"])
        assert sized(wanted, encoders()).data == wanted.data


def test_the_commands_refuse_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lpm_train.cli import run
    from lpm_train.tools.cli import precompute as precompute_command

    root, bad = str(dataset()), [*PLAIN, "data.height=64", "data.width=32", "run.steps=1"]
    options: dict[str, Any] = {"preset": "toy", "settings": bad}
    for command in (
        lambda: run(root, tmp_path / "run", **options),
        lambda: precompute_command(root, "refused", **options),
        lambda: doctor(root, report=str(tmp_path / "r.json"), workers=1, batches=1, **options),
    ):
        with pytest.raises(ConfigError, match="do not fit 24 of 24 clips"):
            command()
    found = json.loads((tmp_path / "r.json").read_text())  # what else the doctor saw is there
    assert "do not fit" in found["refused"] and len(found["misfits"]) == 24 and found["healthy"]
    assert not (tmp_path / "run").exists() and not (dataset() / "precomputed" / "refused").exists()


def test_what_was_chosen_is_written_down() -> None:
    data = chosen_for(Data(height=480, width=832, auto_sizes=4), [(81, 512, 512), (81, 480, 832)])
    assert data.sizes == ((81, 512, 512), (81, 480, 832)) and data.most_pixels == 480 * 832
