"""`lpm search`: words become a vector by the model that made the samples' vectors, and by no other."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_models import write_model
from vector_case import packed, shown

from workflows import cli

A, B = "a" * 16, "b" * 16
RED, GREEN, BLUE = f"{A}-t0-0", f"{A}-t0-1", f"{B}-t0-0"
SAMPLES = {
    RED: shown(1, 0, 0, state="speak", caption="red"),
    GREEN: shown(0, 1, 0, state="listen", caption="green"),
    BLUE: shown(0.3, 0, 1, state="listen", caption="blue"),
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    packed(tmp_path / "d", SAMPLES)
    return tmp_path / "d"


def _search(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["search", *map(str, arguments)])
    out, err = capfd.readouterr()
    return int(ended.value.code or 0), out, err


def _found(capfd: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    code, out, err = _search(capfd, *arguments, "--format", "json")
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_words_find_what_they_name(dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert [r["segment_id"] for r in _found(capfd, dataset, "a blue wall")] == [BLUE, RED, GREEN]
    assert [r["caption"] for r in _found(capfd, dataset, "green", "--limit", 1)] == ["green"]
    assert [r["caption"] for r in _found(capfd, dataset, "red", "--state", "listen")] == ["blue", "green"]
    assert [r["caption"] for r in _found(capfd, dataset, "red", "--where", "caption LIKE '%e%n'")] == ["green"]
    assert [r["segment_id"] for r in _found(capfd, dataset, "--like", RED, "--limit", 1)] == [BLUE]
    pairs = _found(capfd, dataset, "--duplicates", "--above", 0.1)
    assert [(r["segment_id"], r["other_id"]) for r in pairs] == [(RED, BLUE)]


@pytest.mark.parametrize("text", ["red'; DROP TABLE manifest; --", 'red" OR 1=1', "red $vector ? {}", "red\n\\0"])
def test_words_are_never_sql(dataset: Path, capfd: pytest.CaptureFixture[str], text: str) -> None:
    assert next(r["segment_id"] for r in _found(capfd, dataset, text)) == RED


def test_every_format_of_query_is_one_here(dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, table, _ = _search(capfd, dataset, "red")
    assert code == 0 and "similarity" in table and "3 rows" in table
    _, text, _ = _search(capfd, dataset, "red", "--format", "csv")
    assert [r["caption"] for r in csv.DictReader(io.StringIO(text))] == ["red", "blue", "green"]
    file = tmp_path / "found.parquet"
    assert _search(capfd, dataset, "red", "--format", "parquet", "--out", file)[0] == 0
    assert pq.read_table(file)["caption"].to_pylist() == ["red", "blue", "green"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "search by words, by --like SAMPLE_ID, or for --duplicates: one of the three"),
        (["  "], "search by words, by --like SAMPLE_ID, or for --duplicates: one of the three"),
        (["red", "--duplicates"], "search by words, by --like SAMPLE_ID, or for --duplicates: one of the three"),
        (["--duplicates", "--references"], "--duplicates compares clips"),
        (["red", "--format", "xml"], "no format 'xml'; there are: table, long, csv, json, parquet"),
        (["red", "--where", "nothing = 1"], "the manifest cannot be searched by 'nothing = 1'"),
        (["--like", "nobody"], "there is no sample 'nobody' in the manifest"),
        (["red", "--model", "elsewhere"], "ColourWords has no setting 'model'"),
    ],
)
def test_what_cannot_be_searched_is_said_in_a_sentence(
    dataset: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out, err = _search(capfd, dataset, *arguments)
    assert code == 1 and not out and said in err and "Traceback" not in err


def test_another_model_is_refused_by_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    packed(tmp_path / "d", SAMPLES, use="vector_case:OtherColours")
    code, _, err = _search(capfd, tmp_path / "d", "red")
    assert code == 1 and "vectors are by colours, and the model here is other-colours: name that model with" in err
    assert _found(capfd, tmp_path / "d", "--like", RED, "--limit", 1), "which needs no model"


@pytest.mark.full
@pytest.mark.parametrize("use", ["open_clip", "auto"])
def test_a_model_that_lies_elsewhere_is_known_by_its_contents(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    from annotators.imagetext.open_clip import OpenClip

    monkeypatch.setenv("OPENLPM_MODELS", "")
    model, other = write_model(tmp_path / "here" / "tiny"), write_model(tmp_path / "other", seed=5)
    embedder = OpenClip(str(model))
    texts = ["a woman laughs while listening", "a dog", "night"]
    vectors = [{"vector": v.tolist(), "vector_model": embedder.name} for v in embedder.texts(texts)]
    packed(tmp_path / "d", dict(zip(SAMPLES, vectors, strict=True)), use=use)
    code, _, err = _search(capfd, tmp_path / "d", texts[0])
    assert code == 1 and "no model file 'clip'" in err
    assert "and the model here is" in _search(capfd, tmp_path / "d", texts[0], "--model", other)[2]
    for text, sample in zip(texts, SAMPLES, strict=True):
        first = _found(capfd, tmp_path / "d", text, "--model", model)[0]
        assert first["segment_id"] == sample and np.isclose(first["similarity"], 1, atol=1e-4)
