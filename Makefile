# make bench   set up, run Llama inference on what this machine has, write the report
# make test    set up, lint, type-check and test everything that CI runs
# make check   the quick part of it, while developing
# make nightly the long tests as well
# make plans   print what is promised of plans (speed, gap, flips, a second model), measured
# make serve-env   AIPerf, which llama-serve drives a server with
# make serve-test  and vLLM for a CPU, serving SmolLM2: llama-serve for real

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# torch_xla and TorchTPU need versions of torch of their own; their tests run in these.
LIBRARIES         := .venv-xla/.ready .venv-tpu/.ready .venv-serve/.ready
LIBRARY_VARIABLES := TPUBENCH_TEST_XLA_PYTHON=$(CURDIR)/.venv-xla/bin/python \
                     TPUBENCH_TEST_TPU_PYTHON=$(CURDIR)/.venv-tpu/bin/python

# A worker a core; one that is done takes over what another has not begun.
WORKERS := -n auto --maxprocesses 4 --dist worksteal

.PHONY: bench plans test nightly lint types unit check browser serve-env vllm-env serve-test clean

bench: $(VENV)/.run
	$(BIN)/tpubench run --workload llama-infer
	$(BIN)/tpubench report latest --out bench-report --open

plans: $(VENV)/.dev
	$(BIN)/python benchmarks/plan_promises.py

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev browser $(LIBRARIES)
	$(LIBRARY_VARIABLES) $(BIN)/python -m pytest $(WORKERS)

check: lint types
	$(BIN)/python -m pytest $(WORKERS) -q -m "not nightly and not slow and not browser"

nightly: $(VENV)/.dev browser $(LIBRARIES) vllm-env .venv-ray/.ready
	$(LIBRARY_VARIABLES) TPUBENCH_TEST_RAY_PYTHON=$(CURDIR)/.venv-ray/bin/python \
	$(BIN)/python -m pytest $(WORKERS) -m "nightly or not nightly"

serve-env: .venv-serve/.ready

vllm-env: .venv-vllm/.ready

# Alone on the machine: what is timed here is a client and a server on the same cores.
serve-test: $(VENV)/.dev serve-env vllm-env
	$(BIN)/python -m pytest -m "nightly or not nightly" tests/suite/serving
	$(BIN)/python benchmarks/serve_readback.py

# The page is tested in a real browser.
browser:
	@command -v chromedriver >/dev/null && command -v chromium >/dev/null || { \
	  root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	  $$root apt-get update -qq && $$root apt-get install -y -qq chromium chromium-driver; }

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	# Without its pins, which would hold numpy and scipy back for everything else.
	$(BIN)/python -m pip install --quiet --no-deps 'apache-otava==0.8.0'
	@touch $@

.venv-xla/.ready: env/xla.txt
	$(PYTHON) -m venv .venv-xla
	.venv-xla/bin/python -m pip install --quiet --no-cache-dir --requirement env/xla.txt
	@touch $@

# Ray brings a good deal of its own; its test runs in this.
.venv-ray/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,ray]'
	@touch $@

.venv-tpu/.ready: env/tpu.txt env/pjrt-cpu.txt
	$(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/python -m pip install --quiet --no-cache-dir --requirement env/tpu.txt
	.venv-tpu/bin/python -m pip install --quiet --no-deps --require-hashes --requirement env/pjrt-cpu.txt
	@touch $@

.venv-serve/.ready: env/serve.txt
	$(PYTHON) -m venv .venv-serve
	.venv-serve/bin/python -m pip install --quiet --no-cache-dir --requirement env/serve.txt
	@touch $@

.venv-vllm/.ready: env/vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-cache-dir --requirement env/vllm.txt
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

clean:
	rm -rf $(VENV) .venv-xla .venv-tpu .venv-serve .venv-vllm .venv-ray .cache bench-results bench-report dist build
