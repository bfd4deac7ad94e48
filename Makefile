# Two commands for a newcomer: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test lint check-types check-imports check-tests

demo: .venv
	$(BIN)/cotrain run digits

test: lint check-types check-imports check-tests

# constraints.txt pins torch to a release whose wheel is a CPU build where one is at hand, and every direct
# dependency to versions that were tested together.
.venv: .venv/complete

.venv/complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: .venv
	$(BIN)/mypy

check-imports: .venv
	$(BIN)/lint-imports

check-tests: .venv
	$(BIN)/pytest --cov --cov-report=term:skip-covered
