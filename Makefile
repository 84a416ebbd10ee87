# Two commands do everything on a machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
DEMO   ?= trustescalate-demo
AXE    := axe-core@4.14.1
TESTS  ?= -n 2 --dist worksteal -q

.PHONY: demo test fast test-shared test-lowest nightly check clean

demo: .venv-demo/ready          ## install the core, run the main job offline with no key, end with the report
	rm -rf $(DEMO)
	.venv-demo/bin/trustescalate demo $(DEMO)

test: check                     ## style, types and all tests that a clone can run
	.venv/bin/python -m pytest $(TESTS)

fast: .venv/ready               ## the tests that take little time: under a minute
	.venv/bin/python -m pytest $(TESTS) -m "not shared and not slow and not browser"

test-shared: .venv/ready        ## the tests and benchmarks on real data, which lies in ../shared
	.venv/bin/python -m pytest $(TESTS) -m shared

test-lowest: .venv-lowest/ready ## the tests with the lowest versions that pyproject.toml allows, on Python 3.11
	.venv-lowest/bin/python -m pytest $(TESTS) -W default

nightly: .venv/ready            ## the validity tests with ten times the trials
	TRUSTESCALATE_TRIALS=5000 .venv/bin/python -m pytest $(TESTS) -k validity --timeout 18000

check: .venv/ready              ## style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv-demo/ready: pyproject.toml constraints.txt $(shell find trustescalate -name '*.py' -o -name '*.html' -o -name '*.css' -o -name '*.js')
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet -c constraints.txt .
	touch $@

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[local,test]'
	if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix .venv/axe $(AXE); fi
	touch $@

.venv-lowest/ready: pyproject.toml tools/lowest.py
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) tools/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet -c .venv-lowest/constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-demo .venv-hosts .venv-lowest .venv-peers .venv-servers trustescalate-demo dist build .pytest_cache .mypy_cache .ruff_cache

# ── documentation ──
.PHONY: docs
docs: .venv/docs                ## build the site into site/, offline; a broken link fails
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

.venv/docs: .venv/ready
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

# ── integrations ──
# `make test-integrations` runs each adapter in its real host; `make test-integrations HOSTS=inspect_ai` one of them.
HOSTS ?= $(notdir $(patsubst %/requirements.txt,%,$(wildcard tests/hosts/*/requirements.txt)))

.PHONY: test-integrations
test-integrations: $(HOSTS:%=.venv-hosts/%/ready)   ## the adapters, each in an environment with its host
	@set -e; for host in $(HOSTS); do echo "── $$host"; \
	  TRUSTESCALATE_HOST=$$host .venv-hosts/$$host/bin/python -m pytest -q -o filterwarnings=default \
	    --doctest-modules tests/hosts/$$host $$(ls trustescalate/integrations/$$host.py 2>/dev/null); done

.SECONDEXPANSION:
.venv-hosts/%/ready: tests/hosts/%/requirements.txt $$(wildcard tests/hosts/$$*/package.json) pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-hosts/$*
	.venv-hosts/$*/bin/python -m pip install --quiet -e . pytest pytest-timeout -r tests/hosts/$*/requirements.txt
	@set -e; if [ -f tests/hosts/$*/package.json ]; then cp tests/hosts/$*/package.json .venv-hosts/$*/; \
	  PATH="$(CURDIR)/.venv-hosts/$*/bin:$$PATH" npm install --silent --no-audit --no-fund --prefix .venv-hosts/$*; fi
	touch $@

# ── benchmarks ──
.PHONY: peers
peers: .venv-peers/ready        ## one environment with the tools that the benchmark of an endpoint compares with

.venv-peers/ready: benchmarks/peers.txt pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet -e . -r benchmarks/peers.txt
	touch $@

# ── real servers ──
# `make test-servers` runs modes, channels, cache, resume, calibrate and run on servers that nobody here wrote.
SERVERS ?= llama_cpp transformers

.PHONY: test-servers
test-servers: .venv-servers/ready   ## real OpenAI-compatible servers on this machine; not in CI: llama.cpp is compiled first
	TRUSTESCALATE_SERVERS="$(SERVERS)" .venv-servers/bin/python -m pytest -q -o filterwarnings=default tests/servers

.venv-servers/ready: tests/servers/requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-servers
	CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF" .venv-servers/bin/python -m pip install --quiet -e . pytest pytest-timeout -r tests/servers/requirements.txt
	touch $@
