SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
export DEBIAN_FRONTEND := noninteractive

is_3_11 = -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'
PYTHON ?= $(shell for p in python3.11 python3; do $$p $(is_3_11) 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
SOURCES := agent hooks state
NEEDED := tests/testbed/packages.txt
# `make demo ARGS="--seconds 20 --out DIR"`, `make test ARGS="-x -k consul"`.
ARGS ?=

#? help: list the targets
.PHONY: help
help:
	@sed -n 's/^#? \([a-z-]*\): /  \1\t/p' $(MAKEFILE_LIST) | expand -t 13

#? venv: make the environment .venv
.PHONY: venv
venv: .venv/installed

# The project goes in as an editable install: the command `isthmus` exists and a changed or added module counts at once.
# It needs no network, as setuptools is one of the pinned requirements and builds without isolation.
.venv/installed: requirements/development.txt setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "isthmus needs Python 3.11 (make PYTHON=/path/to/python3.11)" >&2; exit 1; }
	@$(BIN)/python $(is_3_11) 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/development.txt
	@# Setuptools warns of directories named like the packages: they are the packages.
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Which Debian packages are missing, on a machine that knows of such packages.
missing = if command -v dpkg-query >/dev/null && test -f $(NEEDED); then \
	for p in $$(sed 's/\#.*//' $(NEEDED)); do \
	test "$$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null)" = installed || echo $$p; done; fi

#? needs: install the Debian packages that tests and packaging need (as root)
.PHONY: needs
needs:
	@missing=$$($(missing)); missing=$${missing//$$'\n'/ }; \
	if test -z "$$missing"; then exit 0; fi; \
	if test "$$(id -u)" != 0; then \
		echo "Debian packages are missing. Please run: sudo apt-get install -y --no-install-recommends $$missing" >&2; exit 1; \
	fi; \
	apt-get update -q </dev/null; \
	apt-get install -q -y --no-install-recommends $$missing </dev/null

#? testbed: build the real servers that tests talk to, once
.PHONY: testbed
testbed: needs .venv/installed
	$(BIN)/python tests/testbed/build.py

# VERSION, ARCH (amd64, arm64) and SOURCE_DATE_EPOCH, if given, are for the scripts below.
BUILT := build/packages
.PHONY: runtime tree deb rpm packages
#? runtime: build the Python that packages bring, once (about four minutes)
runtime: needs .venv/installed
	packaging/runtime.sh

#? tree: make what the packages install, in build/packages/tree, and tell how large it is
tree: runtime
	packaging/tree.sh $(BUILT)/tree

#? deb: make the Debian package, in build/packages
deb: tree
	packaging/package.sh deb $(BUILT)

#? rpm: make the package for RHEL and the like, in build/packages
rpm: tree
	packaging/package.sh rpm $(BUILT)

#? packages: make both
packages: deb rpm

#? roots: make the folders of Debian 11, 12, 13 and of rpm that tests boot, once (as root)
.PHONY: roots
roots: needs .venv/installed
	$(BIN)/python -m tests.packages.roots

#? test-packages: test the packages on machines with a real systemd (as root)
.PHONY: test-packages
test-packages: testbed runtime roots
	$(BIN)/pytest -n 3 --dist loadfile tests/packages $(ARGS)

#? lint: ruff, mypy and import-linter
.PHONY: lint
lint: .venv/installed
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy --strict --no-error-summary $(SOURCES) tests
	@# From inside, since a module below a folder called packaging would hide the library of that name.
	cd packaging && ../$(BIN)/mypy --strict --no-error-summary --cache-dir ../.mypy_cache/packaging *.py
	$(BIN)/lint-imports --no-logo

#? check: the quick half of `make test`: lint, unit and property tests
.PHONY: check
check: lint
	$(BIN)/pytest --quiet $(wildcard tests/unit tests/property) $(ARGS)

# All tests run in one pytest, so that one summary stands at the end; in three processes, file by file, each with servers
# of its own: a test mostly waits. Those of units come last, since they are short, and no process is left with a long one.
PYTEST := -n 3 --dist loadfile --no-loadscope-reorder
#? test: everything: what tests need, lint and all tests, those of the packages included
.PHONY: test
test: needs testbed lint runtime roots
	$(BIN)/pytest $(PYTEST) $(ARGS)

# By itself, as it doubles the processor time of tests, and of every agent that they start.
#? coverage: all tests, and which lines they do not reach
.PHONY: coverage
coverage: testbed
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest $(PYTEST) $(ARGS) || failed=$$?; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report || failed=$${failed:-$$?}; \
	exit $${failed:-0}

#? demo: show isthmus at work in build/demo; REAL=1 with real servers, ARGS="..." adds options
.PHONY: demo
demo: .venv/installed $(if $(REAL),testbed)
	$(BIN)/$(if $(REAL),python -m tests.testbed.demo,isthmus demo) $(ARGS)

#? soak: play a random history for ten minutes; SOAK_SECONDS and SOAK_SEED choose another one
.PHONY: soak
soak: testbed
	SOAK_SECONDS=$${SOAK_SECONDS:-600} $(BIN)/pytest --quiet tests/integration/test_soak.py $(ARGS)

#? docs: make the reference of the configuration anew
.PHONY: docs
docs: .venv/installed
	$(BIN)/python -m tests.reference

#? bench: measure isthmus beside the floor into docs/performance (35 minutes); ARGS="--quick --row changes" tries one row
.PHONY: bench
bench: testbed
	$(BIN)/python -m tests.bench $(ARGS)

#? format: let ruff rewrite the code
.PHONY: format
format: .venv/installed
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format .

# `pip` itself is pinned as well: sqlite-utils requires it.
compile := pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
#? lock: pin the requirements again; UPGRADE=1 takes newer versions
.PHONY: lock
lock: .venv/installed
	$(BIN)/uv $(compile) $(if $(UPGRADE),--upgrade) requirements/runtime.in --output-file requirements/runtime.txt
	$(BIN)/uv $(compile) $(if $(UPGRADE),--upgrade) requirements/development.in --output-file requirements/development.txt

#? clean: remove what make made, except for the cached testbed
.PHONY: clean
clean:
	rm -rf .venv build dist *.egg-info .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(SOURCES) tests -name __pycache__ -prune -exec rm -rf {} +
