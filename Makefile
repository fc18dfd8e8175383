# Every verb does its own set-up: a fresh machine needs Python 3.11, make, pip and a network to PyPI, nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
SHELL := /bin/bash
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup setup-diarization setup-enhancement models demo toy test test-slow test-diarization test-enhancement lint bench clean

# torch first and with its dependencies (they differ by platform); then the whole pinned set as it is: mediapipe and
# scenedetect would otherwise pull a second OpenCV that needs a display.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== installing torch (a few minutes at most)"
	@$(BIN)/pip install --quiet --no-warn-script-location -c constraints.txt torch
	@echo "== installing the pinned packages"
	@$(BIN)/pip install --quiet --no-warn-script-location --no-deps -r constraints.txt
	@$(BIN)/pip install --quiet --no-warn-script-location --no-deps --editable .
	@touch $@

setup: $(STAMP)
	@echo "ready: $(BIN)/lpm"

# pyannote.audio, for `speech.diarizer: pyannote`. Every torchaudio wheel is linked with CUDA: on a torch without it
# its libraries are deleted, and it takes its own path without them.
setup-diarization: setup
	@$(BIN)/pip install --quiet --no-warn-script-location --no-deps -r constraints-diarization.txt
	@$(BIN)/python -c "import torch; exit(torch.version.cuda is None)" || rm -f $(VENV)/lib/python*/site-packages/torchaudio/lib/*.so

# DeepFilterNet, for `packing.enhancer: deepfilternet`.
setup-enhancement: setup
	@$(BIN)/pip install --quiet --no-warn-script-location --no-deps -r constraints-enhancement.txt

models: setup
	@$(BIN)/lpm models fetch

demo: setup
	@bash workflows/demo.sh $(BIN)/lpm

toy: setup
	@$(BIN)/python -m lpm_train.proof.toy build/toy

test: models
	@$(BIN)/pytest -n 2 --dist loadfile

test-slow: models
	@$(BIN)/pytest -m slow

test-diarization: setup-diarization models
	@$(BIN)/pytest tests/test_annotators/speech/test_diarizers.py

test-enhancement: setup-enhancement models
	@$(BIN)/pytest tests/test_annotators/sound/test_enhancers.py

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: models
	@$(BIN)/python benchmarks/throughput.py
	@$(BIN)/python benchmarks/accuracy.py

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
