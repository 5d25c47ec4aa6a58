# make book   run the smoke profile and build the book      make study PROFILE=laptop EXPERIMENT=ladder   run a profile, or a part
# make test   run the tests                                 make lock                                     renew requirements.lock
PYTHON ?= python3
PROFILE ?= smoke
CORES ?= all
CONFIG = profile=$(PROFILE) $(if $(EXPERIMENT),experiment=$(EXPERIMENT))
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book study test lock clean pack unpack
# A killed run leaves a lock and half-known outputs behind: unlock, and make again what was incomplete.
book: override PROFILE = smoke
book study: .venv/installed
	@snakemake $@ --config $(CONFIG) --cores $(CORES) --unlock --quiet rules reason host
	@snakemake $@ --config $(CONFIG) --cores $(CORES) --keep-going --rerun-incomplete --quiet rules reason host
	@$(if $(filter book,$@),echo "The book: $(CURDIR)/book/_build/html/index.html",echo "The rows: $(CURDIR)/data/results/$(PROFILE)")

test: .venv/installed
	python -m pytest -n auto --dist loadfile

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	pip install --quiet --requirement requirements.lock
	pip install --quiet --no-deps --editable .
	@touch $@

# For a node without a network: DATA="mnist" or paths of .npz files; FILE is what the node has made.
pack: .venv/installed
	python -m study.pack $(PROFILE) $(DATA)

unpack: .venv/installed
	python -m study.unpack $(PROFILE) $(FILE)

lock:
	pip install --quiet uv
	uv pip compile pyproject.toml --universal --python-version 3.11 --no-annotate --no-header --quiet --output-file requirements.lock

clean:
	rm -rf book/_build book/runs data/executed data/checkpoints data/results/smoke data/poison/smoke .snakemake
