# SPDX-License-Identifier: Apache-2.0
# make build: set up and build CoDeNet for a PYNQ-Z2.  make test: set up and run the tests.
PYTHON ?= python3
VENV ?= .venv
BOARD ?= pynq-z2
# Processes of the tests
JOBS ?= 2

BIN := $(VENV)/bin
STAMP := $(VENV)/.hwflow-$(shell sha256sum pyproject.toml | cut -c1-16)

.PHONY: setup build test test-slow lint sim synth formal coverage ecp5 bench clean

setup: $(STAMP)

# The stamp carries the hash of pyproject.toml: other dependencies, another installation.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 or 3.12; run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev]'
	@rm -f $(VENV)/.hwflow-*
	@touch $@

build: setup
	$(BIN)/hwflow build codenet --board $(BOARD)

test: setup
	$(BIN)/python -m pytest tests sim -m "not slow" -n $(JOBS) --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest tests sim -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy hwflow

# Proofs of the handshake blocks, their covers, and broken copies that must fail
formal: setup
	$(BIN)/python -m pytest tests/test_formal.py -m "slow or not slow"

# Line and toggle coverage of the blocks' benches (docs/coverage.md); about an hour
coverage: setup
	HWFLOW_COVERAGE=1 $(BIN)/python -m pytest sim -m "not slow" --ignore=sim/test_engine_axi.py \
	  --ignore=sim/test_networks.py --ignore=sim/test_engine.py --basetemp=build/coverage
	$(BIN)/python -m hwflow.sim.coverage build/coverage

# The array placed and routed on an ECP5-85F (docs/timing.md); five minutes of one core
ecp5: setup
	$(BIN)/python -m hwflow.toolchain.nextpnr study

sim: setup
	$(BIN)/hwflow build codenet --board $(BOARD) --until sim

synth: setup
	$(BIN)/hwflow build codenet --board $(BOARD) --until synth

# A frame of every configuration in the RTL simulation (half an hour the first time); the numbers of
# docs and README come from here: build/bench-engine.json.
bench: setup
	$(BIN)/hwflow bench engine --board $(BOARD) --ddr 0.5,1.05,2.1 --html build/bench

clean:
	rm -rf build dist sim_build results.xml .pytest_cache .ruff_cache .mypy_cache
