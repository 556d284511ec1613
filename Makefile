# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# The tables of docs/results.md and of the README, on the corpus of SEPNET_SPEECH8K (see data/README.md) and ESC-10 at
# 16 kHz in SEPNET_ESC10. Rows that are in runs/results are not made again, and neither is a fitted method there.
RESULTS := runs/results
CLASSICAL := nmf_rank,nmf,fastica,auxiva,ilrma,energy,energy_textbook,energy_reference,energy_reference_textbook,hpss,repet
SHIPPED := pit-2spk-8k,pit-causal-2spk-8k,deep-clustering-8k
QUERY := query-mask-esc10,ast_network,ast_dgmo,ast_contrast,ast_dgmo_contrast,ast_semantic,ast_dgmo_semantic,ast_patches,ast_dgmo_patches,ast_stitching,ast_dgmo_faithful
README := identity,$(SHIPPED),energy_reference,nmf,hpss,psm,ibm,irm
ORACLES := ibm,irm,wiener,iam,psm,crm
NEWEST = $$(ls -d $(RESULTS)/*-$(1) | tail -n 1)

.PHONY: help demo results search docs test test-all check clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   install, make a corpus, train, evaluate, and show the report (about 10 minutes)"
	@echo "make results  evaluate every method, for docs/results.md (hours); needs SEPNET_SPEECH8K and SEPNET_ESC10"
	@echo "make search   the variants of pit that docs/results.md compares (four hours)"
	@echo "make docs   these documents and the reference as pages, in site/"
	@echo "make test   install, and run the tests (about 5 minutes on two cores)"
	@echo "make test-all  run every test, the slow ones as well, with annotations checked, and build the documents (over an hour)"
	@echo "make check  ruff, mypy and the import rules"
	@echo "make clean  remove the virtual environment, the demo's run, the toy corpus, caches and indices, and site/"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "== installing sepnet and what it needs into $(VENV)"
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "== installing sepnet and what its tests need into $(VENV)"
	$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	@echo "== installing what the documents need into $(VENV)"
	$(PIP) -e '.[docs]'
	@touch $@

# Each step reuses what stands: an interrupted demo goes on where it stopped.
demo: $(VENV)/.demo
	@echo "== 1 of 3: the embedded corpus, 64 synthetic voices (about 1 minute)"
	@$(BIN)/python scripts/prepare_data.py corpus=toy
	@echo "== 2 of 3: training model=pit (6 minutes)"
	@if [ -e runs/demo/trained ]; then echo "trained already: runs/demo"; else \
		if ls runs/demo/*/config.yaml >/dev/null 2>&1; then again=resume=true; fi; \
		$(BIN)/python scripts/train.py experiment=demo logger=csv runs=runs/demo $$again && touch runs/demo/trained; fi
	@echo "== 3 of 3: evaluation beside the floor and the ceiling (about 2 minutes)"
	@$(BIN)/python scripts/eval.py runs=runs/demo

results: $(VENV)/.dev
	@test -d "$$SEPNET_SPEECH8K" -a -d "$$SEPNET_ESC10" || { \
		echo "error: set SEPNET_SPEECH8K and SEPNET_ESC10 to the folders of the corpora: see data/README.md" >&2; exit 2; }
	@ls -d $(RESULTS)/*-nmf_supervised >/dev/null 2>&1 || \
		$(BIN)/python scripts/train.py model=nmf_supervised data=speech8k logger=csv runs=$(RESULTS)
	@for data in speech8k speech8k_3mix multimic multimic_rooms; do \
		echo "== $$data"; \
		$(BIN)/python scripts/eval.py data=$$data data.corpus.root="$$SEPNET_SPEECH8K" out=$(RESULTS)/$$data listen=5 \
			separators=[identity,$(CLASSICAL),$(call NEWEST,nmf_supervised),$(SHIPPED),$(ORACLES)] || exit; \
	done
	@$(BIN)/python scripts/eval.py data=esc10 out=$(RESULTS)/esc10 listen=5 \
		separators=[identity,conv-autoencoder-esc10,nmf,hpss,ibm,irm]
	@$(BIN)/python scripts/eval.py data=speech8k_noisy out=$(RESULTS)/speech8k_noisy listen=5 \
		separators=[identity,enhance-8k,ibm,irm,psm]
	@for data in query_esc10 query_esc10_bursts; do \
		echo "== $$data"; \
		$(BIN)/python scripts/eval.py data=$$data out=$(RESULTS)/$$data measures=[si_sdr,sdr,snr] \
			separators=[identity,$(QUERY),nmf,oracle_gate,oracle_patches,oracle_mel,oracle_linear] || exit; \
	done
	@$(BIN)/python scripts/publish.py evaluations="{speech8k: $(RESULTS)/speech8k, \
		speech8k_3mix: $(RESULTS)/speech8k_3mix, multimic: $(RESULTS)/multimic, \
		multimic_rooms: $(RESULTS)/multimic_rooms, \
		speech8k_noisy: $(RESULTS)/speech8k_noisy, esc10: $(RESULTS)/esc10}"
	@$(BIN)/python scripts/publish.py columns=full evaluations="{query_esc10: $(RESULTS)/query_esc10, \
		query_esc10_bursts: $(RESULTS)/query_esc10_bursts}"
	@$(BIN)/python scripts/publish.py shipped=true
	@$(BIN)/python scripts/publish.py page=README.md columns=short methods=[$(README)] \
		evaluations="{results: $(RESULTS)/speech8k}"

WIDE := n_channels:256,n_hidden:256
SEARCH := OMP_NUM_THREADS=1 $(BIN)/python scripts/train.py -m experiment=search logger=csv runs=runs/search

search: $(VENV)/.dev
	@test -d "$$SEPNET_SPEECH8K" || { echo "error: set SEPNET_SPEECH8K: see data/README.md" >&2; exit 2; }
	$(SEARCH) 'model.network={},{$(WIDE)},{n_channels:384,n_hidden:384},{$(WIDE),n_repeats:3},{$(WIDE),n_blocks:5},{$(WIDE),kernel:5},{separable:true,n_channels:256,n_hidden:512}'
	$(SEARCH) 'model.network={$(WIDE)}' 'model.filterbank={hop_samples:64},{window_samples:512}'
	$(SEARCH) model=pit_blstm
	$(SEARCH) 'model.network={$(WIDE)}' model.activation=complex model.features=compressed
	$(SEARCH) trainer.max_time=00:00:40:00 'model.network={},{$(WIDE)},{$(WIDE),n_blocks:5}'
	@$(BIN)/python scripts/publish.py variants=[$$(ls -d runs/search/*-* | paste -sd,)]

# Workers that are done take over tests of others: the slowest files are not the last to end. Compiled modules are kept
# even where PYTHONDONTWRITEBYTECODE is set, since many processes import them.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict
	@echo "look: site/index.html"

test: $(VENV)/.dev
	$(PYTEST)

test-all: $(VENV)/.dev docs
	CHECK_ANNOTATIONS=1 $(PYTEST) -m ""

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) site runs/demo data/toy data/index data/cache
