# What a person types. `make demo` and `make test` need nothing but Python 3.11 and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log

.PHONY: demo test guest-test lint format bench conformance soak test-deps clean

demo: $(STAMP)
	@$(BIN)/bottomhalf demo

test: $(STAMP)
	$(BIN)/python -m pytest -n auto

# A real kernel's ixgbe on our NICs: QEMU and a kernel are fetched the first time; 3 minutes.
guest-test: $(STAMP)
	$(BIN)/python -m pytest -m guest tests/guest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	@$(BIN)/python -m benchmarks.run

# A million random interleavings of interrupts, softirqs and tasks, a hundred thousand of works, and a
# million random operations on a NIC; about half an hour.
soak: $(STAMP)
	@$(BIN)/python -m tests.nodes.cpu.interleavings 1000000
	@$(BIN)/python -m tests.nodes.cpu.wq_interleavings 100000
	@$(BIN)/python -m tests.machine.wq_torture 100000
	@$(BIN)/python -m tests.nodes.nic.fuzz 1000000

conformance: $(STAMP)
	@$(BIN)/python -m tests.conformance.report

# Debian packages that tests use as judges; without them those tests skip and say so.
test-deps:
	@tools/test-deps

$(STAMP): pyproject.toml
	@echo "setting up $(VENV) (once, about 20 s) ..."
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@mkdir -p $(VENV)
	@{ $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'; } \
	  >$(LOG) 2>&1 || { cat $(LOG) >&2; \
	  echo "make: installing into $(VENV) failed; the lines above are $(LOG)" >&2; exit 2; }
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis reports
