# `make help` lists the targets. Set-up is part of every one of them and does nothing the second time.
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup test-setup demo test check unit libvirt golden pictures docs bench bench-setup bench-lab bench-guest wheel man deb deb-test clean lab lab-setup lab-test lab-down lab-ssh lab-clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## Install what is missing: system packages and .venv
	@scripts/setup

demo: setup ## Inspect, plan, start, picture, list and stop a real graphical VM
	@scripts/demo

test-setup: # What the tests need besides
	@scripts/setup test

test: test-setup check ## Run the linters and every test that needs no lab PC
	@CLIENTHV_COMPLETE=1 $(BIN)/pytest -m "not lab"

check: setup ## Run ruff, mypy and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

unit: setup ## Run the tests that take seconds
	@$(BIN)/pytest

libvirt: test-setup ## Run the tests on the real libvirt QEMU driver
	@$(BIN)/pytest -m libvirt

golden: setup ## Write the golden plans, domains and pages anew; look at the difference before committing it
	@$(BIN)/pytest tests/golden --regen

pictures: test-setup ## Take the pictures of the report anew; look at them before committing them
	@$(BIN)/python scripts/pictures.py

bench-setup: setup # What the plots take
	@scripts/setup bench

bench: bench-setup ## Measure speed as ratios against peers, and write docs/benchmarks.md
	@$(BIN)/python benchmarks/run.py

bench-lab: lab-setup ## Measure in the lab PC what the transaction adds to a start
	@$(BIN)/python benchmarks/transaction.py

bench-guest: bench-setup lab-setup ## Measure in the lab PC what the strategies, and the peers' VMs, give a guest
	@$(BIN)/python benchmarks/guest.py

docs: ## Build the site of the documents into build/site
	@scripts/setup docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: setup ## Build the wheel into dist/
	@$(BIN)/python -m hatchling build -t wheel

man: setup ## Write the man pages into build/man
	@PYTHONPATH=. $(BIN)/python scripts/manpages.py build/man

deb: setup ## Build the Debian package into dist/
	@scripts/setup deb
	@scripts/deb

deb-test: deb ## Install the package into a fresh Debian 13, use it and take it away, as root
	@scripts/deb-smoke

lab-setup: # What the lab PC is built and run with
	@scripts/setup lab

lab: lab-setup ## Bring the lab PC up; VARIANT=no-iommu, iommu-off, no-intremap or no-svm for another one
	@$(BIN)/python vagrant/lab.py up $(or $(VARIANT),full)

lab-test: lab-setup ## Run the tests that need the lab PC, on every variant of it
	@CLIENTHV_COMPLETE=1 $(BIN)/pytest -m "lab$(if $(LAB_QUICK), and not long)" -v --durations=0 --durations-min=5 $(or $(TESTS),tests/lab)

lab-ssh: ## Open a shell in the lab PC
	@python3 vagrant/lab.py ssh

lab-down: ## Take the lab PC away; its built box stays
	@python3 vagrant/lab.py down

lab-clean: ## Take the lab PC and its box away
	@python3 vagrant/lab.py clean

clean: ## Remove what was built; the .venv stays
	@rm -rf dist build demo.png .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
