# Everything is installed into .venv. A CPU-only user outside chooses a CPU build of torch:
#   make quickstart TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: quickstart install dev test check long slurm bench clean

quickstart: install ## from nothing to a proven inference plan
	$(BIN)/python train.py +experiment=quickstart
	$(BIN)/python export.py run=quickstart/latest

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt avexp/runtime/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "avexp needs Python >= 3.11; give one with make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv: run  sudo sh install-debian-packages.sh"; exit 1; }
	@echo "installing torch (once, some minutes) ..."
	@$(PIP_INSTALL) $(TORCH)
	@echo "installing avexp and what it stands on ..."
	@$(PIP_INSTALL) --constraint constraints.txt --editable .
	@echo "installed; use it with:  . $(VENV)/bin/activate"
	@touch $@

dev: $(VENV)/.dev

$(VENV)/.dev: $(VENV)/.installed
	@$(PIP_INSTALL) --constraint constraints.txt --editable '.[dev,transformers]'
	@touch $@

check: dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check ## the whole suite, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not slurm"

long: dev ## the marked longer tests
	$(BIN)/python -m pytest -m slow

slurm: dev ## sweeps on a real SLURM of several nodes on this machine (installs Debian's packages; needs root)
	$(BIN)/python -m pytest -m slurm tests/slurm

bench: dev ## every benchmark, and bench/README.md from them
	sh bench/setup.sh .venv-bench $(PYTHON)
	for script in startup "loader --cameras 1" "loader --cameras 5" resume overhead plans world object_store sweeps submit search; do \
		set -- $$script; name=$$1; shift; $(BIN)/python bench/$$name.py "$$@" || exit 1; done
	$(BIN)/python bench/table.py

clean: ## the virtual environment; never outputs/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
