# `make help` lists what there is to do. Everything runs inside .venv, which is made on first use.

python := .venv/bin/python

.PHONY: setup tools demo test fuzz fuzz-kernels check docs notebooks release-check benchmark help

setup: .venv/.ready  ## find a Python, make .venv, install edgeqwt and the tools of its developers
	@echo "Ready. Next: make demo, make test, or .venv/bin/edgeqwt --help"

.venv/.ready: pyproject.toml constraints.txt scripts/setup.sh
	@bash scripts/setup.sh

# Some GB and minutes: litert-torch brings PyTorch with CUDA. Tests of tools that are not there are skipped.
tools: .venv/.ready  ## make environments for litert-torch, tensorflow and Qualcomm's compiler (10 GB)
	@bash scripts/tools.sh

demo: .venv/.ready  ## train a small CNN, build it to int8 with and without compensation, compare
	@$(python) examples/digits/run.py

test: .venv/.ready  ## run the whole test suite, on two cores
	@$(python) -m pytest -n 2 --dist loadfile

# COUNT mutants for each reader; ARGS="--commands --count 10000" sends .tflite mutants through the command line.
COUNT ?= 100000
fuzz: .venv/.ready  ## damaged and hostile files for every reader, 100 000 each
	@$(python) -m tests.fuzz.hunt --count $(COUNT) $(ARGS)

fuzz-kernels: .venv/.ready  ## random integer graphs in every runtime, against exact arithmetic
	@$(python) -m tests.fuzz.differential --count $(COUNT) $(ARGS)

check: .venv/.ready  ## lint, formatting, types, import rules
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@$(python) -m mypy
	@.venv/bin/lint-imports

# Warnings are errors; nothing but the registry's packages is fetched, and the pages name no other server.
docs: .venv-docs/.ready  ## build the documentation site into build/site
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "Open build/site/index.html"

notebooks: .venv-docs/.ready  ## run the notebooks of examples/notebooks
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv-docs/bin/python scripts/notebooks.py $(ARGS)

.venv-docs/.ready: .venv/.ready scripts/docs-requirements.txt scripts/docs.sh
	@bash scripts/docs.sh

release-check: .venv/.ready  ## build wheel and source archive, try both in clean environments, list what is in them
	@bash scripts/release_check.sh

benchmark:  ## list the benchmarks; make benchmark-NAME runs one
	@for file in $(sort $(filter-out benchmarks/common.py benchmarks/sentences.py benchmarks/language.py,$(wildcard benchmarks/*.py))); do \
		printf 'make benchmark-%-12s %s\n' "$$(basename $$file .py)" "$$(sed -n '1s/"""//gp' $$file)"; \
	done

# One per script benchmarks/NAME.py; the first line of its docstring is what `make benchmark` prints.
benchmark-%: .venv/.ready
	@$(python) benchmarks/$*.py

benchmark-accuracy: .venv/.ready
	@cd benchmarks && ../$(python) -m accuracy $(ARGS)

benchmark-zoo: .venv-zoo/.ready
	@.venv-zoo/bin/python -m benchmarks.zoo $(ARGS)

.venv-zoo/.ready: .venv/.ready benchmarks/zoo/requirements.txt scripts/zoo.sh
	@bash scripts/zoo.sh

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
