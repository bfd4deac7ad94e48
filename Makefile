# Two commands for a newcomer: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-covered lint check-types check-imports check-tests check-coverage

demo: .venv
	$(BIN)/cotrain run digits

test: lint check-types check-imports check-tests

# The same, and how much of the code the tests reach: tracing it takes half as long again.
test-covered: lint check-types check-imports check-coverage

# constraints.txt pins torch to a release whose wheel is a CPU build where one is at hand, and every direct
# dependency to versions that were tested together.
.venv: .venv/complete

.venv/complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: .venv
	$(BIN)/mypy

check-imports: .venv
	$(BIN)/lint-imports

# One process per core, each with one thread: the tests are many small steps. A file stays in one process, which makes
# its fixtures once.
RUN_TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

check-tests: .venv
	$(RUN_TESTS)

check-coverage: .venv
	$(RUN_TESTS) --cov --cov-report=term:skip-covered
