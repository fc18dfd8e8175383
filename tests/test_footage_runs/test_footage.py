"""The whole workflow on real footage: what must be kept, in which state to the frame, and what left out, and why."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import webdataset
from command_line import lpm, lpm_well
from damaged import with_a_hole
from shortened import shortened

from curation import Dataset
from curation.verify import verify
from schemas import tables as t
from schemas.samples.sample import SAMPLES_PER_FRAME, Sample
from schemas.tables.output import ClipRow
from schemas.tables.performance import CaptionRow
from schemas.time import GRID_HZ

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


WHOLE = ("interview_cuts", "split_screen", "offscreen_voice", "session_talker", "session_listener",
         "lips_without_voice", "bad_empty", "bad_text", "bad_truncated")  # fmt: skip
BEGINNINGS_S = {"talk_woman_garden": 5.0, "talk_woman_studio": 5.0, "noisy_speech": 5.4, "defect_*": 3.6}
"""Recordings of one thing from end to end, of which the beginning shows as much."""


@pytest.fixture(scope="module")
def footage(media: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The clips that are looked at here, those with defects, one that is damaged, and broken files."""
    folder = tmp_path_factory.mktemp("media")
    with_a_hole(media / "quiet_speech.mp4", folder / "damaged.mp4", HOLE)
    for names, seconds in BEGINNINGS_S.items():
        for path in media.glob(f"{names}.mp4"):
            shortened(path, folder, seconds)
    return [*(str(media / f"{name}.mp4") for name in WHOLE), str(folder / "*.mp4")]


HOLE = 110
"""Frame of 25 a second whose bytes are lost; no key frame comes after it."""


