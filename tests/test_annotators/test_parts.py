"""Parts: what is declared can be built, is what its protocol says, and names itself and its weights without loading."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from clip_models import write_model
from face_networks import arcface, scrfd
from pydantic import ValidationError
from separation_case import LAYERS, write_separator
from wav2vec2_case import write_network

import annotators
import stages
from annotators.models import weights
from annotators.parts import Declared, Part, made_of, part
from annotators.protocols_speech import Aligner, VoiceActivity
from curation.engine.workflow import WorkflowError, resolve
from curation.stage import StageSettings
from lpm_train.config import ConfigError, from_json, override, to_json
from lpm_train.presets import toy
from lpm_train.tools.judge.evaluate import Evaluated
from schemas.settings.parts import AUTO, Absent, members
from schemas.settings.use import Shared, UseError, load, owner, read_setting
from schemas.settings.workflow import StageSpec, Workflow
from stages.clip_plan.crop import CropSettings
from workflows import catalog

INNER = {"SyncAudio", "Annotator"}
"""Protocols of what back-ends are made of, or that say what is common to them."""


def every_settings() -> list[type[StageSettings]]:
    found = set()
    for module in pkgutil.walk_packages(stages.__path__, "stages."):
        classes = vars(importlib.import_module(module.name)).values()
        found |= {c for c in classes if inspect.isclass(c) and issubclass(c, StageSettings)}
    return sorted(found, key=lambda c: c.__name__)


def every_part() -> list[tuple[str, Any, Declared]]:
    out = []
    for settings in every_settings():
        for name, field in settings.model_fields.items():
            for declared in (m for m in field.metadata if isinstance(m, Declared)):
                inner = get_args(field.annotation)[0]
                protocol = next((a for a in get_args(inner) if a is not type(None)), inner)
                out.append((f"{settings.__name__}.{name}", protocol, declared))
    return out


OF_THE_FULL_SET = {"pyannote", "deepfilternet", "whisperx", "pocketsphinx", "open_clip", "conv_tasnet"}

CASES = [
    pytest.param(where, p, d, short, id=f"{where}:{short}", marks=[pytest.mark.full] * (short in OF_THE_FULL_SET))
    for where, p, d in every_part()
    for short in d.shipped
]


@pytest.mark.parametrize("where, protocol, declared, short", CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:std:UserWarning")
def test_a_shipped_back_end_keeps_the_contract(
    where: str, protocol: Any, declared: Declared, short: str, tmp_path: Path
) -> None:
    assert set(declared.auto) <= set(declared.shipped)
    shipped = declared.shipped[short]
    if isinstance(shipped, Absent):
        assert shipped.name and Part(declared, protocol, short, {}).build() is None
        return
    use = shipped if isinstance(shipped, str) else shipped["use"]
    given = {} if isinstance(shipped, str) else {k: v for k, v in shipped.items() if k != "use"}
    if short == "openai":
        given = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    if protocol is Aligner and short == "whisperx":
        given = {"model": str(write_network(tmp_path))}
    if short in {"arcface", "scrfd"}:
        given = {"model": str({"arcface": arcface, "scrfd": scrfd}[short](tmp_path / f"{short}.onnx"))}
    if short == "laion":
        torch.save(torch.nn.Linear(4, 1).state_dict(), tmp_path / "head.pth")
        given = {"model": str(tmp_path / "head.pth")}
    if short == "open_clip":
        given = {"model": str(write_model(tmp_path / "clip"))}
    if short == "conv_tasnet":
        given = {"model": str(write_separator(tmp_path / "tasnet.pt", steps=0)), "layers": LAYERS}
    builder = load(use)
    assert inspect.getdoc(owner(builder)), "a back-end says what it is"
    try:
        made = made_of(builder, given)
        chosen: Part[Any] = Part(declared, protocol, use, given)
        identity = chosen.provenance("part")
    except weights.WeightsNotFound as e:
        pytest.skip(str(e))
    assert identity["part"] == made.name and identity.keys() >= {Path(name).name for name in made.weights}
    if not all(weights.here(n) for n in made.weights):
        pytest.skip("its weights are not here")
    built = chosen.build()
    assert not [n for n in members(protocol) if not hasattr(built, n)]
    assert set(made.weights) <= set(built.weights)
    assert built.name == made.name or (short in {"clustering", "pyannote"} and built.name.startswith(made.name[:8]))
    getattr(built, "close", lambda: None)()


def test_every_protocol_is_asked_for_by_a_stage() -> None:
    asked = {protocol.__name__ for _, protocol, _ in every_part()}
    for module in pkgutil.walk_packages(annotators.__path__, "annotators."):
        if module.name in {"annotators.speech.pyannote_parts", "annotators.words.whisperx_parts"}:
            continue  # need libraries that are not installed by default
        for name, c in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(c) and getattr(c, "_is_protocol", False) and c.__module__ == module.name:
                assert name in asked | INNER, f"{module.name}:{name} is a protocol that no stage asks for"


class Toy(StageSettings):
    vad: Part[VoiceActivity] = part({"silero": "annotators.speech.vad:SileroVoiceActivity"}, "speech or not")
    other: Part[VoiceActivity | None] = part(
        {"silero": "annotators.speech.vad:SileroVoiceActivity", "none": Absent("no-vad")},
        "speech",
        auto=("silero", "none"),
    )


class Flat:
    """A back-end with a setting of its own."""

    name = "flat"
    weights: tuple[str, ...] = ()

    def __init__(self, level: float = 0.5) -> None:
        self.level = level

    def probability(self, audio: Any) -> Any:
        return self.level


def test_another_back_end_is_chosen_with_its_settings() -> None:
    toy = Toy.model_validate({"vad": {"use": f"{__name__}:Flat", "level": 0.25}})
    assert isinstance(built := toy.vad.build(), Flat) and built.level == 0.25
    identity = toy.provenance()
    assert identity["vad"] == "flat" and len(identity["vad.code"]) == 64
    assert identity["vad.settings"] == '{"level": 0.25}'
    again = Toy.model_validate(toy.model_dump(mode="json"))
    assert again == toy and again.provenance() == identity


def test_auto_takes_what_is_here_and_names_what_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy()
    assert toy.other.choice == AUTO
    monkeypatch.setattr(weights, "find", lambda name: None)
    assert toy.other.settled == "none" and toy.other.build() is None and toy.other.provenance("x") == {"x": "no-vad"}


@pytest.mark.parametrize(
    "given, said",
    [
        ("silro", "did you mean 'silero'"),
        ({"use": "silero", "pth": "x"}, "has no setting 'pth'; did you mean 'path'"),
        (f"{__name__}:Flta", "did you mean 'Flat'"),
        (f"{__name__}:Toy", "Toy is no VoiceActivity: it lacks name"),
        ("os:getcwd", "is no class"),
        ("no_such_module:X", "put no_such_module.py beside the workflow"),
        ({"use": f"{__name__}:Flat", "level": "loud"}, "Flat, level: Input should be a valid number"),
        (7, "write a short name"),
    ],
)
def test_a_choice_that_cannot_be_used_is_refused_with_what_to_write(given: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("(", r"\(")):
        Toy.model_validate({"vad": given})
    with pytest.raises(ValidationError, match="name it by use:"):
        Toy.model_validate({"other": {"use": "auto", "path": "x"}})
    with pytest.raises(ValidationError, match="would be unused"):
        Toy.model_validate({"other": {"use": "none", "path": "x"}})


def test_what_stages_share_is_set_once() -> None:
    workflow = catalog.workflow("conversation")

    def resolved(*sets: str) -> dict[str, Any]:
        return {s.name: s.settings for s in resolve(workflow, sets).stages}

    found = resolved("shared.max_side_px=640", "shared.people=none")
    assert found["scan"].max_side_px == found["body"].max_side_px == 640
    assert found["scan"].people == found["tracks"].people != resolved()["scan"].people
    with pytest.raises(
        WorkflowError, match=r"one setting of scan.max_side_px and body.max_side_px: .*shared.max_side_px"
    ):
        resolved("body.max_side_px=640")
    with pytest.raises(WorkflowError, match="did you mean 'people'"):
        resolved("shared.poeple=none")
    with pytest.raises(WorkflowError, match="did you mean 'shared'"):
        resolved("shard.people=none")


def test_settings_of_the_same_name_are_shared_or_mean_different_things() -> None:
    apart = {"backend", "max_distance", "min_margin", "min_overlap_s", "min_sync_s", "n_frames"}
    names: dict[str, list[Any]] = {}
    for settings in every_settings():
        for name, info in settings.model_fields.items():
            names.setdefault(name, []).append([m for m in info.metadata if isinstance(m, Shared)])
    inherited = set(CropSettings.model_fields)
    for name, marks in names.items():
        assert len(marks) < 2 or all(marks) or name in apart | inherited, f"{name} is set in several stages"


@pytest.mark.parametrize(
    "text, value",
    [("a.b=1e-3", 1e-3), ("a.b=true", True), ("a.b=[1, 2]", [1, 2]), ("a.b=(1, 2)", (1, 2)), ("a.b=x:Y", "x:Y")],
)
def test_a_setting_is_read_alike_everywhere(text: str, value: Any) -> None:
    assert read_setting(text) == (["a", "b"], value)


@pytest.mark.parametrize(
    "pipeline, trainer, said",
    [
        ("speech.vda=silero", "data.codc=patch", "no setting '[a-z.]+'; did you mean '(vad|codec)'"),
        ("spech.vad=silero", "dta.codec=patch", "'(spech|dta)'; did you mean '(speech|data)'"),
        ("speech.vad=silro", "data.codec=ptch", "nothing is called '[a-z]+'; did you mean '(silero|patch)'"),
        ("speech.vad.pth=x", "data.codec.strid=1", "has no setting '[a-z]+'; did you mean '(path|stride)'"),
        ("scan.shot_network={use: none, path: x}", "eval.faces={use: none, path: x}", "would be unused"),
        ("speech.vad=os:getcwd", "data.codec=os:getcwd", "is no class"),
        ("scan.use=x", "run.stage=json:JSONEncoder", "has no setting 'use'|is no TrainingStage: it lacks"),
        ("speech=1", "data=1", "write it as section.setting=value"),
        ("scan.portrait_px=often", "optim.lr=often", "valid (number|integer)"),
    ],
)
def test_pipeline_and_trainer_have_one_grammar_of_settings(pipeline: str, trainer: str, said: str) -> None:
    with pytest.raises((WorkflowError, UseError), match=said):
        resolve(catalog.workflow("conversation"), [pipeline])
    with pytest.raises(ConfigError, match=said):
        override(Evaluated(**vars(toy())), [trainer])


def test_the_trainers_parts_are_chosen_with_their_settings() -> None:
    for one, other in ((["data.codec.stride=[2, 8, 8]"], ["data.codec={use: patch, stride: [2, 8, 8]}"]),
                       (["run.stage=causal"], ["run.stage=lpm_train.training.stages:Causal"])):  # fmt: skip
        a, b = override(toy(), one), override(toy(), other)
        assert from_json(to_json(a)) == a and type(a.data.codec.build()) is type(b.data.codec.build())
    assert a.run.stage.choice == "causal" and a.run.stage != b.run.stage
    assert str(override(toy(), ["data.text=minilm"]).data.text) == "minilm"


def test_shipped_stages_have_the_names_they_are_used_by() -> None:
    found = set()
    for module in pkgutil.walk_packages(stages.__path__, "stages."):
        own = [
            v
            for v in vars(importlib.import_module(module.name)).values()
            if getattr(v, "__module__", "") == module.name
        ]
        found |= {f"{module.name}:{v.__name__}" for v in own if inspect.isclass(v) and hasattr(v, "gate_mode")}
    assert set(stages.SHIPPED.values()) == found
    assert all(load(use).name == name for name, use in stages.SHIPPED.items())  # type: ignore[attr-defined]


def test_a_stage_recorded_where_it_once_lay_is_found() -> None:
    uses = {"pairing": StageSpec(use="stages.pairing:Pairing"), "mine": StageSpec(use="x:Pairing")}
    spec = Workflow(name="w", policy="default", stages=uses)
    assert [s.use for s in catalog.placed(spec).stages.values()] == ["stages.pairing.pairing:Pairing", "x:Pairing"]


def test_a_stage_that_is_not_shipped_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: m\npolicy: default\nstages: {prob: {}, b: {use: scan}}\n")
    with pytest.raises(WorkflowError, match="did you mean 'probe'"):
        catalog.workflow(str(tmp_path / "mine.yaml"))
