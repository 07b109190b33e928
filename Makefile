# Needs Python 3.11 or newer, make, and this checkout. Everything lands in .venv and demo/.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test lint wheel unit slow realdata fuzz clean

# A real average head, segmented into 32 structures by the packaged brain model.
demo: $(INSTALLED)
	$(BIN)/medseg demo demo --overwrite
	@if [ "$$(uname)" = Darwin ] || [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; \
	then $(BIN)/python -m webbrowser demo/mni152_t1_report.html; fi

test: lint unit wheel

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes; those of one file share their fixtures.
unit: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The wheel is unpacked into a folder of its own and used from outside the checkout.
wheel: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .
	$(BIN)/python tests/smoke_wheel.py dist

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow and not realdata"

realdata: $(INSTALLED)
	$(BIN)/python -m pytest -m realdata

# 20,000 spoiled files of every format, on two cores in about ten minutes.
fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/fuzzing.py --keep fuzz-findings

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,demo]"
	touch $(INSTALLED)

clean:
	rm -rf .venv dist demo
