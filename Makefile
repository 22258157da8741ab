# What a user does with Q-Zoom Serve. `make help` lists the targets.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
QZOOM := $(VENV)/bin/qzoom
PACKAGES := qzoom services gateway training evaluation cli deploy benchmarks

.DEFAULT_GOAL := help
.PHONY: help env env-dev demo serve test test-all check fmt proto docs train evaluate bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# The stamps hold what was installed; a change of the pins installs again.
$(VENV)/.env-stamp: pyproject.toml requirements/constraints.txt scripts/env.sh
	@scripts/env.sh $(VENV) all
	@touch $@

$(VENV)/.env-dev-stamp: $(VENV)/.env-stamp
	@scripts/env.sh $(VENV) dev
	@touch $@

env: $(VENV)/.env-stamp  ## make .venv with what running needs (.venv/bin/qzoom)

env-dev: $(VENV)/.env-dev-stamp  ## add the developers' tools to .venv

demo: env  ## start the system, ask example questions over REST and gRPC, show what happened
	@$(QZOOM) demo

serve: env  ## serve the built-in model on this machine until Ctrl-C
	@$(QZOOM) serve

test: env-dev  ## unit, parity and integration tests (at most 15 minutes on 2 cores)
	$(PY) -m pytest -m "not slow and not gpu"

test-all: env-dev  ## everything in `test`, then chaos, fuzzing, browser and soak (at most 45 minutes more)
	@scripts/system-packages.sh
	$(PY) -m pytest -m "not gpu"

check: env-dev  ## format, lint, types, import rules, generated code up to date
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	@$(MAKE) --no-print-directory proto
	git diff --exit-code -- qzoom/pb

fmt: env-dev  ## format and mend what can be mended
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# The virtual include path qzoom/pb=proto makes the generated imports absolute and correct.
proto: env-dev  ## regenerate qzoom/pb from proto/
	$(PY) -m grpc_tools.protoc -I qzoom/pb=proto --python_out=. --pyi_out=. --grpc_python_out=. \
		$(patsubst proto/%,qzoom/pb/%,$(wildcard proto/*.proto))

docs: env-dev  ## regenerate what is generated: parts of docs/api.md, the playground's pictures
	$(PY) scripts/api_document.py
	$(PY) scripts/web_examples.py

train: env  ## train the built-in model from nothing (resumes where it was stopped)
	@$(QZOOM) train all --recipe built-in --resume

evaluate: env  ## accuracy and cost of the built-in model on fresh test pictures
	@$(QZOOM) evaluate

bench: env  ## what each stage costs on this machine
	@$(QZOOM) bench

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
