"""Following a recipe: which sources count, and references cut as they were, to the byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from engine_case import snapshot

from annotators.protocols import Box
from curation.engine.register import Named
from curation.publish.errors import RecipeError
from curation.storage.store import Store, table_file
from curation.verify.repair import check_not_replayed
from schemas import tables as t
from stages.scan.portrait_picture import Place, place_of, portrait
from workflows import cli
from workflows.recipe import SOURCE, read
from workflows.replay import Replay, _cut, _found


def test_a_source_counts_by_its_bytes_and_by_its_name_it_is_told_what_became_of_it(tmp_path: Path) -> None:
    for name, data in (("renamed.mp4", b"one"), ("b.mp4", b"other bytes")):
        (tmp_path / name).write_bytes(data)
    empty = {f.name: None for f in SOURCE}
    wanted = [
        {**empty, "source_id": i, "name": f"{i}.mp4", "sha256": hashlib.sha256(data).hexdigest()}
        for i, data in (("a", b"one"), ("b", b"two"), ("c", b"three"))
    ]
    done = Replay()
    found = _found(pa.Table.from_pylist(wanted, SOURCE), [Named(str(p)) for p in tmp_path.iterdir()], done)
    assert found == {"a": str(tmp_path / "renamed.mp4")}
    assert done.drifted == [("b", str(tmp_path / "b.mp4"))] and done.missing == ["c c.mp4"]


@pytest.mark.parametrize("moved", [(0, 0, 0, 0), (1, 0, 0, 0), (-1, 1, 0, -1)])
def test_a_reference_is_cut_as_it_was_though_a_border_was_rounded_otherwise(moved: Place) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    place = place_of(Box(60.0, 30.0, 20.0, 24.0), 160, 90)
    x0, y0, x1, y1 = (a + b for a, b in zip(place, moved, strict=True))
    was, _ = portrait(frame, (x0, y0, x1, y1), 384)
    one = {"place": list(place), "part_xywh": [], "sha256": hashlib.sha256(was).hexdigest()}
    assert _cut(frame, one, 384) == was


def test_a_folder_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe that can be read"):
        read(tmp_path)


@pytest.mark.parametrize("options", [(), ("--repair",), ("--tables",)])
def test_a_replayed_recipe_is_told_for_what_it_is_and_left_alone(
    tmp_path: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in it says what its samples must be; a dataset that has lost its workflow is another thing."""
    store = Store(str(tmp_path))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    store.write("shards/train-000000.tar", b"")
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.empty())
    before = snapshot(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(tmp_path), *options])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "was made by `lpm recipe replay`" in said and "sha256sum" in said
    assert snapshot(tmp_path) == before
    store.write("commits/probe/bucket=ab/ab.json", b"{}")
    check_not_replayed(store)
