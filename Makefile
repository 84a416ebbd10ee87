# Two commands do everything on a machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
DEMO   ?= trustescalate-demo
TESTS  ?= -n 2 -q

.PHONY: demo test check clean

demo: .venv-demo/ready          ## install the core, run the main job offline with no key, end with the report
	rm -rf $(DEMO)
	.venv-demo/bin/trustescalate demo $(DEMO)

test: check                     ## everything that CI checks
	.venv/bin/python -m pytest $(TESTS)

check: .venv/ready              ## style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv-demo/ready: pyproject.toml constraints.txt $(shell find trustescalate -name '*.py' -o -name 'report.*' -o -name '*.html')
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet -c constraints.txt .
	touch $@

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[local,test]'
	touch $@

clean:
	rm -rf .venv .venv-demo trustescalate-demo dist build .pytest_cache .mypy_cache .ruff_cache

# ── documentation ──
.PHONY: docs
docs: .venv-docs/ready          ## build the site into site/, offline; a broken link fails
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv-docs/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@
