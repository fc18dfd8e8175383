"""Splits are judged: worth and sizes are those of train, and what validation cannot tell is said with what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from train_data_case import copy, encoders

from lpm_train.config import override
from lpm_train.data.shards import of_split, trained_on
from lpm_train.fitting import sized
from lpm_train.presets import toy
from lpm_train.tools.cli import doctor
from lpm_train.tools.export import about_data
from lpm_train.tools.held_out import HeldOut, leaks, look, without

SIZES = ["data.frames=16", "data.height=32", "data.width=32", "data.batch=2", "run.steps=10"]
ENOUGH = ["speak", "speak", "listen", "idle"] * 6
"""States of 24 clips, of six people with four clips each."""


def told(root: Path, **columns: Sequence[object]) -> Path:
    """Let a manifest say something else of its clips, in the order of their ids; no clip changes."""
    table = pq.read_table(root / "manifest.parquet").sort_by("segment_id")
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    pq.write_table(table, root / "manifest.parquet")
    return root


def splits(**last: int) -> list[str]:
    """Put the last clips, people by people, into splits; the rest is train."""
    held = [name for name, n in last.items() for _ in range(n)]
    return ["train"] * (24 - len(held)) + held


def looked(root: Path, *settings: str, batch: int = 2) -> HeldOut:
    return look(override(toy(), [*SIZES, f"data.root={root}", *settings]).data, batch)


def test_good_splits_have_nothing_against_them(tmp_path: Path) -> None:
    root = told(copy(tmp_path / "d"), split=splits(val=12), state=ENOUGH)
    found = looked(root)
    assert (found.leaks, found.advice, found.clean) == ((), (), True)
    assert {n: (s.clips, s.people, s.sources) for n, s in found.splits.items()} == {
        "train": (12, 3, 3), "val": (12, 3, 3),
    }  # fmt: skip
    assert "split val: 12 clips (idle 3, listen 3, speak 6), 3 people, 3 sources" in list(found.lines())


def test_a_model_card_tells_of_the_clips_that_were_trained_on(tmp_path: Path) -> None:
    licences = ["CC0-1.0", None] * 6 + ["of others"] * 12
    root = told(copy(tmp_path / "d"), split=splits(val=12), state=ENOUGH, license=licences, duration_s=[36.0] * 24)
    config = override(toy(), [*SIZES, f"data.root={root}", "data.where=state = 'speak'"])
    assert about_data(config) == (
        "Packed dataset `d` where state = 'speak': 6 clips of the split train, 0.06 h in all; licences of the sources: "
        "CC0-1.0, unknown."
    )
    assert "its manifest is not here" in about_data(override(config, [f"data.root={tmp_path}"]))


@pytest.mark.parametrize(
    ("columns", "settings", "parts"),
    [
        ({"split": splits()}, [], ["no clip is of the split val: held-out figures", "identity.val=0.1"]),
        (
            {"split": splits(val=12)},
            ["data.batch=8"],
            ["val has 12 clips that fit, and each evaluation looks at 2 batches of 8", "curate more sources"],
        ),
        ({"split": splits(val=4)}, [], ["val shows one person: its figures", "curate more sources"]),
        ({"split": splits(val=8)}, [], ["val shows 2 people"]),
        (
            {"split": splits(val=12), "state": [*ENOUGH[:12], *["speak"] * 9, *["idle"] * 3]},
            [],
            ["val has no clip of the state listen, train 3: how that comes out is not measured", "curate more sources"],
        ),
        (
            {"split": splits(val=12), "state": ["speak", "listen"] * 12},
            [],
            ["no clip of the state idle, train 0", "curate sources in which people are still while nobody speaks"],
        ),
        (
            {"split": splits(val=12), "n_frames": [24] * 12 + [8] * 12},
            [],
            ["none of the 12 clips of val fits a size", "choose fewer data.frames"],
        ),
        ({"split": splits(val=12, withheld=12)}, [], ["no clip is of the split train: `run` trains on all"]),
    ],
    ids=["empty", "tiny", "one person", "two people", "no listening", "no idling", "no fit", "no train"],
)
def test_what_validation_cannot_tell_is_said_with_what_to_do(
    tmp_path: Path, columns: Mapping[str, Sequence[object]], settings: list[str], parts: list[str]
) -> None:
    root = told(copy(tmp_path / "d"), **{"state": ENOUGH, **columns})
    found = looked(root, *settings, batch=8 if settings else 2)
    (said,) = [a for a in found.advice if parts[0] in a]
    assert all(part in said for part in parts) and f"ADVICE {said}" in list(found.lines()) and found.clean


@pytest.mark.parametrize(
    ("column", "splits_", "kept", "held", "number", "clips"),
    [
        ("identity_id", splits(val=10), "train", "val", "1 person of train is in val too", 2),
        ("source_id", splits(val=8, test=6), "train", "val", "1 source of train is in val too", 2),
        ("identity_id", splits(val=8, test=6), "val", "test", "1 person of val is in test too", 2),
    ],
)
def test_who_lies_in_two_splits_is_named_and_can_be_left_out(
    tmp_path: Path, column: str, splits_: list[str], kept: str, held: str, number: str, clips: int
) -> None:
    """Somebody's four clips are divided; with the condition that the sentence names, they no longer are."""
    other = "source_id" if column == "identity_id" else "identity_id"
    apart = [f"{i}-{s}" for i, s in zip(range(24), splits_, strict=True)]
    root = told(copy(tmp_path / "d"), split=splits_, state=ENOUGH, **{other: apart})
    found = looked(root)
    assert not found.clean
    (leak,) = [x for x in found.leaks if (x.kept, x.held) == (kept, held)]
    assert (leak.of, leak.number, leak.clips) == (column, 1, clips)
    (said,) = [x for x in found.lines() if x.startswith("LEAK") and f"of {kept} " in x and f"in {held} too" in x]
    assert number in said and leak.names[0] in said and "curate the sources again" in said
    data = override(toy(), [f"data.root={root}"]).data
    where = " AND ".join(f"({without(x)})" for x in leaks(data))
    assert all(f'--where "{without(x)}"' in "\n".join(found.lines()) for x in found.leaks)
    after = looked(root, f"data.where={where}")
    assert after.clean and after.splits["train"] == found.splits["train"]


