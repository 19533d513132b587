# `make demo` and `make test` set everything up by themselves; nothing needs to be installed by hand but Python >= 3.10.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
BROWSER := $(VENV)/.browser

.PHONY: demo test lint clean
demo: $(STAMP)
	$(BIN)/vivant demo --out demo

test: $(STAMP) $(BROWSER)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

# torch first and by its exact pin: a later resolver must find it already there, or it fetches gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# The study's page is tested in a real browser; where none is and none can be installed those tests say so and are skipped.
$(BROWSER): $(STAMP)
	command -v chromium >/dev/null || command -v google-chrome >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	|| echo "no Chromium here: the browser tests are skipped"
	touch $(BROWSER)

clean:
	rm -rf $(VENV) demo
