# `make demo` and `make test` need Python 3.11+ and nothing else; both set .venv up once and re-use it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

DEV_CLUSTER ?= slurm/dev-cluster
RELEASE ?= trixie

# `make gpu`, `make gpu-evidence`: a machine with one card, no network, and no .venv, whose python3 has PyTorch.
# DEVICE=cpu rehearses all of it in small. $OUT, if set, is where they leave their results.
DEVICE ?= cuda
MINUTES ?=
DATA ?=
PARALLEL ?= 4
WORKERS ?= 3
STUDIES ?= table7,table6
SEEDS ?= 0,1,2
RESULTS := $(or $(OUT),$(if $(filter cpu,$(DEVICE)),.gpu-site/rehearsal,tests/benchmarks/results))

.PHONY: help demo demo-slurm bench test lint format types tests tests-long fuzz tests-slurm tests-slurm-next oracle
.PHONY: bytecode tests-extras lock clean predictions picture tour gpu gpu-wheels gpu-evidence gpu-data version

help:
	@echo "make demo        set up, a small study end to end on generated images, the report (into $(DEMO)/)"
	@echo "make demo-slurm  the same study as jobs of a real SLURM on this machine (slurm/dev-cluster), taken down at the end"
	@echo "make test        set up, then lint, types and tests (each a target of its own)"
	@echo "make tests-long  the tests that take longest: whole runs, kill loops over real processes"
	@echo "make fuzz        a thousand damaged files, command lines, weights, images and lists"
	@echo "make tests-slurm the tests on a real one-machine SLURM (slurm/dev-cluster), with every fault that we know of"
	@echo "make tests-slurm-next  the same on the SLURM of a newer Debian (RELEASE=trixie, sid), which it installs by debootstrap"
	@echo "make oracle      the tests that need the extras: the published wheel as an oracle, SegFormer (into .venv-oracle)"
	@echo "make tests-extras  the trackers of studies.export, among them a local MLflow server, and the Tab key (into .venv-extras)"
	@echo "make bench       how fast: tests/benchmarks"
	@echo "make gpu         on a machine with a card: the tests and the benchmark of CUDA, with python3's own PyTorch"
	@echo "make gpu-wheels  fetch what such a machine may lack into .whl/ (5 MB), to be carried there"
	@echo "make gpu-evidence MINUTES=8   CamVid on one card: Tables 7 and 6, seed by seed; DEVICE=cpu rehearses"
	@echo "make version     version.json: the commit, for a copy without git; make gpu-data: CamVid into .camvid/"
	@echo "make predictions  after a new prediction: enter it and its commit in the ledger, before its runs"
	@echo "make tour        the report's answer and what the README's commands print, pasted into it"
	@echo "make picture     the README's picture of the report's first page (needs Chromium)"
	@echo "make format      let ruff lay the code out          make lock   renew requirements.lock"

# The stamp is newer than the lock exactly when everything in the lock is installed. uv links from its cache: seconds.
# Bytecode is compiled once, here: a worker starts 3 s earlier, also where PYTHONDONTWRITEBYTECODE is set.
.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing requirements.lock (PyTorch is large: a few minutes the first time)"
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet "uv>=0.9"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement requirements.lock
	@touch $@

# The same of what is ours: every process starts half a second earlier.
bytecode: .venv/installed
	@$(BIN)/python -m compileall -q -j 0 segnext studies reports

demo: bytecode
	SEGNEXT_RESULTS=$(DEMO)/results SEGNEXT_RUNS=$(DEMO)/runs \
	  $(BIN)/python -m studies.run table7 --rows b,c --cluster local --protocol quick
	SEGNEXT_RESULTS=$(DEMO)/results $(BIN)/python -m reports.build table7 --out $(DEMO)/reports
	@echo
	@echo "The table:   $(DEMO)/results/table7.csv"
	@echo "The page:    $(DEMO)/reports/index.html"
	@echo "The records: $(DEMO)/results/records/  (one per run; results/README.md explains the columns)"
	@echo "This repository's own results of the same study are in results/ and reports/summary/table7.md."

