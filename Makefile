# Every target makes the environment by itself, the first time; `make help` lists them.
# A folder with spaces in its path is fine: nothing here is named by an absolute path.
#
#   make test PYTHON=python3.11 VENV=.venv-3.11      another Python, beside the first

PYTHON ?=
VENV ?= .venv
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

PY := "$(VENV)/bin/python"
NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/examples/*.ipynb)

# Notebooks run on the environment's own kernel, whatever else the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env demo test lint format types imports pytest notebooks pairs bench constraints clean distclean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

env: ## the environment in .venv: made, brought up to date, or left alone
	@sh .ci/environment.sh "$(VENV)" "$(PYTHON)"

demo: env ## build a small cube from the sample data into ./demo and read it back
	@$(PY) -m cubes demo $(DEMO_ARGS)

test: lint types imports pytest pairs notebooks ## everything that has to pass

lint: env ## ruff
	@echo "== lint"
	@$(PY) -m ruff check .

format: env ## ruff: mend what can be mended, sort imports
	@$(PY) -m ruff check --fix .

types: env ## mypy, strict
	@echo "== types"
	@$(PY) -m mypy

imports: env ## import-linter: cubes > chunking > loaders
	@echo "== imports"
	@$(PY) -c 'from importlinter.cli import lint_imports_command as main; main()' --no-logo

pytest: env ## the tests; more with PYTEST_ARGS="--run-slow"
	@echo "== tests"
	@$(PY) -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

pairs: env ## notebooks and their scripts are in step
	@echo "== pairs of notebooks and scripts"
	@$(PY) .ci/check_pairs.py notebooks

notebooks: env ## run the notebooks
	@echo "== notebooks"
ifeq ($(NOTEBOOKS),)
	@echo "no notebooks yet: skipped"
else
	@$(PY) -m pytest --nbmake $(NOTEBOOKS)
endif

bench: env ## benchmarks/RESULTS.md: layouts, peers, limits of the machine; 40 minutes
	@$(PY) benchmarks/run_all.py $(BENCH_ARGS)

constraints: ## renew constraints.txt from the newest versions, on Python 3.11 and on the newest Python
	@sh .ci/renew_constraints.sh

clean: ## remove caches, builds and ./demo; keep the environments
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -path './.venv*' -prune -o -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## the same, and the environments that were made here
	rm -rf .venv .venv-*
