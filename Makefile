# `make lab` and `make test` set everything up in .venv first; a second run finds that done and starts at once.
# PYTHON=python3.12 chooses the Python, INSTALLER=uv installs with uv, TORCH_INDEX=<url> chooses torch's build.

PYTHON ?= python3
BIN := .venv/bin
SETUP := $(PYTHON) -I workbench/bootstrap.py

.DEFAULT_GOAL := help
.PHONY: help lab test lint format lessons clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | sort

lab: ## set up, then open JupyterLab on the tour, in a copy that is yours
	@$(SETUP) --target lab
	@$(BIN)/workbench lab $(ARGS)

test: ## set up, then run all tests, the notebooks included
	@$(SETUP) --target test
	@$(BIN)/python -m pytest $(ARGS)

lint: ## set up, then check style and types
	@$(SETUP) --target test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: ## set up, then format the code
	@$(SETUP) --target test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lessons: ## set up, then make notebooks/tutorials from notebooks/sources (the newer of each pair counts)
	@$(SETUP) --target test
	@cd notebooks && ../$(BIN)/jupytext --sync sources/*.py

clean: ## remove the environment and what the tools made; the model's cache stays
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist artifacts
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
