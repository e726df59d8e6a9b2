# The environment is made once and again when its description changes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint types benchmarks check-golden clean

demo: $(STAMP)
	$(BIN)/twinscope demo $(MOLECULE)

test: lint types $(STAMP)
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder --nbmake --nbmake-timeout=300 \
		tests notebooks

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/python tests/link_package.py
	MYPYPATH=.typing $(BIN)/mypy -p twinscope
	cd .typing && ../$(BIN)/lint-imports --config ../pyproject.toml

# Those of the agents take hours: they are run by name.
benchmarks: $(STAMP)
	for benchmark in $(filter-out %_discovery.py %_closed_loop.py,$(wildcard benchmarks/bench_*.py)); do \
		$(BIN)/python $$benchmark || exit 1; done

# Reference data lie outside of the repository; GOLDEN says where.
GOLDEN ?= ../shared
check-golden: $(STAMP)
	$(BIN)/python $(GOLDEN)/tools/check_golden.py

$(STAMP): pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .typing build demo twinscope-data *.egg-info
