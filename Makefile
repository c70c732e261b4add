# Two commands matter: `make demo` and `make test`. Each sets itself up first; the second time that takes no time.

ENGINE ?= elasticsearch
PORT ?= 8000
BIN := .venv/bin
SERVERS := elasticsearch-9 elasticsearch-8 opensearch-3 opensearch-2 postgres
# Real catalogues are tested wherever RESHELVE_DATA points.
WITHOUT_DATA := $(if $(RESHELVE_DATA),, and not catalogues)
FAST := not engine and not postgres and not browser and not long and not catalogues

.PHONY: help demo clean-demo test check static slow lock setup
.DEFAULT_GOAL := help

help:
	@echo "make demo [ENGINE=opensearch]   a demo catalogue in a real engine, synced, searchable, with its page"
	@echo "make clean-demo                 stop and remove all that the demo made"
	@echo "make test                       everything that CI runs, on real engines, a real Postgres and a real browser"
	@echo "make check                      the fast half: style, types, imports, tests that need no server"
	@echo "make slow                       the long suites"
	@echo "make lock                       resolve the dependencies anew"

setup:
	@scripts/setup dev

demo:
	@scripts/setup run
	@$(BIN)/reshelve demo --engine $(ENGINE) --port $(PORT)

clean-demo:
	@if [ -x $(BIN)/reshelve ] || [ -d .demo ]; then scripts/setup run && $(BIN)/reshelve demo --clean; fi

static: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: static
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(FAST)" tests/unit tests/contract

test: static
	@$(BIN)/python -m engines fetch $(SERVERS) chromium nginx promtool
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not long$(WITHOUT_DATA)"

slow: setup
	@$(BIN)/python -m pytest -m "long$(WITHOUT_DATA)"

lock: setup
	@scripts/lock
