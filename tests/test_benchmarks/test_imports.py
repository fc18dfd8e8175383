"""Benchmarks are programs that no other test starts: what they take from the product must be there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PRODUCT = {"annotators", "curation", "lpm_train", "schemas", "stages", "workflows"}


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("*.py")), ids=lambda f: f.stem)
def test_what_a_benchmark_imports_exists(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PRODUCT:
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