def test_what_is_withheld_from_all_splits_is_no_leak(tmp_path: Path) -> None:
    root = told(copy(tmp_path / "d"), split=splits(withheld=2), state=ENOUGH)
    assert looked(root).clean


def test_the_doctor_weighs_train_alone_and_ends_with_1_where_somebody_leaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, report = told(copy(tmp_path / "d"), split=splits(val=12), state=ENOUGH), tmp_path / "r.json"
    options = {"report": str(report), "settings": SIZES, "workers": 1, "batches": 1}
    assert doctor(str(root), **options) == 0
    found = json.loads(report.read_text())
    assert (found["samples"], found["loader"]["samples"], found["worth"]["windows"]) == (24, 12, 12)
    assert found["loader"]["buckets"] == {"16x32x32": 12} and found["splits"]["leaks"] == []
    assert found["splits"]["splits"]["val"]["states"] == {"speak": 6, "listen": 3, "idle": 3}
    told(root, split=splits(val=10))
    assert doctor(str(root), **options) == 1
    said = capsys.readouterr().out
    assert "split train: 14 clips" in said and "LEAK 1 person of train is in val too" in said
    assert json.loads(report.read_text())["healthy"], "its samples are"


def test_sizes_are_chosen_by_what_is_trained_on(tmp_path: Path) -> None:
    """Held-out clips of another size decide nothing; those that fit none are said and left out."""
    root = told(copy(tmp_path / "d"), split=splits(val=12), width=[32] * 12 + [1000] * 12)
    config = override(toy(), [*SIZES, f"data.root={root}", "data.auto_sizes=4", "data.pixels=1000000"])
    said = list[str]()
    data = sized(config, encoders(), said.append).data
    assert data.sizes == ((16, 32, 32),) and "12 of 24 clips fit no size and are left out" in said[1]
    assert trained_on(data).where == "(true) AND split = 'train'" and of_split(data, "test") is None
    found = looked(root)
    assert found.fitting == 0 and any("fits a size" in a for a in found.advice)
