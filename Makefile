# The words are the same everywhere: install, demo, test, check, build. `make` lists them.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data
WHEELHOUSE ?= wheelhouse

.DEFAULT_GOAL := help
.PHONY: help install demo test cover check bench results soak docs build wheelhouse clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## a virtual environment in .venv, pinned by constraints.txt

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install ## five steelworks train one model under differential privacy
	$(BIN)/jangin demo

TESTS = -n 2 --dist loadfile --no-loadscope-reorder --doctest-modules tests --pyargs jangin

test: install ## every test
	$(BIN)/pytest $(TESTS)

cover: install ## the same with line coverage, which takes longer
	$(BIN)/pytest --cov --cov-report=term:skip-covered --cov-fail-under=85 $(TESTS)

check: install ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p jangin
	$(BIN)/lint-imports --no-logo

bench: install ## speed, as ratios within one run, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

results: install ## the accuracy tables of README, two seeds, on the sets in DATA
	$(BIN)/python benchmarks/accuracy.py $(DATA)
	$(BIN)/python benchmarks/regimes.py

soak: install ## fuzz and kill tests at full size, and further cases
	HYPOTHESIS_PROFILE=soak $(BIN)/pytest -n 2 --dist loadfile -m "fuzz or kill or soak" tests

docs: install ## the documentation as pages in site/
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

build: install ## sdist, the wheel built from it, installed elsewhere, every module imported
	rm -rf dist build/elsewhere
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/elsewhere dist/*.whl
	cd build && ../$(BIN)/python -I ../.ci/import_every_module.py elsewhere

wheelhouse: install ## all wheels that a site without network installs, for machines like this one, with their SHA-256
	rm -rf $(WHEELHOUSE)
	$(BIN)/pip wheel --quiet --disable-pip-version-check -c constraints.txt --wheel-dir $(WHEELHOUSE) .
	@if ls $(WHEELHOUSE) | grep '^nvidia'; then echo 'error: this is the CUDA build of torch, several gigabytes: put its CPU build into reach of pip first' >&2; exit 1; fi
	cd $(WHEELHOUSE) && sha256sum *.whl > SHA256SUMS

clean: ## what was built
	rm -rf dist build site wheelhouse .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
