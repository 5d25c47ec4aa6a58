# make book   run the smoke profile and build the book      make study PROFILE=laptop EXPERIMENT=ladder   run a profile, or a part
# make test   run the profile trial, and the tests          make lock                                     renew requirements.lock
# make lab    open notebooks/extend.ipynb in JupyterLab
# make kills  kill a small study 20 times, which must end with the rows of one left alone; ten minutes
# make mutants   plant faults, each of which a test must find; about ten minutes
PYTHON ?= python3
PROFILE ?= smoke
CORES ?= all
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book study test kills mutants lab pack unpack lock clean
book: override PROFILE = smoke
book study: .venv/installed
	@python -m study.run $@ --profile '$(PROFILE)' --experiment '$(EXPERIMENT)' --cores $(CORES)
	@$(if $(filter book,$@),echo "The book: $(CURDIR)/book/_build/html/index.html",echo "The rows: $(CURDIR)/data/results/$(PROFILE)")

test: .venv/installed
	@python -m study.run study --profile trial --cores $(CORES)
	python -m pytest -n auto --dist loadfile

kills: .venv/installed
	python -m pytest -n0 tests/test_kills.py --kills 20

mutants: .venv/installed
	python tests/mutants.py

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	pip install --quiet --requirement requirements.lock
	pip install --quiet --no-deps --editable .
	@mkdir -p .venv/etc/ipython  # kernels need not warn of the loopback, which nobody else can read
	@echo 'c.IPKernelApp.log_level = "ERROR"' > .venv/etc/ipython/ipython_kernel_config.py
	@touch $@

# For a node without a network: DATA="mnist" or paths of .npz files; FILE is what the node has made.
pack: .venv/installed
	python -m study.pack $(PROFILE) $(DATA)

unpack: .venv/installed
	python -m study.unpack $(PROFILE) $(FILE)

# JupyterLab in the same environment: `python3`, the kernel of the notebooks, is the .venv that runs it.
lab: .venv/installed
	pip install --quiet --requirement requirements-lab.lock
	jupyter lab notebooks/extend.ipynb

COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --no-annotate --no-header --quiet
lock:
	pip install --quiet uv
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra lab --constraint requirements.lock --output-file requirements-lab.lock

clean:
	rm -rf book/_build book/runs data/executed data/checkpoints data/results/smoke data/results/trial data/poison/smoke data/poison/trial .snakemake
