# A newcomer's two commands: `make quickstart` and `make test`.
PYTHON ?= python3
TORCH ?= torch==2.13.0# where there is no GPU; "torch==2.13.0+cpu --index-url …" takes PyTorch's own CPU build
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
STAMP := $(VENV)/.installed
comma := ,
DOCS := $(VENV)/.docs
# A file of tests stays in one process, which makes its fixtures once; tests/conftest.py puts the longest files first.
ALL_CORES := -n auto --dist loadfile --no-loadscope-reorder
# A GPU machine's own PyTorch knows its driver: keep it, and see it from the environment.
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -c GPU)

.DEFAULT_GOAL := help
.PHONY: help setup quickstart pictures docs test test-fast lint types clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything in it (quick the second time)

# What runs need and nothing else, for a first result; its modules are compiled as they are imported.
$(RUN): pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'emoshare needs Python 3.11 or newer: make PYTHON=python3.11')"
ifneq ($(GPU),0)
	$(PYTHON) -m venv --system-site-packages $(VENV)
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile $(TORCH)
endif
	$(BIN)/pip install -q --no-compile -e .
	@touch $@

$(STAMP): $(RUN)
	$(BIN)/pip install -q -e ".[dev$(if $(filter 0,$(GPU)),$(comma)openvino)]"
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true # what RUN has left out: tests start many processes
	@touch $@

quickstart: $(RUN) ## 3 systems × 2 windows on a generated corpus, their fusion, table and report
	$(BIN)/emoshare train -m experiment=quickstart
	$(BIN)/emoshare report outputs/quickstart
	@echo 'To go on: source $(BIN)/activate; then `emoshare --help`, and docs/ten-minutes.md'

pictures: quickstart $(DOCS) ## the site's pictures, docs/*.png and docs/flow.svg (two of them need a Chromium)
	$(BIN)/emoshare explain outputs/quickstart/logmel-5.5s-seed0-* data/demo-300-0/wav/44a454.wav --out build/picture
	cp build/picture/44a454.png docs/explain.png
	$(BIN)/python docs/pictures.py

$(DOCS): $(STAMP)
	$(BIN)/pip install -q -e ".[docs]"
	@touch $@

docs: $(DOCS) ## the documentation site, build/docs/index.html
	$(BIN)/python docs/tutorials.py
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs
	$(BIN)/python docs/links.py build/docs

test: $(DOCS) ## all tests, on all cores
	$(BIN)/python -m pytest $(ALL_CORES)

test-fast: setup ## the tests without processes, notebooks, whole runs and slow files (a minute and a half on two cores)
	$(BIN)/python -m pytest $(ALL_CORES) -m "not slow"

lint: setup ## style, and the words of names and texts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python tests/words.py

types: setup ## static types, of the package strictly
	$(BIN)/mypy emoshare tests

clean: ## remove the environment and generated files; outputs/, data/ and cache/ stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
