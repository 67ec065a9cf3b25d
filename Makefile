# The two commands: make book, make test.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3.11
PRESET ?= laptop
JOBS ?= 2
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
ifdef TORCH_INDEX
INSTALL += --extra-index-url $(TORCH_INDEX)
endif
export PYTHONDONTWRITEBYTECODE := 1
# one thread for each process: several run side by side, and results do not depend on the number of cores
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE
export IPYTHONDIR := $(CURDIR)/ipython
# with it, figures would silently vanish from every notebook
unexport MPLBACKEND

.PHONY: help setup book test test-long test-lowest verify lint unit chapters site bench refs lab clean

help:
	@echo "make book       execute every chapter and build the pages (PRESET=smoke|laptop|paper)"
	@echo "make test       all tests: lint, mathematics, smoke runs against their references, the built pages"
	@echo "make setup      the environment only, in .venv (TORCH_INDEX=URL: another wheel index for torch)"
	@echo "make lab        open the chapters in JupyterLab"
	@echo "make verify     laptop runs; fails if one verdict is not the recorded one"
	@echo "make test-long  the tests that take minutes      make bench  benchmarks"
	@echo "make test-lowest  the tests with the lowest versions that pyproject.toml allows, in .venv-lowest"
	@echo "make refs       rewrite chapters/*/expected.txt  make clean  remove what was built"

setup: .venv/.installed
ifdef TORCH_INDEX
	@if [ "$$(cat .venv/.torch-index)" != '$(TORCH_INDEX)' ]; then \
	  $(BIN)/python -m pip uninstall -q -y torch && $(INSTALL) -e '.[book,cluster,course,data,dev]' && echo '$(TORCH_INDEX)' > .venv/.torch-index; fi
endif

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[book,cluster,course,data,dev]'
	echo '$(TORCH_INDEX)' > .venv/.torch-index
	touch $@

book: setup
	$(BIN)/traindyn book --preset $(PRESET)

test: lint unit chapters site

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/lint_notebooks.py

unit: setup
	$(BIN)/python -m pytest -rs -n $(JOBS) --dist worksteal -m 'not long' --ignore tests/book tests
	$(BIN)/python -m pytest --doctest-modules lib

# every chapter at the smoke preset, its verdict cell compared with chapters/*/expected.txt
chapters: setup
	$(BIN)/traindyn nbval
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300 _build/nbval

site: setup
	$(BIN)/traindyn book --preset smoke
	$(BIN)/python -m pytest -rs tests/book

test-long: setup
	$(BIN)/python -m pytest -n $(JOBS) -m long tests

# what a library of old packages makes of it: direct dependencies at their lower bounds, the rest as pip resolves it
test-lowest: setup
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	mkdir -p _build
	$(BIN)/python tests/lowest.py > _build/lowest.txt
	.venv-lowest/bin/python -m pip install -q --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	  -c _build/lowest.txt -e '.[book,cluster,course,data,dev]'
	.venv-lowest/bin/python -m pytest -rs -n $(JOBS) --dist worksteal -m 'not long' --ignore tests/book tests

verify: setup
	$(BIN)/traindyn verify --preset $(PRESET)

bench: setup
	for script in bench/*.py; do $(BIN)/python $$script; done

refs: setup
	$(BIN)/traindyn nbval --update

lab: setup
	$(INSTALL) -e '.[book,cluster,course,data,dev,lab]'
	$(BIN)/jupyter lab --notebook-dir chapters

clean:
	rm -rf _build
