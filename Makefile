# Every verb a person or CI needs. `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
UV = $(or $(wildcard $(BIN)/uv),uv)
SUITE ?= core
MESSAGES ?= 3000
ARGS ?=

.PHONY: help setup run test test-fast test-e2e lint fmt proto proto-check clients docs bench ledger ci clean lock

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.runtime: requirements.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh requirements.lock $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh requirements-dev.lock $@

setup: $(VENV)/.dev ## make .venv with everything for development, from the lock files

run: $(VENV)/.runtime ## start mobot here: services, gateway, runner, two demo bots (ARGS=... for `mobot up`)
	@$(BIN)/python -m compileall -q mobot chassis ./*_service gateway bot_sdk bot_runner mobot_cli
	@exec $(BIN)/mobot up $(ARGS)

test: $(VENV)/.dev ## run every test (ARGS=... for pytest)
	@$(BIN)/python -m pytest $(ARGS)

test-fast: $(VENV)/.dev ## run the tests that start no processes
	@$(BIN)/python -m pytest -m "not e2e and not stateful" $(ARGS)

test-e2e: $(VENV)/.dev ## run only the tests with real processes
	@$(BIN)/python -m pytest -m e2e $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy --strict, import contracts, buf lint and breaking, generated code, spelling
	@scripts/lint.sh

fmt: $(VENV)/.dev ## format Python and protos
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix . && cd protos && ../$(BIN)/buf format -w

proto: $(VENV)/.dev ## regenerate mobot/ and docs/api/ from protos/
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/generate_protos.py
	@$(BIN)/python scripts/write_docs.py

proto-check: $(VENV)/.dev ## demand that mobot/ is what protos/ generates
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/generate_protos.py --check

clients: $(VENV)/.dev ## regenerate clients/ from protos/ (needs npm)
	@cd clients/typescript && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@cd clients/typescript && PATH="$(CURDIR)/$(BIN):$$PATH" buf generate

docs: $(VENV)/.dev ## write the pages of docs/ that are made from the code
	@$(BIN)/python scripts/write_docs.py

bench: $(VENV)/.dev ## run one benchmark suite (SUITE=core): JSON lines on stdout, a table on stderr
	@$(BIN)/python -m benchmarks $(SUITE) $(ARGS)

ledger: $(VENV)/.dev ## mail under load and under faults; must lose, double, disorder nothing (MESSAGES=3000, ARGS=...)
	@$(BIN)/python -m ledger --messages $(MESSAGES) $(ARGS)

ci: ## what CI runs: lint, then every test
	@.ci/run

clean: ## remove the environment and all caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache

lock: ## renew the lock files from pyproject.toml
	@$(UV) pip compile pyproject.toml --extra otlp --extra fast --universal --generate-hashes --no-emit-index-url --no-header -q -o requirements.lock
	@$(UV) pip compile pyproject.toml --extra otlp --extra fast --group dev --universal --generate-hashes --no-emit-index-url --no-header -q -o requirements-dev.lock
