"""What the core of the distribution does alone, without any package of an extra, and a clear word where one lacks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import ROOT, lpm_well
from engine_case import GOOD
from toy import POLICY, WORKFLOW, write_sources

from curation import extras

BLOCKED = (
    "ai_edge_litert", "av", "cv2", "dlib", "faster_whisper", "ctranslate2", "flatbuffers", "fsspec", "jinja2",
    "mediapipe", "matplotlib", "onnxruntime", "openai", "pandas", "python_speech_features", "ray", "scenedetect",
    "scipy", "sklearn", "soundfile", "tenacity", "torch", "transformers", "diffusers", "webdataset", "ffmpeg",
    "imageio_ffmpeg",
)  # fmt: skip
HEAVY = ("av", "cv2", "mediapipe", "pandas", "pyarrow.dataset", "ray", "scipy", "sklearn", "torch")
BLOCKING = f"""
import sys
class Without:
    found_by = list(sys.meta_path)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            return None
        return next(filter(None, (f.find_spec(name, path, target) for f in self.found_by)), None)
    def find_distributions(self, *context):
        return [d for f in self.found_by if hasattr(f, "find_distributions") for d in f.find_distributions(*context)]
sys.meta_path[:] = [Without()]
from workflows.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("core")
    spec = WORKFLOW.model_dump(mode="json")
    del spec["stages"]["toy_packing"]
    (root / "toy.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    (root / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    lpm_well(
        "run", str(write_sources(root / "in", good=GOOD)), "--out", str(root / "out"), "--engine", "local",
        "--workflow", str(root / "toy.yaml"), "--policy", str(root / "policy.yaml"),
    )  # fmt: skip
    return root / "out"


def core(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `lpm` where no package of an extra can be imported, and without the stages of the dataset's workflow."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, "-c", BLOCKING, *arguments], capture_output=True, text=True, env=env, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--help",), "Conversation video in"),
        (("query", "{out}", "SELECT count(*) AS n FROM segments"), "1 rows"),
        (("status", "{out}"), "kept"),
        (("explain", "{out}", "{segment}"), "outcome: kept"),
        (("schema", "manifest"), "segment_id"),
        (("models", "list"), "licence"),
    ],
)
def test_reading_needs_the_core_alone(dataset: Path, arguments: tuple[str, ...], words: str) -> None:
    segment = lpm_well("query", str(dataset), "SELECT segment_id FROM segments", "--format", "csv").stdout.split('"')[3]
    result = core(*(a.format(out=dataset, segment=segment) for a in arguments))
    assert result.returncode == 0 and words in result.stdout, result.stderr[-3000:] + result.stdout[-3000:]


def test_no_command_reads_at_its_start_what_few_need() -> None:
    """Each of these takes a third of a second or more, at every `lpm`."""
    code = f"import sys, workflows.cli; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_workflow_is_known_without_what_only_the_work_itself_needs() -> None:
    """Every process of a run imports its stages, and these take seconds: commands, workers, those of Ray."""
    heavy = ("matplotlib", "mediapipe", "pandas", "scipy.cluster", "scipy.optimize", "scipy.signal", "sklearn", "torch")
    code = f"""
import sys
from curation.engine.workflow import resolve
from workflows import catalog
for name in ("check", "conversation", "conversation-full", "demo"):
    resolve(catalog.workflow(name))
print([m for m in {heavy} if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_verify_says_that_it_does_not_decode(dataset: Path) -> None:
    result = core("verify", str(dataset))
    assert result.returncode == 1 and "is in no shard; run `lpm pack`" in result.stdout, result.stderr[-3000:]
    assert "not decoded: the package 'av' is not installed" in result.stdout
    assert core("verify", str(dataset), "--media").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("run", "{out}", "--out", "{out}/x", "--workflow", "conversation"), "curate"),
        (("report", "{out}"), "curate"),
        (("train", "run", "{out}", "--out", "{out}/x"), "train"),
    ],
)
def test_a_missing_extra_is_named_in_one_sentence(dataset: Path, arguments: tuple[str, ...], extra: str) -> None:
    result = core(*(a.format(out=dataset) for a in arguments))
    assert result.returncode == 2, result.stderr
    assert f'pip install "openlpm[{extra}]"' in result.stderr and "Traceback" not in result.stderr


def test_every_package_of_an_extra_is_known_by_its_import() -> None:
    assert 'openlpm[ray]"' in extras.not_installed("ray")
    assert 'openlpm[train]"' in extras.not_installed("cv2", prefer="train")
    assert extras.absence(ModuleNotFoundError("No module named 'duckdb'", name="duckdb")) is None
    try:
        try:
            raise ModuleNotFoundError("No module named 'sklearn.svm'", name="sklearn.svm")
        except ImportError as e:
            raise ValueError("a stage cannot start") from e
    except ValueError as e:
        assert extras.absence(e) == "the package 'sklearn' is not installed: pip install \"openlpm[curate]\""


def test_a_package_that_does_not_load_is_not_called_missing() -> None:
    said = extras.absence(ImportError("libGL.so.1: cannot open shared object file", name="cv2"))
    assert said is not None and "libGL.so.1" in said and "opencv-contrib-python-headless" in said


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("schemas", ("-c", "from curation import Dataset")),
        ("stages", ("-c", "from curation import Dataset")),
        ("schemas", ("-m", "workflows.cli", "--help")),
        ("curation", ("-m", "workflows.cli", "--help")),
    ],
)
def test_a_folder_of_our_name_is_named(tmp_path: Path, name: str, program: tuple[str, str], regular: bool) -> None:
    theirs = tmp_path / name if regular else tmp_path / f"{name}.py"
    if regular:
        theirs.mkdir()
        (theirs / "__init__.py").touch()
    else:
        theirs.touch()
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    result = subprocess.run([sys.executable, *program], capture_output=True, text=True, env=env, check=False, cwd="/")
    assert result.returncode == 1
    assert f"{theirs} stands before OpenLPM's own package {name!r}" in result.stderr
    assert ("Traceback" in result.stderr) == (program[0] == "-c")


@pytest.mark.slow
def test_the_wheel_alone_answers_queries(dataset: Path, tmp_path: Path) -> None:
    def run(*command: str | Path) -> str:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=env)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    pip: tuple[str | Path, ...] = (sys.executable, "-m", "pip")
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # a wheel takes what an earlier one left there
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    pip = (*pip, "--python", tmp_path / "venv" / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-warn-script-location", "-c", ROOT / "constraints.txt", wheel)
    installed = {d["name"].lower() for d in json.loads(run(*pip, "list", "--format", "json"))}
    assert not installed & {"torch", "ray", "mediapipe", "av", "scipy", "pandas"} and "openlpm" in installed
    assert "opencv" not in " ".join(installed)
    lpm = tmp_path / "venv" / "bin" / "lpm"
    said = run(lpm, "query", dataset, "SELECT count(*) AS n FROM segments", "--format", "csv")
    assert int(said.split()[1]) > 0
    assert "kept" in run(lpm, "status", dataset)
