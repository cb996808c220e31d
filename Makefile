PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 3
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo all deploy up down check audit docs test test-slow bench faults

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed  ## create .venv with everything, as in constraints.txt (PYTHON=python3.12 chooses one)

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "PYTHON = $(PYTHON): Python 3.11 or newer is needed; name one: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "PYTHON = $(PYTHON): it has no venv; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@echo 'installing into .venv; on Linux the package index holds the CUDA build of torch, several GB' >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv >&2
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[all]' >&2
	@touch $@

demo: install  ## from an agent's logs to a released version, on this machine (SEED=3 JSON=FILE FRESH=1 QUICK=1)
	@$(BIN)/rlfleet demo $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json '$(JSON)') $(if $(FRESH),--fresh) $(if $(QUICK),--quick)

all: install  ## from demonstrations over SFT to PPO on eight environments (BASE=FOLDER|HUB_ID, or QUICK=1: minutes on a CPU; JSON=FILE FRESH=1)
	@$(BIN)/rlfleet run pipelines/affine.toml $(if $(BASE),--base '$(BASE)') $(if $(QUICK),--quick) $(if $(FRESH),--fresh) $(if $(JSON),--json > '$(JSON).new' && mv '$(JSON).new' '$(JSON)')

deploy: install  ## publish a version to the Hugging Face Hub (VERSION=v1.0.3 HUB=ORG/NAME PRIVATE=1 MERGED=1 JSON=FILE); HF_TOKEN is the token
	@test -n '$(VERSION)' && test -n '$(HUB)' || { echo 'name both: make deploy VERSION=v1.0.3 HUB=ORG/NAME' >&2; exit 2; }
	@$(BIN)/rlfleet publish '$(VERSION)' --hub '$(HUB)' $(if $(PRIVATE),--private) $(if $(MERGED),--merged) $(if $(JSON),--json > '$(JSON).new' && mv '$(JSON).new' '$(JSON)')

up: install  ## start Postgres, Valkey, workers, beats, Flower, gateway and admin on this machine
	@$(BIN)/rlfleet up

down: install  ## stop what `make up` started, in order; data stay
	@$(BIN)/rlfleet down

check: install  ## lint, formatting, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports --no-logo

audit: install  ## what is publicly known against the pinned packages, in build/audit.json; needs the network (exit 1: findings, 2: not asked)
	@$(BIN)/python .ci/audit.py

docs: install  ## the site of docs/ in build/docs, with what follows from code written anew; a broken link fails it
	@$(BIN)/python -m fleet.reference
	@$(BIN)/python -m mkdocs build --strict --quiet

test: install  ## the tests that take minutes together, in so many processes (WORKERS=3)
	@$(BIN)/python -m pytest -m 'not slow' -n $(WORKERS) --dist loadfile

test-slow: install  ## the tests that take minutes each, in so many processes (WORKERS=3)
	@$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist loadfile

bench: install  ## what jobs, reading, training, the engine and the loop cost beside their peers, and how releases err (PARTS=jobs,engine JSON=FILE QUICK=1)
	@$(BIN)/python -m bench $(if $(PARTS),--parts $(PARTS)) $(if $(QUICK),--quick) $(if $(JSON),--json '$(JSON)')

faults: install  ## break real servers and workers, and count effects (SEED=3 MINUTES=10 JSON=FILE QUICK=1)
	@$(BIN)/python -m bench.faults $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(JSON),--json '$(JSON)') $(if $(QUICK),--quick)
