# The user's commands. Each target is one Python command, shown by `make -n <target>`, that works without make too.
PYTHON  ?= python3
VENV    ?= .venv
PY      := $(VENV)/bin/python
SCALE   ?= mini
SEEDS   ?= 3
JOBS    ?= 0
LAUNCH  ?= local
NODES   ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup reproduce status list rehearse plan speed dashboard report new test test-slurm lint clean

help:
	@echo "make setup                       create $(VENV) and install everything, pinned"
	@echo "make reproduce PAPER=mobilesam   run a paper's experiment and judge its claims; PAPER=all: whatever is out of date, two recipes at a time"
	@echo "make status PAPER=mobilesam      where the stages stand that LAUNCH=slurm has submitted"
	@echo "make list                        every recipe: modality, scales that ran here, verdicts"
	@echo "make rehearse PAPER=mobilesam    run the paper-scale configs on stand-ins, on the CPU, in 1 to 3 minutes; PAPER=all: every recipe"
	@echo "make plan PAPER=mobilesam        what the paper-scale recipe will cost: GPU=h100 DEVICES=n PRICE=<of a GPU hour>"
	@echo "make speed PAPER=mobilesam       measure sizes and speeds at the paper's scale, and what our own layers cost"
	@echo "make dashboard PAPER=mobilesam   a W&B report that compares the arms; OFFLINE=1: an HTML page from offline runs"
	@echo "make report [PAPER=mobilesam]    render the reports again from what was measured"
	@echo "make new PAPER=name              create a recipe that runs, to fill in"
	@echo "make test                        run the test suite"
	@echo "make test-slurm                  run the tests that start a two-node SLURM (root; Debian: apt-get install slurmctld slurmd slurm-client munge)"
	@echo "make lint                        ruff, mypy, import contracts"
	@echo "make clean                       remove runs, reports and caches (results and $(VENV) stay)"
	@echo
	@echo "variables: PAPER  SCALE=mini|rehearsal|paper  SEEDS=3  ARMS=\"a b\"  DATA=coco DATA_ROOT=<folder>  WEIGHTS_ROOT=<folder>"
	@echo "           DEVICES=n  JOBS=n (stages side by side)  ARGS=\"--trainer.precision bf16-mixed\"  RUNS=<folder>  DRY_RUN=1  FORCE=1"
	@echo "           LAUNCH=local|torchrun|slurm; with slurm: NODES=n  PARTITION=  TIME=1-00:00:00  ACCOUNT=  SBATCH_ARGS=\"--mem=64G\""

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=<python> ...")'
	@echo "setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --constraint requirements.lock --editable ".[dev]"
	@touch $@

setup: $(VENV)/installed

need-paper = $(if $(PAPER),,$(error say which paper: make $@ PAPER=mobilesam (make list shows all)))

reproduce: setup
	$(need-paper)
	@$(PY) -m benchmarks.reproduce "$(PAPER)" --scale "$(SCALE)" --seeds "$(SEEDS)" --arms "$(ARMS)" --data "$(DATA)" \
	  --data-root "$(DATA_ROOT)" --devices "$(DEVICES)" --jobs "$(JOBS)" --args="$(ARGS)" $(if $(DRY_RUN),--dry-run) $(if $(FORCE),--force) \
	  --launch "$(LAUNCH)" --nodes "$(NODES)" --partition "$(PARTITION)" --time "$(TIME)" --account "$(ACCOUNT)" --sbatch-args="$(SBATCH_ARGS)"

status: setup
	$(need-paper)
	@$(PY) -m benchmarks.status "$(PAPER)"

rehearse: setup
	$(need-paper)
	@$(PY) -m benchmarks.reproduce "$(PAPER)" --scale rehearsal --arms "$(ARMS)" --jobs "$(JOBS)" $(if $(DRY_RUN),--dry-run) $(if $(FORCE),--force)

plan: setup
	$(need-paper)
	@$(PY) -m benchmarks.plan "$(PAPER)" --gpu "$(GPU)" --devices "$(DEVICES)" --price "$(PRICE)" --seeds "$(SEEDS)" --arms "$(ARMS)"

speed: setup
	$(need-paper)
	@$(PY) -m benchmarks.speed "$(PAPER)"

list: setup
	@$(PY) -m benchmarks.catalogue

dashboard: setup
	$(need-paper)
	@$(PY) -m scripts.wandb_report "$(PAPER)" $(if $(OFFLINE),--offline)

report: setup
	@$(PY) -m benchmarks.report $(PAPER)

new: setup
	$(need-paper)
	@$(PY) -m scripts.new_recipe "$(PAPER)"

test: setup
	@$(PY) -m pytest -n auto --dist loadfile -m "not slurm"

test-slurm: setup
	@$(PY) -m pytest -p no:xdist -m slurm

lint: setup
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

clean:
	rm -rf runs reports .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