# A real SLURM comes up (Debian packages, installed if missing and allowed), runs the study, and goes. 77: it cannot be had.
demo-slurm: .venv/installed
	@trap '$(DEV_CLUSTER) down' EXIT; set -e; \
	  $(DEV_CLUSTER) up; eval "$$($(DEV_CLUSTER) env)"; set -x; \
	  export SEGNEXT_RESULTS=$(DEMO)-slurm/results SEGNEXT_RUNS=$(DEMO)-slurm/runs; \
	  $(BIN)/python -m studies.doctor table7 --protocol quick --profile dev-cluster; \
	  $(BIN)/python -m studies.run table7 --protocol quick --seeds 0 --cluster slurm --profile dev-cluster \
	    --max-parallel 2 --follow; \
	  $(BIN)/python -m studies.status; \
	  $(BIN)/python -m reports.build --out $(DEMO)-slurm/reports

test: lint types tests

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

tests: bytecode
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not long and not slurm"

tests-long: bytecode
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "long and not slurm"

# A thousand damaged files, command lines, weights files, images and lists; tests-long tries a hundred of each.
fuzz: bytecode
	OMP_NUM_THREADS=1 SEGNEXT_FUZZ=1000 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m fuzz

# Three at a time, each with a cluster of its own. SLURM_TESTS="slurm and not long": half of the time, as CI does, which has
# ninety minutes for everything. SEGNEXT_SLURM_SEEDS=50: an array job of two hundred runs in place of thirty.
SLURM_TESTS ?= slurm
tests-slurm: bytecode
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --verbose --numprocesses 3 --dist worksteal -m "$(SLURM_TESTS)"

# Not in CI: 320 MB from Debian's mirror. Where they cannot be had the tests are skipped, and say why.
tests-slurm-next: export DEV_CLUSTER_RELEASE = $(RELEASE)
tests-slurm-next: tests-slurm

# Environments of their own: the dependencies of the wheel and of the trackers are many, some old, and nobody else's.
.venv-%/installed: requirements-%.lock .venv/installed
	@test -x .venv-$*/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-$*
	@$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-$*/bin/python --requirement $<
	@touch $@

# With SEGNEXT_EXTRAS a missing extra is a failure, not a skip.
oracle: .venv-oracle/installed
	OMP_NUM_THREADS=1 SEGNEXT_EXTRAS=1 .venv-oracle/bin/python -m pytest tests/segnext/test_oracle.py tests/segnext/test_segformer.py \
	  tests/studies/test_plan.py::test_the_curve_is_also_tensorboards

tests-extras: .venv-extras/installed
	OMP_NUM_THREADS=1 SEGNEXT_EXTRAS=1 .venv-extras/bin/python -m pytest tests/studies/test_export.py tests/studies/test_console.py \
	  --numprocesses auto --dist worksteal -m "not long"

# What a machine with PyTorch and the scientific packages still lacks: ours, and the published design's. Versions: the lock's.
GPU_WHEELS := submitit msgspec ttach yacs termcolor mmsegmentation mmengine mmcv-lite addict yapf platformdirs prettytable ftfy wcwidth
GPU_SOURCES := fvcore iopath grad-cam
# The lock's lines, hashes included, of the packages $(1).
locked = awk -v names="$(1)" 'BEGIN { count = split(names, list, " "); for (i = 1; i <= count; i++) wanted[list[i]] } \
  /^[a-z0-9]/ { split($$1, pin, "=="); on = pin[1] in wanted } on && !/^ *\#/' requirements-oracle.lock

# For CPython 3.12 on Linux x86-64, whatever this machine is; what is published as source alone is pure Python and built here.
gpu-wheels:
	@rm -rf .whl && mkdir .whl && trap 'rm -f .whl/*.txt' EXIT; set -e; \
	  $(call locked,$(GPU_WHEELS)) > .whl/wheels.txt; $(call locked,$(GPU_SOURCES)) > .whl/sources.txt; \
	  pip="$(PYTHON) -m pip --disable-pip-version-check"; \
	  $$pip download --quiet --no-deps --require-hashes --only-binary=:all: --python-version 3.12 --implementation cp \
	    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
	    --dest .whl --requirement .whl/wheels.txt; \
	  $$pip wheel --quiet --no-deps --require-hashes --wheel-dir .whl --requirement .whl/sources.txt; \
	  du -sh .whl

