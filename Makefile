# make demo    see it work          make test    run the tests          make help    the rest
#
# A fresh machine needs make and a Python of at least 3.11 with venv, nothing else. Everything is
# installed into .venv; delete the folder (make clean) and nothing of it is left.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
UNDERWAY := $(VENV)/installing

PYTHONS ?= python3.13 python3.12 python3.11 python3 python
# A name on the PATH proves little: version switchers leave names behind that lead nowhere, and
# some systems ship Python without venv. So each is asked; PYTHON=... takes one and asks no more.
PYTHON ?= $(shell for python in $(PYTHONS); do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
		>/dev/null 2>&1 </dev/null && { echo "$$python"; break; }; done)

SEEDS ?= 200
SEED_BASE ?= 0
TEST ?=
SYSTEMS ?=
SCENARIOS ?=
# More for the benchmarks: BENCH='--rounds 1 --update-docs'.
BENCH ?=
# Most tests wait for processes of theirs: it takes six at a time to keep two cores busy.
JOBS ?= 6

# Some shells say that Python shall keep no compiled files: then each of the thousands of processes
# that the tests start compiles what it imports, down to the whole of torch.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test check format simulate mutants bench nightly clean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv with everything in it

# The marker is there while pip works. Found at the start, it says that an install was cut short,
# and pip would take half-written packages for whole ones: the folder is made anew. A folder
# without marker and stamp was made by somebody else; its packages are kept and brought up to date.
$(STAMP): pyproject.toml
	@if [ -e $(UNDERWAY) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		if [ -z "$(PYTHON)" ]; then \
			echo "lineshaft needs Python 3.11 or newer with the venv module; none of these is one:" >&2; \
			echo "  $(PYTHONS)" >&2; \
			echo "Install one (Debian and Ubuntu: apt install python3 python3-venv), or name yours:" >&2; \
			echo "  make PYTHON=/path/to/python3.12 $(or $(MAKECMDGOALS),install)" >&2; \
			exit 1; \
		fi; \
		echo "making $(VENV) with $(PYTHON)"; \
		"$(PYTHON)" -m venv --clear $(VENV); \
	fi
	@touch $(UNDERWAY)
	@rm -f $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet -e '.[dev]'
	@touch $(STAMP)
	@rm -f $(UNDERWAY)

demo: $(STAMP) ## Coordinator, two workers and real jobs on this machine
	$(BIN)/lineshaft demo

test: $(STAMP) ## All tests; TEST=tests/unit for a part
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TEST)

check: $(STAMP) ## Format, lint, types, layers, tidiness
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/meta

format: $(STAMP) ## Let ruff format and fix what it can; make the protocol's tables anew
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python docs/generate_messages.py

simulate: $(STAMP) ## The real cores under drawn faults; SEEDS=n SEED_BASE=m
	$(BIN)/python -m tests.simulation $(SEED_BASE) $(SEEDS)

mutants: $(STAMP) ## Plant each bug of the list; every one must be caught
	$(BIN)/python -m pytest tests/simulation/test_simulation.py -k test_a_planted_bug_is_caught
	LINESHAFT_MUTANTS=1 $(BIN)/python -m pytest tests/faults/test_planted.py

bench: $(STAMP) ## Lineshaft beside its peers; SYSTEMS=lineshaft,ray SCENARIOS=noop for a part
	$(BIN)/python -m benchmarks --systems '$(SYSTEMS)' --scenarios '$(SCENARIOS)' $(BENCH)

nightly: $(STAMP) ## Many faults, up to an hour; LINESHAFT_NIGHTLY_SCALE=0.1 for less
	$(BIN)/python -m tests.nightly

clean: ## Remove .venv, caches and built files
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
