# Everything a newcomer needs: `make demo`, `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := nnunet_ext dataset_conversion benchmarks tests setup.py
# threads of torch multiply with the workers of xdist
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help demo test check format-check lint types tests format tables learn kills mutants clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: $(VENV)/.installed  ## the main job on phantoms, or on `DATA=/path/to/BraTS`
	$(BIN)/python benchmarks/demo.py --root demo $(if $(DATA),--data "$(DATA)") $(DEMO_FLAGS)

test: tests  ## environment, installation and all tests

check: format-check lint types tests  ## what CI runs

format-check lint types tests: $(VENV)/.installed-test

format-check:
	$(BIN)/ruff format --check $(SOURCES)

lint:
	$(BIN)/ruff check $(SOURCES)

types:
	$(BIN)/mypy

tests:
	$(PYTEST) -n auto --maxprocesses 4 --dist worksteal $(PYTEST_FLAGS)

format: $(VENV)/.installed-test  ## rewrite the sources in the project's format
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

tables: $(VENV)/.installed-test  ## rewrite the tables of networks (package, README, docs) from the built networks
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/shares.py
	$(BIN)/python benchmarks/documents.py

mutants: $(VENV)/.installed-test  ## plant each fault of tests/mutants.json in a copy and look whether the tests see it
	$(BIN)/python -m tests.mutants --jobs $$(nproc)

learn: $(VENV)/.installed-test  ## can every network overfit one phantom?
	$(BIN)/python benchmarks/learn.py --jobs $$(nproc) --out benchmarks/results/learn.json

kills: $(VENV)/.installed-test  ## 100 kills at random moments, each training continued to the same bytes
	$(BIN)/python benchmarks/kills.py --kills 100 --out benchmarks/results/kills.json

clean:  ## remove what the targets made
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
