"""The command line as users meet it: outputs, exit codes, one-sentence errors. Toy stages, real engine."""

from __future__ import annotations

import csv
import errno
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pandas as pd
import pytest
import yaml
from command_line import lpm, lpm_started
from engine_case import GOOD
from toy import POLICY, WORKFLOW, write_sources

from curation.storage.store import StoreError
from workflows.commands import jobs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("cli")
    files = {"workflow": root / "toy.yaml", "policy": root / "policy.yaml", "out": root / "out"}
    spec = WORKFLOW.model_dump(mode="json")
    spec["stages"] = {k: v for k, v in spec["stages"].items() if k != "toy_packing"}
    files["workflow"].write_text(yaml.safe_dump(spec, sort_keys=False))
    files["policy"].write_text(yaml.safe_dump(POLICY))
    files["in"] = write_sources(root / "in", good=GOOD, small={"duration_s": 9.0, "faces": [30]})
    files["root"] = root
    result = lpm(
        "run", str(files["in"]), "--out", str(files["out"]), "--engine", "local",
        "--workflow", str(files["workflow"]), "--policy", str(files["policy"]),
    )  # fmt: skip
    assert result.returncode == 0 and "nothing packed, as no stage of workflow 'toy' encodes clips" in result.stdout
    refused = lpm("pack", str(files["out"]))
    assert refused.returncode == 1 and "packing stage" in refused.stderr.replace("\n", " "), refused.stderr
    files["sample"] = Path(
        lpm("query", str(files["out"]), "SELECT segment_id FROM segments", "--format", "csv").stdout.split('"')[3]
    )
    return files


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "{root}/none.mp4", "--out", "{root}/x"), "no such file"),
        (
            ("run", "{in}", "--out", "{root}/x", "--workflow", "talk"),
            "no workflow 'talk'; built in are: check, conversation",
        ),
        (("run", "{in}", "--out", "{root}/x", "--policy", "strict"), "no policy 'strict'"),
        (("run", "{in}", "--out", "{root}/x", "--set", "scan.portait_hz=2"), "did you mean"),
        (("run", "{in}", "--out", "{root}/x", "--engine", "spark"), "there are: ray, local"),
        (("run", "{in}", "--out", "{in}"), "not a dataset"),
        (("run", "{in}", "--out", "{policy}"), "is a file, or lies in one"),
        (("run", "{in}", "--out", "{policy}/deeper"), "is a file, or lies in one"),
        (("run", "", "--out", "{root}/x"), "an input is empty"),
        (("run", "{in}", "--out", ""), "--out is empty"),
        (("plan", ""), "an input is empty"),
        (("status", ""), "is empty"),
        (("query", "{out}", "SELECT 1", "--out="), "--out is empty"),
        (("query", "{out}", "SELECT 1", "--out", "{root}/x/z.csv"), "there is no folder"),
        (("query", "{out}", "SELECT 1", "--out", "{root}/x/z.parquet"), "there is no folder"),
        (("query", "{out}", "SELECT 1", "--out", "{root}"), "is a folder"),
        (("status", "{in}"), "not a dataset"),
        (("query", "{out}", "SELECT nothing FROM sources"), "query failed"),
        (("query", "{out}", "FROM read_csv('/etc/passwd')"), "Permission Error"),
        (("query", "{out}", "COPY (SELECT 1) TO 'x.csv'"), "one SELECT"),
        (("query", "{out}", "SELECT 1; SELECT 2"), "one SELECT"),
        (("query", "{out}", "SELECT 1", "--format", "xml"), "there are: table, long, csv, json, parquet"),
        (("query", "{out}", "SELECT 1", "--format", "parquet"), "needs --out"),
        (("explain", "{out}", "nobody"), "no source, shot, track"),
        (("schema", "nothing"), "no schema"),
        (("models", "fetch", "gpt"), "no weight 'gpt'"),
    ],
)
def test_mistakes_get_one_sentence_and_a_failing_exit(
    made: dict[str, Path], arguments: tuple[str, ...], words: str
) -> None:
    result = lpm(*(a.format(**made) for a in arguments))
    assert result.returncode == 1
    assert words in result.stderr.replace("\n", " ") and "Traceback" not in result.stderr
    assert not (made["root"] / "x").exists() and not (made["in"] / ".lock").exists()


