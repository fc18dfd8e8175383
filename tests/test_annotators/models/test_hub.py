"""Model directories by path, from the hub's cache, and gated ones with a token that nobody gets to see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT
from hub_server import COMMIT, gated_hub

from annotators.models import hub
from annotators.models.weights import WeightsNotFound

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"
FILES = {"config.yaml": b"pipeline: {name: x}\n", "segmentation/pytorch_model.bin": b"weights" * 1000}
ASK = """
import sys
from annotators.models import hub
try:
    print(hub.gated("acme/diarizer"))
except Exception as e:
    print(f"{type(e).__name__}: {e}")
"""


def ask(home: Path, address: str, token: str | None = None) -> str:
    """Ask a process of its own, since huggingface_hub reads its environment when it is imported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    given = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
    secret = {} if token is None else {"HF_TOKEN": token}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**kept, **given, **secret},
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert token is None or token not in done.stdout + done.stderr
    return done.stdout.strip()


def test_a_gated_model_is_fetched_with_the_token_and_then_is_here(tmp_path: Path) -> None:
    with gated_hub("acme/diarizer", FILES, TOKEN) as address:
        folder = Path(ask(tmp_path, address, TOKEN))
        assert folder.name == COMMIT
        assert {n: (folder / n).read_bytes() for n in FILES} == FILES
    assert ask(tmp_path, address) == str(folder)  # without token and network
    holds = [f for f in tmp_path.rglob("*") if f.is_file() and TOKEN.encode() in f.read_bytes()]
    assert not holds


def test_without_token_network_or_permission_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    with gated_hub("acme/diarizer", FILES, TOKEN) as address:
        told = {
            "set HF_TOKEN": ask(tmp_path, address),
            "the hub answered 403: accept the model's conditions": ask(tmp_path, address, "hf_wrong0123456789"),
        }
    told["the hub cannot be reached"] = ask(tmp_path, address, TOKEN)
    for wanted, said in told.items():
        assert wanted in said and said.startswith("WeightsNotFound: acme/diarizer") and "\n" not in said, said


def test_a_directory_is_found_by_path_and_in_the_models_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("OPENLPM_MODELS", str(tmp_path))
    assert hub.directory(str(tmp_path / "mine")) == hub.directory("mine") == tmp_path / "mine"
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(WeightsNotFound, match="is no directory"):
        hub.directory("file")
    with pytest.raises(WeightsNotFound, match="no model directory 'nowhere'"):
        hub.gated("nowhere")
