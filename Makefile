# make quickstart   train LUAB on the embedded synthetic release and say what came out
# make test         run all tests
# make fast         the tests without those marked slow: the inner loop
# make lint         ruff, and mypy on luab_jax; make test does that too
# make lock         resolve requirements.lock anew from the two requirements files
# Both of the first two create .venv from requirements.lock if it is missing or out of date.

PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/installed
QUICKSTART := data/quickstart

.PHONY: quickstart test fast lint lock
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

$(QUICKSTART)/release/README.txt: $(READY) $(wildcard luab_jax/tools/synthetic/*.py)
	@$(PY) -m luab_jax.tools.synthetic --release=imagenet_ab --out=$(QUICKSTART)/release
	@touch $@

$(QUICKSTART)/imagenet_ab/local: $(QUICKSTART)/release/README.txt
	@$(PY) -m tfds_builders.build imagenet_ab/local --manual_dir=$(QUICKSTART)/release --data_dir=$(QUICKSTART)
	@touch $@

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  "luab_jax needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	@test -x $(PY) || { echo "Creating .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "Installing requirements.lock into .venv (about 3 GB, a few minutes the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The lock holds one version of each package for Python 3.11 to 3.13, with hashes.
lock:
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --universal --fork-strategy fewest --python-version 3.11 \
	  --generate-hashes --no-header --quiet requirements.txt requirements-test.txt -o requirements.lock
	rm -rf .venv-lock
