# Everything is one command, set-up included: `make demo`, `make test`, `make docs`, `make bench`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint style types imports duplicates docs bench crash-test fuzz clean

demo: $(STAMP)
	rm -rf demo
	$(BIN)/fewscan demo -o demo

test: lint
	$(BIN)/pytest -n 2

# The checks on both cores: mypy takes as long as all others together.
lint: $(STAMP)
	$(MAKE) --jobs=2 --output-sync=target types style imports duplicates

style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

duplicates: $(STAMP)
	$(BIN)/pylint --rcfile=pyproject.toml src/fewscan benchmarks

# The site, to be read from disk: build/site/index.html. `make test` builds it too.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# 50 trainings killed at random moments and gone on with, against an unbroken one; minutes.
crash-test: $(STAMP)
	PYTHONPATH=tests $(BIN)/python tests/support/crashes.py

# Made-up inputs for every fuzz test; 10 000 of each are 100 000 in all.
EXAMPLES ?= 1000

fuzz: $(STAMP)
	FEWSCAN_FUZZ=$(EXAMPLES) $(BIN)/pytest tests/fuzz --durations=0

bench: $(STAMP)
	$(BIN)/python -m benchmarks -o bench.json

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build dist
