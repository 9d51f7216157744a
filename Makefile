# make demo | test | test-web | test-ray | test-open-clip | test-quantised | check | docs | coverage | matrix | mutants |
#      weights | release | clean
# Each does its own set-up: no step has to be run before it.
PYTHON ?= python3
# Where a CPU build of torch is looked for when the configured index has none. `make venv TORCH_INDEX=` takes the default
# build instead (on Linux: the CUDA one, several GB). Unreachable is fine: then pip's own choice is taken.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
DOCS := .venv-docs
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KERNELS := $(VENV)/.kernels
pip = $(1)/bin/python -m pip --disable-pip-version-check
PIP := $(call pip,$(VENV))
# For pytest: two processes, each with one torch thread.
PYTEST_ARGS ?= -n 2
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: venv check test browser test-web test-ray test-open-clip test-quantised coverage matrix docs demo mutants weights
.PHONY: release clean

# The CPU build of torch in an environment that has none: from the configured index, else from TORCH_INDEX.
define cpu_torch
	@if [ -n "$(TORCH_INDEX)" ] && ! $(1)/bin/python -c 'import torch; assert torch.__version__.split("+")[0] == "$(TORCH)"' 2>/dev/null; then \
		echo "installing the CPU build of torch $(TORCH)"; \
		$(call pip,$(1)) install -q --no-deps --only-binary :all: --retries 1 "torch==$(TORCH)+cpu" 2>/dev/null \
		|| $(call pip,$(1)) install -q --no-deps --only-binary :all: --retries 1 --timeout 20 --index-url $(TORCH_INDEX) "torch==$(TORCH)" 2>/dev/null \
		|| echo "no CPU build of torch found: taking the default one"; \
	fi
endef

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python 3.11 to 3.13 is needed, this is %d.%d: make PYTHON=python3.12 ..." % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call cpu_torch,$(VENV))
	$(PIP) install -q --prefer-binary -c constraints.txt -e ".[dev]"
	touch $@

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Triton is a gigabyte that only its own tests need, and that a CUDA build of torch brings along.
$(KERNELS): $(STAMP)
	$(BIN)/python -c 'import triton' 2>/dev/null || $(PIP) install -q -c constraints.txt -e ".[kernels]"
	touch $@

test: $(KERNELS)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The page of results in a real browser. Playwright comes into an environment of its own, which sees ours too; axe by npm.
WEB := .venv-web
CHROMIUM ?= chromium
purelib = $$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
needs = @command -v $(1) >/dev/null || { echo "$(1): expected a program of this name, got none. Install it: apt-get install $(2)"; exit 2; }
browser:
	$(call needs,$(CHROMIUM),chromium)
	$(call needs,npm,npm)

$(WEB)/.installed: $(STAMP)
	test -x $(WEB)/bin/python || $(PYTHON) -m venv $(WEB)
	$(call pip,$(WEB)) install -q "playwright>=1.64,<2"
	npm install --silent --no-save --no-audit --no-fund --prefix $(WEB) axe-core@4
	echo $(call purelib,$(VENV)) > $(call purelib,$(WEB))/kinoform.pth
	touch $@

test-web: browser $(WEB)/.installed
	CHROMIUM=$(CHROMIUM) $(WEB)/bin/python -m pytest -s tests/web

# Batches on Ray, with real clusters, and results on S3, by a server of its protocol. Both come into an environment of
# their own, which sees ours too.
RAY := .venv-ray
$(RAY)/.installed: $(STAMP) Makefile
	test -x $(RAY)/bin/python || $(PYTHON) -m venv $(RAY)
	$(call pip,$(RAY)) install -q "ray>=2.52,<3" boto3 "moto[server]>=5" requests "s3fs>=2026.1"
	echo $(call purelib,$(VENV)) > $(call purelib,$(RAY))/kinoform.pth
	touch $@

test-ray: $(RAY)/.installed
	$(RAY)/bin/python -m pytest tests/cluster

# CLIPs against the package open_clip. It needs torchvision, which is built for the default torch alone: both come into an
# environment of their own (5.6 GB), which sees the rest of ours.
OPEN_CLIP := .venv-open-clip
$(OPEN_CLIP)/.installed: $(STAMP) Makefile
	test -x $(OPEN_CLIP)/bin/python || $(PYTHON) -m venv $(OPEN_CLIP)
	$(call pip,$(OPEN_CLIP)) install -q torch==2.14.1 torchvision==0.29.1 "open_clip_torch>=3.3,<4"
	echo $(call purelib,$(VENV)) > $(call purelib,$(OPEN_CLIP))/kinoform.pth
	touch $@