@pytest.fixture(scope="module")
def dataset(footage: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The footage through the default workflow on a local Ray."""
    out = tmp_path_factory.mktemp("footage") / "dataset"
    result = lpm("run", *footage, "--out", str(out))
    assert result.returncode == 3, result.stderr[-3000:]  # done, and the broken files are in quarantine
    return Dataset(str(out))


def states_of(dataset: Dataset) -> dict[str, set[str]]:
    rows = dataset.query("SELECT i.name, state FROM manifest JOIN inputs i USING (source_id)").fetchall()
    out: dict[str, set[str]] = {}
    for name, state in rows:
        out.setdefault(name.removesuffix(".mp4"), set()).add(state)
    return out


def sources_of(dataset: Dataset) -> dict[str, tuple[str, str | None]]:
    sql = "SELECT name, outcome, rule FROM decisions JOIN inputs USING (source_id) WHERE unit = 'sources'"
    return {n.removesuffix(".mp4"): (o, r) for n, o, r in dataset.query(sql).fetchall()}


def test_no_good_footage_is_lost(dataset: Dataset) -> None:
    states = states_of(dataset)
    assert states["talk_woman_garden"] == {"speak"}
    assert states["talk_woman_studio"] == {"speak"}
    assert states["interview_cuts"] == {"speak", "listen", "idle"}
    assert states["split_screen"] == {"speak", "listen"}
    assert states["offscreen_voice"] == {"listen"}
    assert states["noisy_speech"] == {"speak"}
    assert states["session_talker"] == {"speak"}
    assert states["session_listener"] == {"listen"}


@pytest.mark.parametrize("name", ["interview_cuts", "lips_without_voice", "offscreen_voice", "split_screen"])
def test_states_are_right_frame_by_frame(dataset: Dataset, media: Path, name: str) -> None:
    """Of all frames of the people in the truth file, more than 95 % are in their state."""
    sql = (
        "SELECT t.start_s, t.end_s, center_x, median_face_px, r.start_s, r.end_s, state FROM tracks t "
        f"JOIN inputs USING (source_id) JOIN timeline r USING (track_id) WHERE name = '{name}.mp4'"
    )
    runs = dataset.query(sql).fetchall()
    hits, total = 0, 0
    for shot in json.loads((media / f"{name}.truth.json").read_text())["shots"]:
        for k in range(round(shot["start"] * GRID_HZ), round(shot["end"] * GRID_HZ)):
            at_s = (k + 0.5) / GRID_HZ
            for person in shot["people"]:
                left, right = {"left": (0.0, 0.5), "right": (0.5, 1.0)}.get(person["place"], (0.0, 1.0))
                here = [r for r in runs if r[0] <= at_s < r[1] and left <= r[2] <= right]
                largest = max((r[3] for r in here), default=0.0)
                hits += person["state"] in {r[6] for r in here if r[3] == largest and r[4] <= at_s < r[5]}
                total += 1
    assert total and hits / total > 0.95


def test_two_people_in_one_picture_are_one_exchange(dataset: Dataset) -> None:
    speaker, listener = segments_of(dataset, "split_screen")
    assert (speaker["state"], listener["state"]) == ("speak", "listen")
    assert listener["partner_track_id"] == speaker["track_id"] and listener["pair_id"] == speaker["pair_id"]


def test_noise_over_a_voice_does_not_hide_it(dataset: Dataset) -> None:
    (only,) = segments_of(dataset, "noisy_speech")
    assert (only["state"], only["start_s"], only["end_s"]) == ("speak", 0.0, pytest.approx(5.4, abs=0.1))


def segments_of(dataset: Dataset, name: str) -> list[dict[str, Any]]:
    """Return a clip's segments, who speaks first."""
    sql = f"SELECT s.* FROM segments s JOIN inputs USING (source_id) WHERE name = '{name}.mp4' ORDER BY state DESC"
    found: list[dict[str, Any]] = dataset.query(sql).to_arrow_table().to_pylist()
    return found


def test_every_defect_is_cropped_away_or_left_out_by_a_rule_of_its_kind(dataset: Dataset) -> None:
    sources = sources_of(dataset)
    expected = {
        "blur": {"sharp_face"}, "dark": {"luminance", "not_black"}, "frozen": {"not_frozen"},
        "no_audio": {"audio_present"}, "tiny_face": {"face_size", "people_present"},
    }  # fmt: skip
    for kind, rules in expected.items():
        outcome, rule = sources[f"defect_{kind}"]
        assert outcome == "filtered" and rule in rules, (kind, outcome, rule)
    # The crop keeps clear of these: seen from the planned crop, and from where each file carries its defect.
    sql = (
        "SELECT crop_x, crop_y, crop_w, crop_h, width, height, text_in_crop + logo_in_crop + bars_in_crop AS dirt "
        "FROM clip_plans JOIN inputs USING (source_id) JOIN sources USING (source_id) WHERE name = 'defect_{}.mp4'"
    )
    for kind in ("letterbox", "logo", "subtitles"):
        assert sources[f"defect_{kind}"][0] == "kept", kind
        rows = dataset.query(sql.format(kind)).fetchall()
        assert rows and all(dirt == 0 for *_, dirt in rows)
        for _, y, _, h, _, height, _ in rows if kind == "letterbox" else []:
            assert y > 0 and y + h < height


def test_what_a_damage_spoils_is_in_no_clip(dataset: Dataset) -> None:
    sql = (
        "SELECT s.start_s, s.end_s, d.outcome, d.rule FROM segments s JOIN decisions d ON d.unit_id = s.segment_id "
        "JOIN inputs i ON i.source_id = s.source_id WHERE name = 'damaged.mp4' ORDER BY 1"
    )
    before, *after = dataset.query(sql).fetchall()
    assert (before[0], before[2]) == (0.0, "kept") and 3.0 <= before[1] <= HOLE / GRID_HZ
    assert after and all(outcome == "filtered" for *_, outcome, _ in after)
    frames = "SELECT k, is_damaged FROM frames JOIN inputs USING (source_id) WHERE name = 'damaged.mp4' ORDER BY k"
    marked = dict(dataset.query(frames).fetchall())
    assert not any(marked[k] for k in range(HOLE - 4)) and all(marked[k] for k in range(HOLE, max(marked)))


def test_broken_files_are_quarantined_with_their_reasons(dataset: Dataset) -> None:
    rows = dataset.query("SELECT name, stage, error FROM errors JOIN inputs USING (source_id)").fetchall()
    assert {(n, s, e) for n, s, e in rows} == {
        ("bad_empty.mp4", "probe", "empty_file"),
        ("bad_text.mp4", "probe", "not_a_video"),
        ("bad_truncated.mp4", "probe", "truncated"),
    }


def test_cuts_are_exact_to_the_frame(dataset: Dataset) -> None:
    sql = (
        "SELECT s.start_s, s.start_frame FROM shots s JOIN inputs USING (source_id) "
        "WHERE name = 'interview_cuts.mp4' ORDER BY 1"
    )
    rows = dataset.query(sql).fetchall()
    assert [f for _, f in rows] == [0, 100, 200, 290, 365]
    assert [s for s, _ in rows] == pytest.approx([0.0, 4.0, 8.0, 11.6, 14.6], abs=1e-6)


def test_dataset_is_whole(dataset: Dataset) -> None:
    assert verify(dataset) == []


def test_samples_hold_both_audios_references_and_a_caption(dataset: Dataset) -> None:
    for row in dataset.table(t.MANIFEST).to_pylist():
        members = {
            m["name"].split(".", 1)[1]: dataset.store.read(f"shards/{row['shard']}", m["offset"], m["size"])
            for m in row["members"]
        }
        sample = Sample.model_validate_json(members["json"])
        assert sample.performance[CaptionRow.caption] and not sample.performance[CaptionRow.contradictions]
        assert len(sample.references) == row["n_references"] >= 1
        for name in ("speak.flac", "listen.flac"):
            assert soundfile.info(io.BytesIO(members[name])).frames == row["n_frames"] * SAMPLES_PER_FRAME
        levels = {"speak": ClipRow.speak_level_db, "listen": ClipRow.listen_level_db}
        level = sample.audio[levels[row["state"]]] if row["state"] in levels else None
        if level is not None:
            assert level > -80.0  # one listener hears a voice that is faint in their microphone


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset's own
def test_webdataset_reads_the_shards(dataset: Dataset) -> None:
    shards = sorted(str(p) for p in dataset.store.local_path("shards").glob("*.tar"))
    read = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert {s["__key__"] for s in read} == set(dataset.table(t.MANIFEST)["segment_id"].to_pylist())
    assert all({"mp4", "speak.flac", "listen.flac", "json"} <= s.keys() for s in read)


def test_second_run_does_nothing_and_questions_are_answered(dataset: Dataset) -> None:
    out = dataset.store.root
    before = dataset.store.read("manifest.parquet")
    result = lpm_well("run", "--out", out, "--allow-quarantine")
    assert "nothing to do" in result.stderr and "unchanged" in result.stdout
    assert dataset.store.read("manifest.parquet") == before
    assert "av_sync" in lpm_well("status", out).stdout
    sample = json.loads(lpm_well("query", out, "SELECT segment_id FROM manifest LIMIT 1", "--format", "json").stdout)
    assert "outcome: kept" in lpm_well("explain", out, sample["segment_id"]).stdout
    assert "the dataset is whole" in lpm_well("verify", out).stdout


def test_a_recipe_makes_the_same_shards_from_the_same_sources(
    dataset: Dataset, media: Path, footage: list[str], tmp_path: Path
) -> None:
    recipe, copy, some = (tmp_path / name for name in ("recipe", "copy", "some"))
    lpm_well("recipe", "export", dataset.store.root, "--out", str(recipe))
    for file in recipe.rglob("*.parquet"):
        kinds = [f.type for f in pq.read_schema(file)]
        assert not any(pa.types.is_binary(kind) for kind in kinds), f"{file.name} holds bytes"
    said = lpm_well("recipe", "replay", str(recipe), *footage, "--out", str(copy)).stdout
    shards = sorted(p.name for p in dataset.store.local_path("shards").glob("*.tar"))
    assert all((copy / "shards" / n).read_bytes() == dataset.store.read(f"shards/{n}") for n in shards), said
    refused = lpm("verify", str(copy))
    assert refused.returncode == 2 and "was made by `lpm recipe replay`" in refused.stderr
    some.mkdir()
    # Who talks in the garden is in the next four too; who listens in the session is else in clips that are not here.
    given = ("talk_woman_garden", "defect_subtitles", "defect_logo", "lips_without_voice", "session_talker",
             "session_listener")  # fmt: skip
    own = Path(footage[-1]).parent
    for name in (f"{name}.mp4" for name in given):
        shutil.copy(own / name if (own / name).exists() else media / name, some)
    (some / "interview_cuts.mp4").write_bytes((media / "talk_woman_studio.mp4").read_bytes() + b"x")
    result = lpm("recipe", "replay", str(recipe), str(some), "--out", str(tmp_path / "part"))
    assert result.returncode == 1 and "interview_cuts.mp4 is not the source" in result.stdout
    assert "missing: " in result.stdout and "split_screen.mp4" in result.stdout
    assert "not made: " in result.stdout and "lacks references from " in result.stdout
    made = Dataset(str(tmp_path / "part")).query("SELECT DISTINCT name FROM manifest ORDER BY 1").fetchall()
    names = ", ".join(f"'{name}.mp4'" for name in given)
    whole = dataset.query(
        f"""SELECT DISTINCT m.name FROM manifest m WHERE m.name IN ({names}) AND NOT EXISTS (
            SELECT 1 FROM "references" r JOIN inputs i ON i.source_id = r.ref_source_id
            WHERE r.segment_id = m.segment_id AND i.name NOT IN ({names})) ORDER BY 1"""
    ).fetchall()
    assert made == whole and len(made) >= 3 and ("session_listener.mp4",) not in made


def test_a_stricter_policy_decides_again_without_decoding(dataset: Dataset, tmp_path: Path) -> None:
    policy = Path(__file__).parents[2] / "workflows" / "policies" / "default.yaml"
    strict = tmp_path / "strict.yaml"
    text = policy.read_text()
    strict.write_text(re.sub(r"median_face_px >= \d+", "median_face_px >= 200", text))
    assert strict.read_text() != text
    out = dataset.store.root
    changes = lpm_well("decide", out, "--policy", str(strict), "--dry-run").stdout
    assert "face_size" in changes and "filtered" in changes
    assert "nothing changes" in lpm_well("decide", out, "--policy", "default").stdout


def test_local_engine_gives_the_same_tables(dataset: Dataset, media: Path, tmp_path: Path) -> None:
    """A clip through the local engine: byte-identical source tables and clips.

    Its tables lie in files of their own: no other recording here shares its bucket.
    """
    import hashlib

    clip, out = str(media / "split_screen.mp4"), str(tmp_path / "local")
    lpm_well("run", clip, "--out", out, "--engine", "local", "--workflow", "conversation")
    compared = 0
    for file in sorted((tmp_path / "local").rglob("*")):
        name = str(file.relative_to(tmp_path / "local"))
        if "/bucket=" in name and file.is_file():
            theirs: Any = dataset.store.read(name)
            assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(theirs).digest(), name
            compared += 1
    assert compared > 20


def test_a_forgotten_source_leaves_a_whole_dataset(dataset: Dataset, tmp_path: Path) -> None:
    out = Path(shutil.copytree(dataset.store.uri, tmp_path / "dataset"))
    gone = dataset.query("SELECT source_id FROM inputs WHERE name = 'talk_woman_garden.mp4'").fetchall()[0][0]
    before = {i for (i,) in dataset.query("SELECT segment_id FROM manifest").fetchall()}
    said = lpm_well("forget", str(out), "talk_woman_garden.mp4", "--yes").stdout
    assert "nothing is left of them" in said and "wait for work" not in said
    after = {i for (i,) in Dataset(str(out)).query("SELECT segment_id FROM manifest").fetchall()}
    assert after == {i for i in before if not i.startswith(gone)} and after != before
    assert verify(Dataset(str(out))) == []
