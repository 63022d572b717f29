# layercast: the commands that must always work, each from a bare clone with Python >= 3.10 and pip.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-models check lint proto clean bench bench-full

# One stamp per extra, so that a second `make` installs nothing, unless what is compiled changed.
$(VENV)/.installed-%: pyproject.toml setup.py $(shell find sdk -name '*.[ch]')
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@

demo: $(VENV)/.installed-all
	$(BIN)/layercast demo --out demo-out

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

# Network definitions, training and export: the only part that needs PyTorch.
test-models: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pytest tests/models

lint: $(VENV)/.installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python proto/generate.py --check

check: lint test

proto: $(VENV)/.installed-check
	$(BIN)/python proto/generate.py

# BENCHMARKS.md: what 20 minutes on two cores can refresh, and everything. Without KODAK (the 24 pictures) the
# pictures in the package are used, and without CLIPS the clip in it. LEARNED=1 also installs PyTorch and CompressAI,
# which two parts measure beside layercast where they find them.
KODAK ?= ../shared/data/kodak
CLIPS ?= $(wildcard ../shared/data/video/test/*.mp4)
PICTURES = $(if $(wildcard $(KODAK)),--pictures $(KODAK))

$(VENV)/.installed-learned: $(VENV)/.installed-bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 scipy
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps compressai
	touch $@

bench: $(VENV)/.installed-$(if $(LEARNED),learned,bench)
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.rd $(PICTURES)
	$(BIN)/python -m benchmarks.progressive
	$(BIN)/python -m benchmarks.video
	$(BIN)/python -m benchmarks.entropy
	$(BIN)/python -m benchmarks.keep control/simulated python -m benchmarks.control
	$(BIN)/python -m benchmarks.render

bench-full: $(VENV)/.installed-$(if $(LEARNED),learned,bench)
	$(BIN)/python -m benchmarks.rd $(PICTURES) --peers again
	$(BIN)/python -m benchmarks.proof
	$(BIN)/python -m benchmarks.exactness $(PICTURES)
	$(BIN)/python -m benchmarks.video $(CLIPS) --peers again
	$(MAKE) bench

clean:
	rm -rf $(VENV) demo-out .pytest_cache .mypy_cache .ruff_cache
