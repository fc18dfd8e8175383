"""`--commercial`: which licences pass, what is said of those that do not, and that the run remembers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from engine_case import GOOD, policy
from face_networks import arcface, scrfd
from rich.console import Console
from toy import WORKFLOW, write_sources

from annotators.face.insightface_pack import RESEARCH_ONLY
from annotators.models import weights
from annotators.models.licences import commercial
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import WorkflowError, resolve
from workflows import catalog
from workflows.commands import jobs
from workflows.commercial import LicenceError, check_commercial


class Loud:
    """A voice activity detector whose weights nobody registered."""

    name = "loud"
    weights: tuple[str, ...] = (str(Path(__file__)),)

    def probability(self, audio: Any) -> Any:
        return audio


def checked(*sets: str) -> dict[str, dict[str, str]]:
    return check_commercial(resolve(catalog.workflow("conversation"), sets))


@pytest.mark.parametrize(
    "licence, free",
    [
        ("MIT", True), ("Apache-2.0", True), ("CC0-1.0", True), ("CC-BY-4.0", True), ("commercial, contract 17", True),
        ("CC-BY-NC-4.0", False), ("PolyForm-Noncommercial-1.0.0", False), ("non-commercial", False),
        ("not for commercial use", False), ("Research only", False), ("academic", False), ("unknown", False),
        (RESEARCH_ONLY, False), (" ", False), (None, False),
    ],
)  # fmt: skip
def test_a_licence_is_told_by_its_name(licence: str | None, free: bool) -> None:
    assert commercial(licence) is free


def test_every_registered_weight_and_what_ships_may_be_used() -> None:
    assert all(commercial(weights.licence(name)) for name in (*weights.registry(), "lip_sync.npz", "speaking.json"))
    assert weights.licence("mine.onnx") is None


def test_the_shipped_workflow_passes_and_names_every_licence() -> None:
    known = checked("shared.people=none", "embedding.backend=dlib")
    assert known["speech.vad"] == {"silero_vad_v6.onnx": "MIT"} and "shared.people" not in known
    assert set(known["embedding.backend"].values()) == {"CC0-1.0"}


def test_what_is_for_research_or_unknown_is_refused_with_a_way_out(tmp_path: Path) -> None:
    scrfd(tmp_path / "det.onnx")
    arcface(tmp_path / "rec.onnx")
    found = f"scan.detector={{use: scrfd, model: {tmp_path}}}"
    with pytest.raises(LicenceError) as refused:
        checked(found, f"embedding.backend={{use: arcface, model: {tmp_path}}}")
    said = str(refused.value)
    assert f"scan.detector would use det.onnx, whose licence is {RESEARCH_ONLY} (choose scan.detector=mediapipe" in said
    assert "rec.onnx" in said and "embedding.backend=" in said and "\n" not in said
    assert "say by scan.detector.licence which licence you have" in said
    assert checked(found, "scan.detector.licence=bought 2026-11")["scan.detector"] == {"det.onnx": "bought 2026-11"}
    with pytest.raises(LicenceError, match=r"det.onnx, whose licence is CC-BY-NC-4.0"):
        checked(found, "scan.detector.licence=CC-BY-NC-4.0")


def test_a_back_end_of_ones_own_and_a_served_model_are_unknown_until_it_is_said() -> None:
    own = f"speech.vad={__name__}:Loud"
    with pytest.raises(
        LicenceError, match=r"test_commercial.py, whose licence is not known \(choose speech.vad=silero"
    ):
        checked(own)
    assert checked(own, "speech.vad.licence=MIT")["speech.vad"] == {"test_commercial.py": "MIT"}
    served = "performance.backend={use: openai, base_url: 'http://127.0.0.1:9/v1', model: qwen}"
    with pytest.raises(LicenceError, match=r"qwen, whose licence is not known \(choose performance.backend=signals"):
        checked(served)
    assert checked(served, "performance.backend.licence=Apache-2.0")["performance.backend"] == {"qwen": "Apache-2.0"}


@pytest.mark.parametrize("value", ["{use: auto, licence: MIT}", "{use: retail, licence: [MIT]}"])
def test_a_licence_belongs_to_one_back_end(value: str) -> None:
    with pytest.raises(WorkflowError, match="licence is the name of a licence"):
        resolve(catalog.workflow("conversation"), [f"embedding.backend={value}"])


def test_what_is_said_of_a_licence_is_kept_and_has_nothing_measured_again() -> None:
    plain, said = (
        next(s for s in resolve(catalog.workflow("conversation"), sets).stages if s.name == "speech").settings
        for sets in (["speech.vad=silero"], ["speech.vad={use: silero, licence: MIT}"])
    )
    assert said.provenance() == plain.provenance() and said != plain
    assert said.measured() == plain.measured()
    again = type(said).model_validate(said.model_dump(mode="json"))
    assert again == said and again.model_dump()["vad"] == {"use": "silero", "licence": "MIT"}


def test_a_refused_run_writes_nothing(tmp_path: Path) -> None:
    scrfd(tmp_path / "det.onnx")
    sets = [f"scan.detector={{use: scrfd, model: {tmp_path}}}"]
    quiet = Console(file=io.StringIO())
    with pytest.raises(LicenceError):
        jobs.run(
            quiet, quiet, [], str(tmp_path / "out"), None, None, "local", None, sets,
            retry=False, wait_for_nodes=False, commercial=True,
        )  # fmt: skip
    assert not (tmp_path / "out").exists() and LicenceError in jobs.EXPECTED


@pytest.mark.parametrize("known", [None, {"scan.detector": {"det.onnx": "MIT"}}])
def test_the_run_remembers(tmp_path: Path, known: Any) -> None:
    named = expand([str(write_sources(tmp_path / "in", good=GOOD))], str(tmp_path / "out"))
    run(Job(str(tmp_path / "out"), resolve(WORKFLOW), policy(), licences=known), LocalEngine(), named)
    (facts,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("runs/*/run.json"))
    assert (facts["commercial"], facts["licences"]) == (known is not None, known)
