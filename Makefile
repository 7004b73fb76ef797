# What CI runs, by hand. PYTHON is any environment with `pip install -e ".[dev]"`.
PYTHON ?= python

.PHONY: check test test-all tables docs

check:  ## style, types, generated tables
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m benchmarks.report --check

test:  ## the fast tests
	$(PYTHON) -m pytest -n auto

test-all:  ## the slow ones too
	$(PYTHON) -m pytest -n auto -m "not gpu and not network and not oracle"

tables:  ## rewrite MODEL_ZOO.md, README's table and the chart
	$(PYTHON) -m benchmarks.report

docs:  ## the site, in build/site; needs `pip install -e ".[docs]"`
	$(PYTHON) -m benchmarks.site
	$(PYTHON) -m mkdocs build
