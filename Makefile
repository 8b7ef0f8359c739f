# Everything below lives in .venv; a target is made again only when what it is made from has changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BENCHES := launch_latency drain scheduling_pass agents logs follow_latency ddp cli_startup rendezvous preflight port_budget sandbox members rules
TORCH  := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help demo install test lint types docs bench lock clean

help:           ## this text
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

demo: $(VENV)/.demo    ## train a real model on two agents on this machine
	@$(BIN)/quorate demo

install: $(VENV)/.demo    ## everything that the demo needs, in .venv
	@echo "installed: $(BIN)/quorate"

test: $(VENV)/.dev lint    ## the whole test suite
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(VENV)/.dev    ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.dev    ## the documentation, in site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.dev    ## every benchmark, one after the other, into bench/results
	@set -e; for name in $(BENCHES); do echo "== $$name"; $(BIN)/python bench/$$name.py; done

lock: $(VENV)/.dev    ## renew constraints.txt from what is installed
	@{ head -n 1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9]*$$//' | sort -f; } > constraints.new
	@mv constraints.new constraints.txt

clean:          ## remove what was made
	rm -rf $(VENV) site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "apt install python3-venv"; rm -rf $(VENV); exit 1; }

# torch before what depends on it: then the build that is chosen here, often one for the CPU, is the one that stays.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing $(TORCH), which takes a while the first time"
	@$(PIP) "$(TORCH)"
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "installing quorate"
	@$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "installing what the tests need"
	@$(PIP) -e '.[demo,dev,docs,test-clouds]'
	@touch $@
