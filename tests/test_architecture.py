"""The house's rules that code can check: imports go down only, one OpenCV, documentation that matches."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest

from schemas.document import data_contract

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "schemas": set(),
    "curation": {"schemas"},
    "annotators": {"schemas"},
    "stages": {"schemas", "curation", "annotators"},
    "workflows": {"schemas", "curation", "annotators", "stages", "lpm_train"},
    "lpm_train": {"schemas"},
}


def imported(file: Path) -> set[str]:
    out = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            out |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            out.add(node.module.split(".")[0])
    return out


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_imports_go_down_only(package: str) -> None:
    ours = set(MAY_IMPORT)
    for file in (ROOT / package).rglob("*.py"):
        up = (imported(file) & ours) - MAY_IMPORT[package] - {package}
        assert not up, f"{file.relative_to(ROOT)} imports {up}"


ROOMS = ("encoders", "network", "data", "streaming", "training", "tools", "proof")
"""Of the trainer: each may import those before it, and what lies beside them; `extras` is loaded where asked for."""


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_trainer_import_down_only(room: str) -> None:
    above = tuple(f"lpm_train.{name}" for name in ROOMS[ROOMS.index(room) + 1 :])
    for file in (ROOT / "lpm_train" / room).rglob("*.py"):
        for line in file.read_text(encoding="utf-8").split("\n"):
            words = line.split()
            assert words[:1] != ["from"] or not words[1].startswith(above or "-"), f"{room}/{file.name}: {line}"


def test_the_trainer_does_not_rest_on_the_tools_around_it() -> None:
    for file in (ROOT / "lpm_train").glob("*.py"):
        for line in file.read_text(encoding="utf-8").split("\n"):
            if line.lstrip().startswith(("from lpm_train.tools", "import lpm_train.tools")):
                assert file.name == "cli.py" and line.startswith("    "), f"{file.name} imports a tool: {line}"


def test_no_module_of_the_trainer_imports_in_a_circle() -> None:
    files = {".".join(f.relative_to(ROOT).with_suffix("").parts): f for f in (ROOT / "lpm_train").rglob("*.py")}
    needs = {}
    for name, file in files.items():
        found = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)]
        needs[name] = {m for n in found for m in (n.module, *(f"{n.module}.{a.name}" for a in n.names)) if m in files}
    TopologicalSorter(needs).prepare()


def test_every_module_says_what_it_is() -> None:
    for package in MAY_IMPORT:
        for file in (ROOT / package).rglob("*.py"):
            assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file


def test_the_page_of_where_things_live_is_that_of_the_code() -> None:
    made = runpy.run_path(str(ROOT / "benchmarks" / "code_map.py"))["code_map"]()
    page = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8")
    assert page == made, "run: python benchmarks/code_map.py > docs/code-map.md"


@pytest.mark.parametrize("package", ["annotators", "curation", "lpm_train", "schemas", "stages", "workflows"])
def test_no_room_is_crowded(package: str) -> None:
    for folder in (f for f in (ROOT / package).rglob("*") if f.is_dir()):
        assert len(list(folder.glob("*.py"))) <= 17, f"{folder.relative_to(ROOT)}: make a room of what belongs together"


def test_tests_lie_in_rooms_of_the_same_names() -> None:
    for folder in (f for f in (ROOT / "tests").rglob("*/") if list(f.glob("test_*.py"))):
        package, *room = folder.relative_to(ROOT / "tests").parts or ("",)
        home = ROOT.joinpath(package.removeprefix("test_"), *room)
        assert home.is_dir() or package in {"", "test_footage_runs"}, f"{folder}: no {home}"


def test_one_opencv_without_a_display() -> None:
    names = {d.metadata["Name"] for d in metadata.distributions()}
    assert {n for n in names if n.startswith("opencv")} == {"opencv-contrib-python-headless"}


def test_data_contract_page_is_current() -> None:
    page = (ROOT / "docs" / "data-contract.md").read_text(encoding="utf-8")
    assert page == data_contract(), "run: python -m schemas.document > docs/data-contract.md"


def test_no_machine_path_and_no_registry_host_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    for name in filter(None, tracked):
        file = ROOT / name
        if file.is_file() and file.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".sh", ""}:
            text = file.read_text(encoding="utf-8", errors="ignore")
            for word in ("/" + "work/", "/" + "root/", "file:" + "///opt"):
                assert word not in text, f"{name} holds {word}"


@pytest.mark.parametrize(
    ("what", "without"),
    [
        ("import curation, schemas.tables", ("torch", "ray", "cv2")),
        # Whoever plans work, or commits it, runs no network: each process of a cluster's workers would pay for it.
        (
            "from curation.engine.workflow import resolve; from workflows import catalog; "
            "resolve(catalog.workflow('conversation'))",
            ("torch", "mediapipe", "ray"),
        ),
    ],
)
def test_importing_the_packages_is_light(what: str, without: tuple[str, ...]) -> None:
    code = f"{what}; import sys; print([m for m in {without} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
