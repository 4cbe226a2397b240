.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Python compiles a module when it is first imported; most of the 25,000 never are.
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile
# Unpacks the 7 GB in a tenth of pip's time. It does not read pip's settings: where only these name a registry, pip installs.
UV := uv==0.13.9
UV_INSTALL := $(BIN)/uv pip install --quiet --no-cache
# A file's tests stay in one process, in their order, so that its fixtures are made once.
FAST := $(BIN)/python -m pytest -m "not (slow or ray or serve or browser)" --numprocesses auto --dist loadfile
# These wait for clusters and servers more than they compute: two processes, whatever there is of cores. Each process
# keeps its service to the end, so what needs none comes after.
STARTING := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
SERVING := $(STARTING) -m "(serve or browser) and not slow" tests/browse tests/cluster tests/everymask_cli tests/serve tests/ui
CLUSTERED := $(STARTING) -m "ray and not (serve or browser or slow)" tests/cluster tests/data_jobs tests/everymask_cli tests/month

export RAY_AUTH_MODE ?= disabled
export RAY_USAGE_STATS_ENABLED ?= 0
# Tests start Python hundreds of times; what it compiled once is kept, whatever the machine's defaults are.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo serve ui test test-fast test-slow slow-tools lint style types site format browser nginx ffmpeg image-tools slurm prometheus readers mutants constraints notice image clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## Create the virtual environment and install everything the project uses (HASHES=1: only the very files that were tested).

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifdef HASHES
	$(PIP_INSTALL) --no-deps --require-hashes -r constraints-hashed.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
else
	{ $(PIP_INSTALL) $(UV) \
	  && $(UV_INSTALL) --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; } \
	|| $(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]'
endif
	touch $@

demo: $(STAMP) ## Label examples/images with entity masks; open the preview it names.
	$(BIN)/everymask label --input examples/images --output runs/demo --overwrite

serve: $(STAMP) ## Start the HTTP service on http://127.0.0.1:8000.
	$(BIN)/everymask serve

ui: $(STAMP) ## Start the Gradio front end of a running service.
	$(BIN)/everymask ui

test: $(STAMP) browser nginx ffmpeg ## Run the suite (all but the minutes-long tests): the fast part, then what starts clusters, servers, browsers.
	failed=0; \
	$(FAST) || failed=1; \
	$(SERVING) || failed=1; \
	$(CLUSTERED) || failed=1; \
	exit $$failed

test-fast: $(STAMP) ## Run the part that needs no cluster, server or browser.
	$(FAST)

test-slow: $(STAMP) ## Run the minutes-long tests: autoscaling, node loss, training recipes; installs what they need, and says what it could not.
	-$(MAKE) --no-print-directory --keep-going slow-tools
	$(BIN)/python -m pytest -m slow

slow-tools: browser image-tools slurm prometheus readers ## Install what the slow tests need, as far as the user may.

lint: style types site ## Check style and types, and that the documentation's site can be made.

style: $(STAMP) ## Check style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/oxlint --deny-warnings --quiet browse ui tests/ui

types: $(STAMP) ## Check types.
	$(BIN)/mypy

site: $(STAMP) ## Make the documentation's site in runs/site; broken links are errors.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

format: $(STAMP) ## Mend what ruff can mend.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

browser: ## Install Debian's Chromium for the browser tests, where that is allowed.
	@command -v chromium >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	} || echo "no Chromium here and no right to install it: the browser tests will be skipped"

image-tools: ## Install what builds a container image without a container engine, where that is allowed.
	@command -v debootstrap >/dev/null && command -v ip >/dev/null && command -v nsenter >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			debootstrap iproute2 util-linux >/dev/null; \
	} || echo "no debootstrap here and no right to install it: the tests of the image will be skipped"

slurm: ## Install Debian's Slurm for the test of cluster/slurm, where that is allowed.
	@command -v slurmctld >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm >/dev/null; \
	} || echo "no Slurm here and no right to install it: its test will be skipped"

prometheus: ## Install Debian's Prometheus for the tests of the dashboard and the alerts, where that is allowed.
	@command -v promtool >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null; \
	} || echo "no Prometheus here and no right to install it: its tests will be skipped"

nginx: ## Install Debian's nginx for the tests of serve/config/nginx.conf, where that is allowed.
	@PATH="$$PATH:/usr/sbin" command -v nginx >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; \
	} || echo "no nginx here and no right to install it: its tests will be skipped"

ffmpeg: ## Install Debian's ffmpeg for the tests of videos, where that is allowed.
	@command -v ffmpeg >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ffmpeg >/dev/null; \
	} || echo "no ffmpeg here and no right to install it: the tests of videos will be skipped"

readers: $(STAMP) ## Install the tools that read exports, each in an environment of its own, for the slow tests.
	for name in datasets tools trainers fiftyone; do \
		needs="--requirement tests/formats/readers/requirements-$$name.txt"; \
		$(PYTHON) -m venv .readers/$$name \
		&& { $(UV_INSTALL) --python .readers/$$name/bin/python $$needs \
			|| .readers/$$name/bin/pip install --quiet --disable-pip-version-check $$needs; } || exit 1; \
	done
	.readers/fiftyone/bin/pip install --quiet --disable-pip-version-check --no-deps fiftyone==1.22.1

mutants: $(STAMP) ## Change MODULE (masks, review/matching.py, data_jobs/labelling) in one place at a time; list what its tests miss (ARGS="--sample 100").
	@test -n "$(MODULE)" || { echo "say which: make mutants MODULE=masks"; exit 2; }
	test -x .mutants/bin/python || $(PYTHON) -m venv .mutants
	.mutants/bin/pip install --quiet --disable-pip-version-check --requirement tests/mutants/requirements.txt
	place="import sysconfig; print(sysconfig.get_path('purelib'))"; \
	  $(BIN)/python -c "$$place" > "$$(.mutants/bin/python -c "$$place")/everymask.pth"
	.mutants/bin/python -m tests.mutants $(MODULE) $(ARGS)

constraints: $(STAMP) ## Pin the versions installed now, and the digests of their files.
	{ echo "# Every version the suite was run with, for pip's --constraint. Regenerate: make constraints"; \
	  $(BIN)/pip freeze --exclude-editable --exclude uv; } > constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --dry-run --ignore-installed --no-deps \
	  --report $(VENV)/report.json --requirement constraints.txt setuptools wheel
	$(BIN)/python -m supply.hashes $(VENV)/report.json > constraints-hashed.txt

notice: $(STAMP) ## Write the licences of all dependencies into NOTICE.
	$(BIN)/python -m supply.licences > NOTICE

image: ## Build the container image on a base that is pinned by its digest.
	docker build --file cluster/Dockerfile --tag everymask --build-arg PYTHON_DIGEST="$$(docker buildx imagetools \
	  inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}')" .

clean: ## Remove what the commands above made.
	rm -rf $(VENV) .readers .mutants runs build dist *.egg-info
