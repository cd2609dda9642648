# Every target works on a fresh clone with make and Python 3.11; the environment is made on demand.
# Variables: PYTHON (the interpreter that makes the environment), CORES, RESULTS (the results prefix).

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SITE := .venv-site
SITE_READY := $(SITE)/.ready
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# Two runs in one directory would disturb each other; a lock left by a killed run is removed first.
SNAKEMAKE := $(BIN)/python workflow/scripts/unlock.py && $(BIN)/snakemake --cores $(CORES)

.PHONY: help setup reproduce quick figures report docs site test audit lint unlock clean
.DEFAULT_GOAL := help

help:
	@echo 'make setup      the environment, in $(VENV)'
	@echo 'make reproduce  the four tests of the paper and the comparison: tables, figures, the report'
	@echo 'make quick      the same in about two minutes, with small numbers, in results/quick'
	@echo 'make figures    all figures again, from the tables that exist'
	@echo 'make report     one HTML file with figures, tables, captions and the workflow'
	@echo 'make docs       copy what docs/results.md shows from the last full run'
	@echo 'make site       the documentation as pages that need no network: site/index.html'
	@echo 'make test       all tests'
	@echo 'make audit      every method on 1e5 networks against exact lower ends (some hours)'
	@echo 'make lint       ruff, snakefmt and snakemake --lint'
	@echo 'make unlock     remove the lock that a killed run left behind (the targets do so themselves)'
	@echo 'make clean      remove the results, the site, the environments and the caches; MNIST stays'

setup: $(READY)

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo 'lipbounds needs Python 3.11, and neither python3.11 nor python3' \
	  'is that version; install it, or name it: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo \
	  'lipbounds needs Python 3.11; $(PYTHON) is not' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

reproduce: $(READY)
	$(SNAKEMAKE)
	$(BIN)/snakemake --report results/report.html
	@echo; echo 'The report:  results/report.html'
	@echo 'The tables:'; ls results/tables/* | sed 's/^/  /'
	@echo 'The figures:'; ls results/figures/* | sed 's/^/  /'

quick: $(READY)
	$(SNAKEMAKE) --configfile config/quick.yaml

figures: $(READY)
	$(SNAKEMAKE) figures

report: $(READY)
	$(SNAKEMAKE)
	$(BIN)/snakemake --report results/report.html

docs:
	cp results/figures/*.png docs/figures/
	cp results/tables/test4_paper.md results/tables/test5_comparison.md docs/tables/

# Its packages are apart from those that the results were computed with.
$(SITE_READY): requirements-site.txt | $(READY)
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --disable-pip-version-check -r $<
	touch $@

# On the path: the command lipbounds, whose help is a page.
site: $(READY) $(SITE_READY)
	PATH="$(abspath $(BIN)):$$PATH" NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict
	@echo 'The site:  site/index.html'

# A process per core, with one thread.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES)

audit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m audit --networks 100000 --pairs 1000000 --workers $(CORES)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

unlock: $(READY)
	$(BIN)/python workflow/scripts/unlock.py

clean:
	find results -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	rm -rf $(VENV) $(SITE) site .snakemake .pytest_cache .ruff_cache .hypothesis src/*.egg-info
