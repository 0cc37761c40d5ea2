# make study   sets up .venv, runs the demo study, leaves reports/demo/index.html
# make pages   renders the library's notebooks as well, into reports/library/index.html
# make test    sets up .venv, runs every check that CI runs
# make mutate  breaks the library on purpose, and counts what the notebooks notice
# make stress  damaged files by the thousand, full disks, kills at random moments, a million images; SEED=1 draws others
# make bench   measures speed and memory, and leaves reports/benchmarks/paper/summary.html
PYTHON ?= python3
VENV ?= .venv
BIN := $(CURDIR)/$(VENV)/bin

.PHONY: install test study pages mutate stress bench
install: $(VENV)/.installed
$(VENV)/.installed: settings.ini setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: install
	$(BIN)/python tools/test.py

study: install
	$(BIN)/patchlesion study --profile demo --executor processes
	$(BIN)/patchlesion view --profile demo

pages: install
	$(BIN)/patchlesion study --profile demo --executor processes --library

mutate: install
	$(BIN)/python tools/mutate.py

stress: install
	$(BIN)/python tools/test.py --stress $(or $(SEED),0)

bench: install
	$(BIN)/patchlesion bench --profile paper
