# Every target makes the virtual environment it needs; `make PYTHON=/path/to/python3.12 test` chooses the interpreter.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first interpreter on the path that runs and is 3.11 or 3.12.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)

# Parallel test processes, one thread each. The largest tests take 9 GB of memory and wait for each other.
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt

# Nothing that make runs may use the network or an account unasked.
export HF_HUB_OFFLINE := 1
export WANDB_MODE ?= offline
export NO_ALBUMENTATIONS_UPDATE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

# uv installs the same wheels as pip in about a seventh of the time. Bytecode is compiled once here: without it
# (PYTHONDONTWRITEBYTECODE, read-only installs) every process pays about 7 s more for `import lightning`.
# sam2 is a source distribution that needs torch to build; building it in this environment spares a second torch.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "rrsis-zoo needs Python 3.11 or 3.12: install one, or run make PYTHON=/path/to/python3.12"; exit 2; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (about 6 GB, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(UV) torch torchvision numpy setuptools
	@SAM2_BUILD_CUDA=0 $(UV) --no-build-isolation-package sam2 --editable '.[dev]'
	@touch $@

.PHONY: setup
setup: $(READY) ## make .venv with the exact versions of constraints.txt

.PHONY: test
test: $(READY) ## run the test suite
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: parity
parity: $(READY) ## compare a method with a recorded run of its authors' program: CASE=tests/golden/rsrefseg/tiny, ARGS=--json
	@$(BIN)/python tests/parity $(CASE) $(ARGS)

.PHONY: fuzz
fuzz: $(READY) ## feed a million mutated inputs to all file readers (about an hour on 2 cores)
	RRSIS_ZOO_FUZZ=1000000 $(BIN)/python -m pytest tests/fuzz -n $(JOBS) --timeout 0 -rA $(ARGS)

.PHONY: kills
kills: $(READY) ## kill training runs at random and resume them: KILLS=100 SEED=1
	RRSIS_ZOO_KILLS=$(or $(KILLS),20) RRSIS_ZOO_SEED=$(or $(SEED),0) $(BIN)/python -m pytest -s -k random_kills tests/training/test_kills.py $(ARGS)

.PHONY: benchmark
benchmark: $(READY) ## train and compare miniatures, two seeds each, with tables and report (27 minutes on 2 cores)
	$(BIN)/python benchmarks/run.py $(ARGS)

.PHONY: publish-results
publish-results: $(READY) ## take the results of `make benchmark` into benchmarks/results and the README's tables
	$(BIN)/python benchmarks/publish.py $(ARGS)

.PHONY: miniatures
miniatures: $(READY) ## pretrain the miniature foundation models shipped with the package (minutes on a GPU, hours on a CPU)
	for name in sam sam2 sam3 siglip beit3; do $(BIN)/python benchmarks/miniatures/pretrain.py $$name $(ARGS); done

.PHONY: trained-miniatures
trained-miniatures: $(READY) ## after make benchmark: store its trained miniatures in the package (minutes)
	$(BIN)/python benchmarks/miniatures/methods.py $(ARGS)

.PHONY: capacity
capacity: $(READY) ## train the tiny presets on 32 samples until they stop improving
	$(BIN)/python benchmarks/capacity.py $(ARGS)

.PHONY: real-step
real-step: $(READY) ## one training step of a published configuration at full size, with random weight files
	$(BIN)/python benchmarks/real_step.py $(ARGS)

.PHONY: evaluation-cost
evaluation-cost: $(READY) ## cost of the metrics compared with evaluating a published configuration
	$(BIN)/python benchmarks/evaluation.py $(ARGS)

.PHONY: ceilings
ceilings: $(READY) ## scores of perfect masks on a coarse grid under every protocol
	$(BIN)/python benchmarks/ceilings.py $(ARGS)

.PHONY: loading
loading: $(READY) ## expressions per second loaded for RS2-SAM2: the published loader and ours
	$(BIN)/python benchmarks/loading.py $(ARGS)

