# Needs Python 3.11 or newer, make, and this checkout. Everything is written to .venv, demo, dist and site.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALLED := .venv/installed

.PHONY: demo test lint wheel unit slow realdata fuzz coverage docs bench peers bundle sbom clean

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

# Which lines the ordinary tests reach.
coverage: $(INSTALLED)
	$(PIP) -e ".[test,demo,coverage]"
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=medseg --cov-report=term:skip-covered --cov-report=html

# The documentation as a website, in site/. The build itself reads nothing from the network.
docs: $(INSTALLED)
	$(PIP) -e ".[test,demo,docs]"
	$(BIN)/python docs/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# One archive that installs medseg where no network is: wheels, models, SBOM, installer, pages (docs/hospital.md).
bundle: $(INSTALLED)
	$(BIN)/python deploy/bundle.py dist

# The bill of materials of medseg[serve,dicom] and the packaged models, in CycloneDX 1.6.
sbom: $(INSTALLED)
	$(BIN)/python deploy/bundle.py dist --sbom

# What ten main paths cost beside work that never changes; names what changed by a tenth, and keeps the line.
bench: $(INSTALLED)
	$(BIN)/python benchmarks/guard.py --keep

# The peers of the benchmarks, in an environment of their own: panoptica needs older
# versions of four packages.
peers:
	$(PYTHON) -m venv .venv-peers
	grep -vE '^(connected-components-3d|numpy|pandas|rich)==' constraints.txt > .venv-peers/constraints.txt
	$(subst .venv,.venv-peers,$(BIN))/python -m pip install -c .venv-peers/constraints.txt torch
	$(subst .venv,.venv-peers,$(BIN))/python -m pip install -c .venv-peers/constraints.txt -e ".[bench,panoptica,test]"

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e ".[test,demo]"
	touch $(INSTALLED)

clean:
	rm -rf .venv .venv-peers dist demo site
