# Two commands for a stranger: `make demo` and `make test`. Everything they need lands in .venv and the user's cache.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
# buf only lints the proto files; it is an npm package and is skipped where npm is not installed.
BUF    := @bufbuild/buf@1.60.0
# A mock identity provider, an OpenAPI mock, and a gRPC client in JavaScript: independent of us. Tests skip without them.
COUNTERPARTS := oauth2-mock-server@8 @stoplight/prism-cli@5.14.2 @grpc/grpc-js@1 @grpc/proto-loader@0.8

.DEFAULT_GOAL := help
.PHONY: help demo plugins test test-all fuzz check proto buf counterparts lock sbom audit clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 12

demo: $(VENV)/.run ## enrol seven people, stream a moving camera, print who was recognised
	@$(BIN)/facesvc demo

plugins: $(VENV)/.plugins ## install the plugins too

test: $(VENV)/.dev ## the tests but the slow ones: under six minutes on two cores
	@$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal

test-all: $(VENV)/.dev ## all tests, the slow ones too
	@$(BIN)/python -m pytest

fuzz: $(VENV)/.dev ## fuzz all that reads bytes of somebody else's, FUZZ_SECONDS (60) a target
	@$(BIN)/python tests/fuzz/fuzz.py --seconds $(or $(FUZZ_SECONDS),60)

check: $(VENV)/.dev buf ## style, types, the import ladder, generated code
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_ladder.py tests/test_generated.py

proto: $(VENV)/.dev ## regenerate facesvc/v1 from proto/
	@$(BIN)/python tests/generate.py facesvc/v1

buf:
	@if command -v npm >/dev/null; then \
	  test -x $(VENV)/buf/node_modules/.bin/buf || npm install --silent --no-save --prefix $(VENV)/buf $(BUF); \
	  $(VENV)/buf/node_modules/.bin/buf lint proto; \
	else echo "buf lint skipped: npm is not installed"; fi

counterparts: ## fetch what some tests of plugins talk to, where npm is there
	@if command -v npm >/dev/null; then \
	  test -d $(VENV)/npm/node_modules || npm install --silent --no-save --prefix $(VENV)/npm $(COUNTERPARTS); \
	else echo "no counterparts: npm is not installed"; fi

lock: ## renew the lock files (needs uv); they name no index
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
	  --extra plot --extra postgres --group headless --group build pyproject.toml -o requirements.lock
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
	  --extra plot --extra postgres --group headless --group build --group plugins pyproject.toml -c requirements.lock \
	  -o requirements-plugins.lock
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
	  --extra plot --extra postgres --group headless --group build --group plugins --group dev pyproject.toml \
	  -c requirements-plugins.lock -o requirements-dev.lock

sbom: $(VENV)/.dev ## write sbom.json: packages, plugins and models that a box runs, with hashes and licences
	@$(BIN)/python deploy/sbom.py sbom.json

audit: ## ask for known vulnerabilities of what a box runs; needs pip-audit and the network
	@if command -v pip-audit >/dev/null; then pip-audit --disable-pip --require-hashes -r requirements-plugins.lock; \
	else echo "no audit: pip-audit is not installed (pipx install pip-audit); it asks a service about each package"; exit 1; fi

# The stamps say which lock a virtual environment was made from.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "facesvc needs CPython 3.11 to 3.13: make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV) (once; about 250 MB are fetched)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	@$(PIP) install --require-hashes --no-deps -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.plugins: requirements-plugins.lock $(wildcard plugins/*/pyproject.toml) $(VENV)/.run
	@$(PIP) install --require-hashes --no-deps -r requirements-plugins.lock
	@$(PIP) install --no-deps --no-build-isolation $(addprefix --editable ,$(dir $(wildcard plugins/*/pyproject.toml)))
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.plugins
	@$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

clean: ## remove the virtual environment and what tests left
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis demo.png sbom.json