.PHONY: loading-weights
loading-weights: $(READY) ## memory and time to load a published size from random weight files (10 GB of disk)
	$(BIN)/python benchmarks/loading_weights.py $(ARGS)

.PHONY: dense-prompt
dense-prompt: $(READY) ## RSRefSeg 2's mask prompt at full size: the published implementation and ours
	$(BIN)/python benchmarks/dense_prompt.py $(ARGS)

.PHONY: many-expressions
many-expressions: $(READY) ## one image with 16 expressions: encoded once, or once per expression
	$(BIN)/python benchmarks/many_expressions.py $(ARGS)

.PHONY: speed
speed: $(READY) ## every method's answer, eager and compiled, side by side (minutes a method); ARGS=--steps: training steps too
	$(BIN)/python benchmarks/speed.py $(ARGS)

.PHONY: gpu
gpu: $(READY) ## on a GPU: every lever on speed and memory alone, at full size (begins no case after 7.5 minutes)
	$(BIN)/python benchmarks/gpu.py $(ARGS)

.PHONY: scenes-cost
scenes-cost: $(READY) ## time and memory of maps: 20,000 x 20,000 pixels, and a miniature beside the stock way (minutes)
	$(BIN)/python benchmarks/scenes/measure.py $(ARGS)

.PHONY: experts
experts: $(READY) ## do EviSAM3's experts do anything? (six training runs of 300 s)
	$(BIN)/python benchmarks/experts.py $(ARGS)

.PHONY: rs2sam2-forward
rs2sam2-forward: $(READY) ## RS2-SAM2's forward pass, published and ours: time and memory by part (4.5 GB)
	$(BIN)/python benchmarks/rs2sam2_forward.py $(ARGS)

.PHONY: referents
referents: $(READY) ## what is found in large scenes: windows, overview, coarse to fine; with and without presence
	$(BIN)/python benchmarks/scenes/referents.py $(ARGS)

.PHONY: figures
figures: $(READY) ## draw the methods' diagrams and, with trained miniatures, pictures of results; with Chromium, the page's
	$(BIN)/python docs/figures/diagrams.py
	$(BIN)/python docs/figures/hero.py
	$(BIN)/python docs/figures/scenes.py
	@! command -v chromium > /dev/null || $(BIN)/python docs/figures/demo.py

.PHONY: docs
docs: $(READY) ## build the documentation in docs/_build/html
	$(BIN)/sphinx-build -n -W --keep-going -q -b html docs docs/_build/html

.PHONY: docs-links
docs-links: $(READY) ## check the documentation's external links (needs a network)
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/links

.PHONY: notebooks
notebooks: $(READY) ## run the notebooks and store their output (about 4 minutes)
	$(BIN)/python notebooks/execute.py $(ARGS)

.PHONY: sweep
sweep: $(READY) ## search hyperparameters without an account: SWEEP=configs/sweeps/rsrefseg_tiny.yaml ARGS="--runs 12"
	$(BIN)/python benchmarks/sweep.py $(SWEEP) $(ARGS)

.PHONY: dashboards
dashboards: $(READY) ## make a W&B workspace for the zoo's runs: ARGS="--entity NAME --project rrsis-zoo", or --print
	$(BIN)/python benchmarks/dashboards.py $(ARGS)

.PHONY: check
check: $(READY) ## check formatting, lint, types and the layers of the package
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

.PHONY: format
format: $(READY) ## format and fix with ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: constraints
constraints: $(READY) ## re-resolve constraints.txt for both Python versions
	$(BIN)/uv pip compile --quiet --universal --all-extras --upgrade --no-header --no-annotate pyproject.toml -o constraints.txt

.PHONY: clean
clean: ## remove the environment, caches and run folders
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis runs wandb docs/_build docs/notebooks docs/reference/api
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