def test_what_cannot_be_reached_is_told_in_a_sentence_and_a_bug_is_not() -> None:
    down = OSError("When reading 'seal.json': AWS Error UNKNOWN (HTTP status 503) during HeadObject operation")
    assert "HeadObject operation; what it reads or writes cannot be reached" in str(jobs.answer(down))
    assert "mend it and run the same command again" in str(
        jobs.answer(OSError(errno.ENOSPC, "No space left on device"))
    )
    assert jobs.answer(StoreError("cannot open x")) == "cannot open x"
    assert jobs.answer(TypeError("unexpected")) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotADirectoryError(20, "", "file/z.csv"), "file is a file, where a folder is to be"),
        (NotADirectoryError(20, "Failed to open local file 'file/a/b'"), "file is a file"),
        (FileExistsError(17, "", Path("file")), "file is a file"),
        (FileExistsError(17, "", "folder"), "folder exists"),
        (IsADirectoryError(21, "", ".tmp-1", None, "folder"), "folder is a folder, where a file is to be"),
        (FileNotFoundError(2, "", "none/z.csv"), "there is no folder none"),
        (FileNotFoundError(2, "", "none"), "there is no file or folder none"),
        (PermissionError(13, "", "elsewhere"), "no permission for elsewhere"),
        (FileNotFoundError(2, "", "folder/tables/a.parquet"), None),
        (FileNotFoundError(2, "", "none/made/by/us"), None),
        (FileNotFoundError(2, ""), None),
        (IsADirectoryError(21, "", "."), None),
        (NotADirectoryError(20, "", "other/x"), None),
    ],
)
def test_a_typed_path_that_cannot_be_used_is_told_and_one_of_the_programs_own_is_a_bug(
    error: OSError, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    said = jobs.answer(error, ["x", "file", "folder", "none/z.csv", "--out=none"])
    assert said is None if words is None else words in str(said)


def test_query_formats_agree(made: dict[str, Path], tmp_path: Path) -> None:
    sql = "SELECT name, bytes FROM inputs ORDER BY name"
    as_csv = list(csv.DictReader(io.StringIO(lpm("query", str(made["out"]), sql, "--format", "csv").stdout)))
    as_json = [json.loads(x) for x in lpm("query", str(made["out"]), sql, "--format", "json").stdout.splitlines()]
    lpm("query", str(made["out"]), sql, "--format", "parquet", "--out", str(tmp_path / "q.parquet"))
    frame = pd.read_parquet(tmp_path / "q.parquet")
    assert [r["name"] for r in as_csv] == [r["name"] for r in as_json] == frame["name"].tolist()
    assert [int(r["bytes"]) for r in as_csv] == [r["bytes"] for r in as_json] == frame["bytes"].tolist()


def test_plain_duckdb_opens_catalog_and_files(made: dict[str, Path]) -> None:
    lpm("pack", str(made["out"]))
    con = duckdb.connect(str(made["out"] / "catalog.duckdb"), read_only=True)
    said = "SELECT comment FROM duckdb_columns() WHERE table_name = 'tracks' AND column_name = 'min_face_px'"
    assert con.execute(said).fetchall() == [("10th percentile of the face box's shorter side [px]",)]
    files = f"{made['out']}/tables/tracks/**/*.parquet"
    assert con.execute(f"SELECT count(*) FROM read_parquet('{files}')").fetchone() == (3,)


def test_explain_says_everything(made: dict[str, Path]) -> None:
    track = lpm("query", str(made["out"]), "SELECT track_id FROM tracks WHERE median_face_px = 40", "--format", "csv")
    track_id = track.stdout.splitlines()[1].strip('"')
    text = lpm("explain", str(made["out"]), track_id).stdout
    assert "outcome: filtered" in text and "median_face_px >= 96" in text and "median_face_px = 40" in text
    answer: dict[str, Any] = json.loads(lpm("explain", str(made["out"]), track_id, "--json").stdout)
    verdicts = {r["rule"]: r["verdict"] for r in answer["rules"]}
    assert verdicts == {"audio": "pass", "duration": "pass", "face_size": "fail"}


def test_decide_prints_what_changes_and_keeps_the_choice(made: dict[str, Path], tmp_path: Path) -> None:
    loose = tmp_path / "loose.yaml"
    rules = [{**r, "keep": "median_face_px >= 20"} if r["id"] == "face_size" else r for r in POLICY["rules"]]
    loose.write_text(yaml.safe_dump({**POLICY, "rules": rules}))
    dry = lpm("decide", str(made["out"]), "--policy", str(loose), "--dry-run").stdout
    assert "filtered" in dry and "pending" in dry
    assert "nothing changes" in lpm("decide", str(made["out"]), "--policy", str(made["policy"])).stdout


def test_schemas_are_json_schemas() -> None:
    names = json.loads(lpm_started("schema", "list").stdout)
    for name in ("sample", "caption", "policy", "workflow", "shots", "manifest", "units_tracks"):
        assert name in {*names["models"], *names["tables"], *names["views"]}
        jsonschema.Draft202012Validator.check_schema(json.loads(lpm("schema", name).stdout))


def test_status_shows_the_papers_funnel(made: dict[str, Path]) -> None:
    text = lpm("status", str(made["out"])).stdout
    assert "56.82" in text and "26.11" in text and "11.52" in text and "face_size" in text


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "offered"), [("lpm ex", {"explain", "export"}), ("lpm run --work", {"--workflow"})])
def test_the_shell_completes_commands_and_options(
    typed: str, offered: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "_LPM_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }.items():
        monkeypatch.setenv(name, value)
    assert set(lpm().stdout.split()) == offered


def test_columns_that_do_not_fit_are_shown_below_each_other(made: dict[str, Path]) -> None:
    shown = lpm("query", str(made["out"]), "SELECT * FROM units_sources ORDER BY source_id").stdout
    wide = [line.split() for line in shown.splitlines() if line.startswith("duration_s ")]
    assert sorted(float(value) for _, value in wide) == sorted([GOOD["duration_s"], 9.0])
    assert "2 rows; " in shown and "do not fit beside each other" in shown.replace("\n", " ")
    narrow = lpm("query", str(made["out"]), "SELECT source_id, duration_s FROM sources").stdout
    assert "│" in narrow and "do not fit" not in narrow