test-open-clip: $(OPEN_CLIP)/.installed
	$(OPEN_CLIP)/bin/python -m pytest tests/open_clip

# Quantised weights. diffusers imports both packages wherever they are, which takes seconds: an environment of their own.
QUANTISED := .venv-quantised
$(QUANTISED)/.installed: $(STAMP) Makefile
	test -x $(QUANTISED)/bin/python || $(PYTHON) -m venv $(QUANTISED)
	$(call pip,$(QUANTISED)) install -q --no-deps "torchao==0.18.0" "bitsandbytes==0.50.2"
	echo $(call purelib,$(VENV)) > $(call purelib,$(QUANTISED))/kinoform.pth
	touch $@

test-quantised: $(QUANTISED)/.installed
	$(QUANTISED)/bin/python -m pytest tests/quantised

# Which lines no test of the process runs; those that a test starts are not seen. Half as long again as `make test`.
coverage: $(KERNELS)
	$(BIN)/python -m pytest $(PYTEST_ARGS) --cov --cov-report=term

# Installs in the other Pythons that are there, and runs what goes through every part once.
THROUGH := tests/test_layering.py tests/kinoform tests/lab/jobs tests/lab/test_session.py tests/dreamfusion/test_distill.py \
	tests/video/test_generate.py tests/shared/training/test_loop.py
matrix:
	@own=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in 3.11 3.12 3.13; do \
		[ $$version != $$own ] || continue; \
		python$$version -c 'import ssl, venv' 2>/dev/null || { echo "python$$version: not here"; continue; }; \
		echo "python$$version"; \
		$(MAKE) -s venv VENV=.venv-$$version PYTHON=python$$version \
		&& .venv-$$version/bin/python -m pytest $(PYTEST_ARGS) $(THROUGH) || exit 1; \
	done

# The pages need no torch: an environment of their own. A broken link or anchor is an error (not so with --quiet).
$(DOCS)/.installed: constraints.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt mkdocs-material
	touch $@

docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict
	@echo "the pages are in out/site/index.html"

demo: $(STAMP)
	$(BIN)/python -m lab.demo --out out/demo

# About an hour: every fault is a run of some tests.
mutants: $(KERNELS)
	$(BIN)/python -m benchmarks.mutants

# An embedded model from nothing, into $(WEIGHTS)/model: the world is rendered, then every stage has its share of MINUTES. Cut
# short, the same command goes on.
WEIGHTS ?= runs/weights
MINUTES ?= 240
STILLS ?= 33000
CLIPS ?= 4000
VIEWS ?= 800
STARTS ?= 800
DEVICE ?= auto
rendered = test -f $(1)/captions.jsonl || { rm -rf $(1) && $(BIN)/kinoform world render --out $(1) $(2); }
weights: $(STAMP)
	$(call rendered,$(WEIGHTS)/data/stills,--count $(STILLS))
	$(call rendered,$(WEIGHTS)/data/clips,--count $(CLIPS) --clips --frames 46)
	$(call rendered,$(WEIGHTS)/data/views,--count $(VIEWS) --views)
	$(call rendered,$(WEIGHTS)/data/starts,--count $(STARTS) --starts --frames 46)
	$(BIN)/kinoform train all --data $(WEIGHTS)/data --out $(WEIGHTS)/model --start new --device $(DEVICE) \
		$$(test -f $(WEIGHTS)/model/train-all.json && echo --resume || echo --minutes $(MINUTES))

# The wheel of this version, which the changelog must know, tried in an environment of its own.
VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' shared/version.py)
release: $(STAMP)
	@grep -q '^## \[$(VERSION)\]' CHANGELOG.md || { echo "CHANGELOG.md: expected a heading [$(VERSION)], got none. Rename [Unreleased]"; exit 2; }
	$(MAKE) check test
	rm -rf build dist
	$(PIP) wheel -q --no-deps -w dist .
	$(PYTHON) -m venv dist/try
	$(call cpu_torch,dist/try)
	$(call pip,dist/try) install -q --prefer-binary -c constraints.txt dist/kinoform-$(VERSION)-py3-none-any.whl
	cd dist && try/bin/kinoform image "a red cube" --steps 4 -o try.png && try/bin/kinoform rerun try.png -o again.png && cmp try.png again.png
	@echo "dist/kinoform-$(VERSION)-py3-none-any.whl works. Now: git tag v$(VERSION)"

clean:
	rm -rf $(VENV) .venv-* build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