# Unpacked, not installed: the machine's own packages stay as they are. Without .whl/ there is nothing to unpack.
.gpu-site/unpacked: $(wildcard .whl/*.whl)
	@rm -rf .gpu-site && mkdir .gpu-site
	@$(if $^,$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-index --no-deps --no-compile \
	  --target .gpu-site $^)
	@touch $@

# Needs no .venv. The benchmark is run even where a test fails, for a card is not there every day; either one's failure counts.
gpu: .gpu-site/unpacked
	@mkdir -p $(RESULTS); export PYTHONPATH=$(CURDIR)/.gpu-site:$$PYTHONPATH PYTHONUNBUFFERED=1; set -o pipefail; \
	  { SEGNEXT_GPU_TESTS_ON=$(DEVICE) $(if $(filter cpu,$(DEVICE)),OMP_NUM_THREADS=1) $(PYTHON) -m pytest tests/gpu -q \
	      -p no:cacheprovider $(if $(filter cpu,$(DEVICE)),--numprocesses 2 --dist worksteal); tests=$$?; \
	    $(PYTHON) -W ignore tests/benchmarks/gpu.py --device $(DEVICE) $(if $(filter cpu,$(DEVICE)),--tiny) \
	      --minutes $(or $(MINUTES),$(if $(filter cpu,$(DEVICE)),10,5)) --out $(RESULTS) && exit $$tests; } 2>&1 | tee $(RESULTS)/gpu.log

# Figures, not tests: each a ratio or a count measured in one run. Where the published wheel is, for it is the measure.
bench: .venv-oracle/installed
	@for script in $(filter-out %/gpu.py %/roofline.py,$(wildcard tests/benchmarks/*.py)); do \
	  echo "== $$script"; OMP_NUM_THREADS=1 .venv-oracle/bin/python -W ignore $$script || exit 1; done

# In small on the CPU: two rows, a few steps, every line that the card will run.
REHEARSAL = --device cpu --protocol quick --limit-iterations 4 --cam-class "" \
  --studies table7/b,table7/c --seeds 0 --parallel 2 --workers 1 --folder .evidence/rehearsal
CARD = --device $(DEVICE) --studies $(STUDIES) --seeds $(SEEDS) --parallel $(PARALLEL) --workers $(WORKERS) \
  $(if $(DATA),--data $(DATA))

# A later start on the same machine continues what .evidence/ holds. Wheels in .whl/ are unpacked first.
gpu-evidence: $(if $(wildcard .whl),.gpu-site/unpacked)
	@$(if $(filter cpu,$(DEVICE)),rm -rf .evidence/rehearsal;) $(PYTHON) slurm/gpu_evidence.py --minutes $(or $(MINUTES),8) \
	  $(if $(filter cpu,$(DEVICE)),$(REHEARSAL),$(CARD))

# As it is, never encoded anew: 43 MB that travel with the checkout.
gpu-data:
	@mkdir -p .camvid && cp -r ../shared/data/camvid/. .camvid/ && du -sh .camvid

version:
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m studies.records.snapshot

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

predictions: .venv/installed
	$(BIN)/python tests/ledger.py

tour: .venv/installed
	$(BIN)/python -m reports.build && $(BIN)/python tests/tour.py

picture: .venv/installed
	$(BIN)/python -m reports.build && PYTHONPATH=. $(BIN)/python tests/picture.py

lock: .venv/installed
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
	  --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra oracle --extra segformer --extra tensorboard \
	  --constraint requirements.lock --generate-hashes --output-file requirements-oracle.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra mlflow --extra wandb --extra tensorboard \
	  --extra completion --constraint requirements.lock --generate-hashes --output-file requirements-extras.lock pyproject.toml

clean:
	rm -rf .venv .venv-oracle .venv-extras .whl .gpu-site $(DEMO) $(DEMO)-slurm
