# `make demo` and `make test` do all the set-up they need. `make` alone lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Say PYTHON=python3.12 to choose the interpreter, CUDA=1 for CUDA builds of torch and onnxruntime,
# ARGS="..." to hand arguments on. Tests that need ROS 2, sound or a browser fail where set-up brought it and it
# does not work; REQUIRE= (empty) lets them skip with a reason instead.
PYTHON ?=
CUDA ?=
ARGS ?=

prepare = tools/prepare.bash $(if $(PYTHON),--python "$(PYTHON)") $(if $(CUDA),--cuda)
env = . tools/env.bash
pytest = $(env) && TIMAR_REQUIRE="$${REQUIRE-$$(cat .venv/components)}" exec tools/tests.bash

.PHONY: help setup setup-perception setup-talk talk bench-talk setup-training setup-tests setup-all-tests demo run train \
	listen test test-fast test-slow test-all lint format types scenarios bench bench-model bench-import bench-published \
	bench-cuda bench-quantised bench-training \
	bench-audio soak soak-audio soak-graph docs readme-media wheels lock clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  Variables: PYTHON=python3.12, CUDA=1, ARGS="--headless --duration 10 --out DIR"'

setup: ## Set up what the head needs: system packages, .venv, ROS 2, workspace; no torch
	@$(prepare) $(if $(findstring perception:=true,$(ARGS)),perception)

setup-perception: ## Set up face tracking as well: MediaPipe and OpenCV
	@$(prepare) perception

setup-talk: ## Set up talking as well: recogniser and voice
	@$(prepare) talk $(if $(findstring perception:=true,$(ARGS)),perception)

setup-training: ## Set up training as well: torch and what goes with it
	@$(prepare) training

setup-tests: ## Set up what the tests need, without sound server and browser (make test brings those)
	@$(prepare) tests

setup-all-tests:
	@$(prepare) tests sound browser voice-bots

demo: setup ## Watch the head listen and talk through a real conversation (ARGS="--help")
	@$(env) && exec python -m timar_common.cli demo $(ARGS)

talk: setup-talk ## Talk with the head: it listens, understands English, answers and can be interrupted (ARGS="--help")
	@$(env) && exec python -m timar_common.cli talk $(ARGS)

run: setup ## Run the head on the microphone (ARGS="name:=value ...", ARGS=--help)
	@$(env) && exec python -m timar_common.cli run $(ARGS)

train: setup-training ## Train a model (ARGS="CONFIG.yaml", ARGS=--help)
	@$(env) && exec python -m timar_common.cli train $(ARGS)

listen: setup-training ## Rate blind pairs of heads in a browser: annotated and drawn gestures (ARGS="ARCHIVE OUT")
	@$(env) && exec python -m timar_common.cli listen $(ARGS)

test: setup-all-tests ## Run the tests, with ROS 2, sound and browser, in a quarter of an hour (ARGS="-k NAME")
	@$(pytest) normal $(ARGS)

test-fast: setup-tests ## Run the tests without ROS 2, sound and browser, in two minutes (ARGS="-k NAME")
	@$(pytest) fast $(ARGS)

test-slow: setup-all-tests ## Run what takes longer, before an issue is closed (ARGS="-k NAME")
	@$(pytest) slow $(ARGS)

fuzz: setup-tests ## Give each reader 100,000 mutated inputs, hours; goes on where it was ended (ARGS="-k WAV"; TIMAR_FUZZ_INPUTS=1000)
	@$(env) && TIMAR_FUZZ_INPUTS="$${TIMAR_FUZZ_INPUTS-100000}" TIMAR_FUZZ_PROGRESS="$${TIMAR_FUZZ_PROGRESS-runs/fuzz.json}" exec python -m pytest tests/fuzz -s -n 0 --timeout 0 $(ARGS)

test-all: setup-all-tests ## Run all tests, as continuous integration does
	@$(pytest) all $(ARGS)

lint: setup-tests ## Check style with ruff
	@$(env) && ruff check . && ruff format --check .

format: setup-tests ## Mend style with ruff
	@$(env) && ruff check --fix . ; ruff format .

types: setup-tests ## Check types with mypy (strict on the cores)
	@$(env) && tools/types.bash

scenarios: setup ## Replay every scenario of examples/scenarios in parallel and check its thresholds
	@$(env) && exec python -m timar_common.cli replay scenarios $(ARGS)

bench: setup ## Measure what issue texts and README promise; writes benchmarks/results/
	@$(env) && exec python benchmarks/bench_graph.py $(ARGS)

soak: setup ## Ten million wild frames of motion against the limits (ARGS="--frames 100000"); a quarter of an hour
	@$(env) && OPENBLAS_NUM_THREADS=1 exec python benchmarks/retargeting_soak.py $(ARGS)

bench-model: setup-tests ## Measure the published size, large, on random weights, about 20 minutes (ARGS="--only import target")
	@$(env) && exec python benchmarks/bench_model.py $(ARGS)

bench-import: setup-tests ## Measure the import of a published checkpoint, on random weights, three minutes (ARGS="--folder DIR")
	@$(env) && exec python benchmarks/bench_import.py $(ARGS)

bench-published: setup-tests ## Ten live minutes of size large in int8, with view and recorder (ARGS="--seconds 60")
	@$(env) && exec python benchmarks/published_live.py $(ARGS)

bench-cuda: setup-tests ## Measure the engines on a CUDA device; without one say so, and try a small model on the CPU
	@$(env) && exec python benchmarks/bench_cuda.py $(ARGS)

bench-quantised: setup-tests ## Set int8 against float32 with the shipped weights, paired on the same noise (ARGS="--clips 6")
	@$(env) && exec python benchmarks/int8_quality.py $(ARGS)

bench-training: setup-training ## Measure training against a plain loop that encodes speech again each step (ARGS="--rounds 10")
	@$(env) && exec python benchmarks/bench_training.py $(ARGS)

bench-audio: setup ## Measure voice activity, turns and echo on labelled sound (ARGS="--minutes 4")
	@$(env) && exec python benchmarks/bench_audio.py $(ARGS)

bench-talk: setup-all-tests ## Measure talking with the head over a virtual microphone and loudspeaker 
	@$(env) && exec python benchmarks/bench_talk.py $(ARGS)

soak-audio: setup ## Send an hour of coded sound through a virtual device and the nodes (ARGS="--seconds 600")
	@$(env) && exec python benchmarks/soak_audio.py $(ARGS)

soak-graph: setup-all-tests ## Break the whole graph in every way for an hour (ARGS="--seconds 600 --seed 3")
	@$(env) && exec python benchmarks/soak_graph.py $(ARGS)

docs: setup ## Check the documentation: links, and what is made from the code
	@$(env) && python tools/check_docs.py && python tools/process_page.py --check && exec python tools/data_page.py --check

readme-media: setup-all-tests ## Make README's moving picture and its sound of a real run (ARGS="--start 8 --seconds 8")
	@$(env) && exec python tools/readme_media.py $(ARGS)

wheels: setup ## Write timar_model, which needs neither ROS nor torch, and timar_common as wheels into dist/
	@$(env) && exec tools/wheels.bash dist

lock: setup ## Choose the newest versions for every Python and write uv.lock (ARGS="--upgrade-package NAME")
	@$(env) && exec uv lock $(or $(ARGS),--upgrade)

clean: ## Remove what was built and what tools left
	rm -rf ros2_ws/build ros2_ws/install ros2_ws/log .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -exec rm -rf {} +

distclean: clean ## Remove the virtual environment as well
	rm -rf .venv
