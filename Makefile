# Everything runs in .venv, which is made with pip from constraints.txt: the versions tested together.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-core test-torch test-keras test-across test-slow clients lint bench faults

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/ready: constraints.txt packages/core/pyproject.toml packages/torch_models/pyproject.toml packages/keras_models/pyproject.toml requirements-dev.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -r requirements-dev.txt \
	    -e 'packages/core[fast,vector,cpu,microscopy]' -e packages/torch_models -e packages/keras_models
	touch $@

demo: .venv/ready ## train Keras and PyTorch on a generated city, print one table, name the reports
	$(BIN)/python tools/demo.py

test: .venv/ready ## all test suites, two at a time, the longest first, one framework a process
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory --output-sync=target -j2 test-core test-across test-keras test-torch

test-core: .venv/ready ## core alone, no framework imported
	$(PYTEST) packages/core/tests

test-torch: .venv/ready ## the PyTorch backend
	$(PYTEST) packages/torch_models/tests -m "not slow"

test-keras: .venv/ready ## the Keras backend on TensorFlow, without what takes minutes
	$(PYTEST) packages/keras_models/tests -m "not slow"

test-across: .venv/ready ## boundaries, command line, kill and resume, parity of the backends, recipes
	$(PYTEST) tests -m "not slow"

test-slow: .venv/ready ## InceptionResNetV2, ViT-L, several processes, compilers, the five systems' recipes
	$(PYTEST) packages/core/tests -m slow
	$(PYTEST) tests -m slow
	$(PYTEST) packages/torch_models/tests -m slow
	$(PYTEST) packages/keras_models/tests -m slow

clients: ## environments of the programs that exports are opened in, in .clients, for make test-slow
	for line in "deepness onnxruntime==1.17.* numpy<2" \
	    "bioimageio bioimageio.core==0.11.* pydantic<2.14 onnxruntime onnx" \
	    "mlflow mlflow==3.17.* onnxruntime" \
	    "triton tritonclient[grpc]"; do \
	    set -- $$line; name=$$1; shift; \
	    test -d .clients/$$name || $(PYTHON) -m venv .clients/$$name; \
	    .clients/$$name/bin/pip install --quiet --disable-pip-version-check "$$@" || exit 1; \
	done

lint: .venv/ready ## format, lint, types, import boundaries
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

faults: .venv/ready ## plant the 71 faults with each backend, write docs/faults.md
	OMP_NUM_THREADS=1 $(BIN)/python tools/faults.py

bench: .venv/ready ## ours against peers, printed as tables (needs requirements-bench.txt and TERRAZZO_DATA)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-bench.txt
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done
