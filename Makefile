# Everything a newcomer needs: make demo, make test. Set-up happens by itself.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then echo $$p; break; fi; done)

.PHONY: setup demo test test-slow lint format bench docs pictures clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "tokenface needs Python 3.11, 3.12 or 3.13; none found (set PYTHON=/path/to/python)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[train,cluster,tables,dlib,evaluate,video,usd,deploy,web,hub,docs,dev]"
	@touch $@

demo: setup
	$(BIN)/tokenface demo --output out/demo

test: setup
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/wrap_docs.py --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/wrap_docs.py

bench: setup
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.bench_training tiny --repeats 3 --steps 20

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open out/site/index.html"

pictures: setup
	$(BIN)/python scripts/gallery.py
	$(BIN)/python scripts/demo_picture.py
	$(BIN)/python scripts/openhead_pictures.py
	$(BIN)/python scripts/contact_sheet.py

clean:
	rm -rf $(VENV) out dist build .pytest_cache .mypy_cache .ruff_cache
