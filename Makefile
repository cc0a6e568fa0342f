# make quickstart   train LUAB on a synthetic release and print the results
# make test         run all tests
# make fast         run only the tests that are not marked slow, for quick iterations
# make lint         run ruff, and mypy on luab_jax (make test includes both)
# make end_to_end   run only the tests marked end_to_end (CI runs them on every other Python)
# make lock         resolve requirements.lock again from the two requirements files
# make pythons      list the installed Pythons that luab_jax runs on
# All but the last two create .venv from requirements.lock if it is missing or out of date, using the
# first Python that `make pythons` lists. To choose another: make PYTHON=/path/to/python3.12

# Newest first. TensorFlow has no final wheels for 3.14 yet.
SUPPORTED := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHONS = $(shell for python in python3.13 python3.12 python3.11 python3; do \
  ! $$python -c '$(SUPPORTED)' 2>/dev/null || echo $$python; done)
PYTHON ?= $(firstword $(PYTHONS))
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/installed
INSTALL ?= $(PY) -m pip install --quiet --disable-pip-version-check
QUICKSTART := data/quickstart

.PHONY: quickstart test fast lint end_to_end lock pythons
.DELETE_ON_ERROR:

quickstart: $(QUICKSTART)/imagenet_ab/local
	@$(PY) run.py --config=configs/quickstart.py --workdir=runs/quickstart

test: $(READY)
	@$(PY) -m pytest -n 3 --dist loadfile

fast: $(READY)
	@$(PY) -m pytest -n 3 --dist loadfile -m 'not slow'

lint: $(READY)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy luab_jax

end_to_end: $(READY)
	@$(PY) -m pytest -n 2 --dist loadfile -m end_to_end

$(QUICKSTART)/release/README.txt: $(READY) $(wildcard luab_jax/tools/synthetic/*.py)
	@$(PY) -m luab_jax.tools.synthetic --release=imagenet_ab --out=$(QUICKSTART)/release
	@touch $@

$(QUICKSTART)/imagenet_ab/local: $(QUICKSTART)/release/README.txt
	@$(PY) -m tfds_builders.build imagenet_ab/local --manual_dir=$(QUICKSTART)/release --data_dir=$(QUICKSTART)
	@touch $@

$(PY):
	@test -n "$(PYTHON)" || { echo "luab_jax needs Python 3.11, 3.12 or 3.13 with venv, and none is on PATH: \
	install one (TensorFlow has no final wheels for 3.14 yet), or run make PYTHON=/path/to/python3.13"; exit 1; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "PYTHON=$(PYTHON) is not Python 3.11, 3.12 or 3.13 with venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(READY): requirements.lock pyproject.toml | $(PY)
	@echo "Installing requirements.lock into $(VENV), $$($(PY) --version) (about 3 GB, a few minutes the first time)"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

pythons:
	@: $(info $(PYTHONS))

# The lock holds the newest versions for each of Python 3.11, 3.12 and 3.13, with hashes.
lock:
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --universal --fork-strategy requires-python --python-version 3.11 \
	  --generate-hashes --no-header --quiet --upgrade requirements.txt requirements-test.txt -o requirements.lock
	rm -rf .venv-lock
