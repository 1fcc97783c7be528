# make serve   start the server with its built-in model; options: make serve ARGS="--port 9000"
# make test    run all tests; some of them: make test ARGS="-k tools"
# make soak    run the long tests (an hour; needs nginx); some of them: make soak ARGS="replicas --scale 0.1"
# make check   check format, lint, types and import contracts
# make bench   measure the server's speed; on another model: make bench ARGS="--model FOLDER --only clients"
# make dist    build the wheel for this platform and the sdist into dist/
# make docs    build the documentation as a site into build/docs (needs npm)
# make lock    pin changed dependencies (needs uv); upgrade all of them: make lock ARGS=--upgrade
# make clean   delete .venv, .venv-docs, builds and all caches
# All but lock and clean create .venv first (docs .venv-docs), with Python 3.11 to 3.13; choose it with PYTHON=/path/to/python3.

VENV ?= .venv
DOCS_VENV ?= .venv-docs
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && \
	{ echo $$p; exit; }; done; echo python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

.PHONY: serve test soak check bench dist docs lock clean

serve: $(VENV)/.runtime
	@exec $(BIN)/lfm-serve serve $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

soak: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.soak $(ARGS)

check: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict server
	@$(BIN)/lint-imports --no-logo

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks $(ARGS)

# The wheel is built from the sdist, so that the sdist is known to be complete.
dist: $(VENV)/.runtime
	@rm -rf dist
	@$(BIN)/hatchling build -t sdist
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz
	@ls dist

# Without --quiet, which would switch off the option `strict` of mkdocs.yml.
docs: $(DOCS_VENV)/.docs
	@npm ci --prefix tools/site --no-audit --no-fund --loglevel=error
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build
	@echo "Open build/docs/index.html"

$(DOCS_VENV)/.docs: requirements/docs.txt
	@$(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip --disable-pip-version-check --quiet --quiet install \
		--require-hashes -r requirements/docs.txt
	@touch $@

# Installs exactly the locked dependencies, checked by hash; --no-deps then adds only the project, and compiles its
# kernels if there is a C compiler.
$(VENV)/.runtime: $(BIN)/python requirements/runtime.txt pyproject.toml $(wildcard kernels/*)
	@echo "Installing lfm-serve into $(VENV); the first time takes a minute or two ..."
	@$(PIP) install --require-hashes -r requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo "Installing the development tools into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "lfm-serve needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)" >&2; \
		echo "Install it, or pass its path: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "On Debian and Ubuntu, venv is a separate package: apt install python3-venv" >&2; exit 1; }

# Writes one lock file per purpose, valid for every supported Python and platform, from PyPI only.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
COMPILE := $(LOCK) pyproject.toml --group build
COMPILE_EXPORTERS := $(LOCK) --excludes requirements/unlocked.in

# The clients have their own environment and lock: one of them needs an older rich than the server's. So do the
# exporters, which need torch and two versions of transformers, and Ray, which brings many packages along.
lock:
	@$(COMPILE) -o requirements/runtime.txt --extra chat $(ARGS)
	@$(COMPILE) -o requirements/container.txt -c requirements/runtime.txt --extra chat --extra otel --extra events $(ARGS)
	@$(COMPILE) -o requirements/dev.txt -c requirements/runtime.txt --extra chat --extra dev $(ARGS)
	@$(COMPILE) -o requirements/clients.txt --extra clients $(ARGS)
	@$(COMPILE) -o requirements/playground.txt -c requirements/runtime.txt --extra chat --extra playground $(ARGS)
	@$(COMPILE) -o requirements/ray.txt -c requirements/dev.txt --extra chat --extra ray --extra dev $(ARGS)
	@$(COMPILE_EXPORTERS) requirements/exporters.in -o requirements/exporters.txt $(ARGS)
	@$(LOCK) requirements/docs.in -o requirements/docs.txt $(ARGS)
	@$(LOCK) requirements/release.in -o requirements/release.txt $(ARGS)
	@$(COMPILE_EXPORTERS) requirements/optimum.in -o requirements/optimum.txt $(ARGS)

clean:
	@rm -rf $(VENV) $(DOCS_VENV) build dist tools/site/node_modules .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
