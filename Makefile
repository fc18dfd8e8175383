# Every verb does its own set-up: a fresh machine needs Python 3.11, make, pip and a network to PyPI, nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
FULL := .venv-full
SHELL := /bin/bash
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup setup-full models demo toy test test-slow test-full lint bench clean

# torch first and with its dependencies (they differ by platform); then the whole pinned set as it is: mediapipe and
# scenedetect would otherwise pull a second OpenCV that needs a display.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== $(VENV): installing torch (a few minutes at most)"
	@$(BIN)/pip install --quiet --no-warn-script-location -c constraints.txt torch
	@echo "== $(VENV): installing the pinned packages"
	@$(BIN)/pip install --quiet --no-warn-script-location --no-deps -r constraints.txt
	@$(BIN)/pip install --quiet --no-warn-script-location --no-deps --editable .
	@touch $@

# The small set's packages, as links where the file system has them, and what the full set adds; it changes none of them.
# Every torchaudio wheel for this torch is linked with CUDA: on a torch without it its libraries are deleted, and it
# takes its own path without them.
$(FULL)/.ready: $(STAMP) constraints-full.txt
	@rm -rf $(FULL) && $(PYTHON) -m venv $(FULL)
	@into=$$(echo $(FULL)/lib/python*/site-packages); small="$(VENV)/$${into#$(FULL)/}/."; \
	  cp -alf "$$small" "$$into" 2>/dev/null || cp -a "$$small" "$$into"
	@echo "== $(FULL): installing what the full set adds"
	@$(FULL)/bin/pip install --quiet --no-warn-script-location --no-deps -r constraints-full.txt
	@$(FULL)/bin/pip install --quiet --no-warn-script-location --no-deps --editable .
	@$(FULL)/bin/python -c "import torch; exit(torch.version.cuda is None)" || \
	  rm -f $(FULL)/lib/python*/site-packages/torchaudio/lib/*.so
	@touch $@

setup: $(STAMP)
	@echo "ready: $(BIN)/lpm"

# Beside the small set, in an environment of its own: every back-end that can be chosen.
setup-full: $(FULL)/.ready
	@echo "ready: $(FULL)/bin/lpm"

models: setup
	@$(BIN)/lpm models fetch

demo: setup
	@$(BIN)/lpm demo

toy: setup
	@$(BIN)/python -m lpm_train.proof.toy build/toy

test: models
	@$(BIN)/pytest -n 2 --dist loadfile

test-slow: models
	@$(BIN)/pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder

# What needs the full set; nothing is skipped there for want of a package.
test-full: setup-full
	@$(FULL)/bin/lpm models fetch
	@$(FULL)/bin/python -m pytest -m full -n 2 --dist loadfile

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file benchmarks/mypy.ini

bench: models
	@$(BIN)/python benchmarks/throughput.py
	@$(BIN)/python benchmarks/accuracy.py

clean:
	rm -rf $(VENV) $(FULL) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
