# `make demo` and `make test` do all set-up; both can be run again at any time.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(abspath $(VENV))/bin
PYTEST = PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_WAIT_POLICY=PASSIVE AMENT_PREFIX_PATH=$(abspath $(VENV)):$${AMENT_PREFIX_PATH} \
	FASTRTPS_DEFAULT_PROFILES_FILE=$(CURDIR)/launch/config/fastdds.xml $(BIN)/python -P -m pytest
# A file's tests stay in one process: they share what is dear to make.
SIDE_BY_SIDE = -p xdist.plugin -n $(JOBS) --dist loadfile

.PHONY: help demo test test-all gpu lint setup-demo setup-test clean

help:
	@echo "make demo      draw a drive, replay it, write runs/demo/run/report.html"
	@echo "make test      the tests that run in CI (set-up included), in JOBS=2 processes"
	@echo "make test-all  those that take long as well"
	@echo "make gpu       kernel tests and benchmarks, up to four times 9 minutes (SECTION=a to d for one); needs a GPU"
	@echo "make lint      ruff and pyright"

demo: setup-demo
	$(BIN)/ros-attn demo $(ARGS)

test: setup-test
	$(PYTEST) $(SIDE_BY_SIDE) -m "not slow and not gpu" --durations=15 $(ARGS)
	@echo "Not run here, being slow (make test-all runs them):"
	@$(PYTEST) -m "slow and not gpu" --collect-only -q 2>/dev/null | grep '::' || echo "  none"

test-all: setup-test
	$(PYTEST) $(SIDE_BY_SIDE) -m "not gpu" --durations=30 $(ARGS)

# A Python that has torch and Triton, as GPU machines do, is taken as it is: nothing is installed beside them.
gpu:
	@if $(PYTHON) -c 'import torch, triton' 2>/dev/null; then python="$(PYTHON)"; \
	else $(MAKE) --no-print-directory setup-test && python=$(BIN)/python; fi && \
	for section in $(or $(SECTION),a b c d); do \
		PYTHONPATH=$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH} $$python -m ros_attn.kernels.bench.gpu --section $$section $(ARGS) || exit 1; \
	done

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

setup-demo:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/setup.sh demo

setup-test:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/setup.sh test

clean:
	rm -rf $(VENV) .venv-bootstrap build dist runs *.egg-info .pytest_cache .ruff_cache .hypothesis
