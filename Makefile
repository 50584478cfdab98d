# setup | demo | test (test-all takes the slow ones too): everything a newcomer needs. Underneath it is plain pip, as the README shows.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
JOBS := 2

.PHONY: setup demo test test-all lint clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[toolchain,twin,dev]"
	touch $@

demo: setup
	$(BIN)/trec-dse search digits_tiny --target stm32f469i-disco --trials 40 --workers $(JOBS) --images 100 --out $(DEMO)
	$(BIN)/trec-dse pick $(DEMO)
	$(BIN)/trec-dse export $(DEMO) $$($(BIN)/trec-dse pick $(DEMO) --json | $(BIN)/python -c "import json, sys; print(json.load(sys.stdin)['trial'])") --out $(DEMO)/picked
	$(BIN)/trec-dse validate $(DEMO)/picked --twin --images 100
	@echo; echo "open $(DEMO)/report.html; the firmware project of the trial picked is $(DEMO)/picked"

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: setup lint
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-all: setup lint
	$(BIN)/python -m pytest -n $(JOBS)

clean:
	rm -rf $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache
