SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test setup setup-sdks setup-peers setup-system lint format unit integration e2e flaky chaos conformance fuzz bench bench-history bench-presence bench-ratelimit bench-storm bench-subjects bench-fsync bench-parts soak-churn flames proto pins clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## start the whole mesh on this machine (Ctrl-C stops it)
	@.venv/bin/tidewire dev --config tidewire.yaml

test: ## check everything: tools, style, types, import rules, all test suites
	@scripts/preflight.sh && scripts/setup.sh sdks && scripts/lint.sh && scripts/test.sh

setup: ## create .venv and node_modules from the pins
	@scripts/setup.sh

setup-sdks: ## the same, and the SDKs that only tests use (needs Go 1.25 or newer)
	@scripts/setup.sh sdks

setup-system: ## install what only the system gives (apt): Chromium, a C compiler, OpenSSL's headers, strace; look for Go
	@scripts/setup-system.sh

lint: setup ## style, types, import rules, generated code
	@scripts/lint.sh

format: setup ## format the code and mend what can be mended
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

e2e: setup-sdks
unit integration: setup
unit integration:
	@scripts/test.sh $@
e2e:
	@scripts/test.sh e2e alone

unit: ## run the unit tests
integration: ## run the tests against a real nats-server
e2e: ## run the tests with whole processes, the official SDKs and a browser

flaky: setup ## run tests again and again beside busy processes, and count how often each fails: TESTS="files or ids" [RUNS=10] [HOGS=3]
	@scripts/flaky.sh

conformance: setup ## run the Autobahn Testsuite against the WebSocket transport (needs Python 2.7; a quarter of an hour)
	@scripts/conformance.sh

chaos: setup ## kill, freeze, cut off, fill and restore one part of a mesh after the other while 200 SDK clients publish and read (CHAOS="--seed 7"), then of one with 5,000 members and rate limits (ATTENDANCE="--seed 7")
	@PYTHONPATH=services:. .venv/bin/python -m tests.chaos $(CHAOS)
	@PYTHONPATH=services:. .venv/bin/python -m tests.chaos.attendance $(ATTENDANCE)

fuzz: setup-sdks ## fuzz what reads strangers' bytes: FUZZ_RUNS inputs (10 million) for each target, or for TARGET only
	@PYTHONPATH=services:. .venv/bin/python -m tests.fuzz --runs $(or $(FUZZ_RUNS),1e7) $(TARGET)

setup-peers: ## the same, and the servers of others that `make bench` measures beside ours where they are installed
	@scripts/setup.sh peers

bench: setup ## measure the edge beside a C server (25 minutes with peers); BENCH="--quick" only tries it, "--help" tells more
	@.venv/bin/python -m bench.load $(BENCH)

bench-history: setup ## measure channels with history: publishing, latency, reads, memory (15 minutes); BENCH="--quick" only tries it
	@.venv/bin/python -m bench.history $(BENCH)

bench-presence: setup ## measure the presence service: joins, leaves, memory, rebuilding a million members, questions; BENCH="--quick" only tries it
	@PYTHONPATH=services:. .venv/bin/python -m bench.presence $(BENCH)

bench-storm: setup ## let 10,000 connections come back at once, each to recover 50 publications
	@.venv/bin/python -m bench.history.storm $(BENCH)

bench-subjects: setup ## fill streams with up to a million channels: start times and memory (5 minutes)
	@.venv/bin/python -m bench.history.subjects $(BENCH)

bench-fsync: setup ## show nats-server's system calls: is what was acknowledged on the disk? (strace)
	@.venv/bin/python -m bench.history.fsync $(BENCH)

bench-ratelimit: setup ## measure decisions of rate limits, at the edge and in the service (2 minutes); BENCH="--quick" only tries it
	@PYTHONPATH=services:. .venv/bin/python -m bench.ratelimit $(BENCH)

soak-churn: setup ## let clients come and go for an hour and judge whether memory stays flat; SOAK="--minutes 5" is shorter
	@.venv/bin/python -m bench.soak $(SOAK)

flames: setup ## draw flame graphs of the edge's hot paths into build/flames (py-spy)
	@.venv/bin/python -m bench.flames $(FLAMES)

bench-parts: setup ## measure parts of the edge by themselves
	@.venv/bin/python -m bench

proto: setup ## generate services/tidewire/rpc from proto/
	@scripts/proto.sh

pins: setup ## compile requirements*.txt from the .in files
	@for each in requirements requirements-dev tests/fuzz/requirements tests/sdks/requirements-0.5 bench/peers/requirements; do UV_NO_CONFIG=1 .venv/bin/uv pip compile --quiet --generate-hashes \
	  --no-header --no-strip-markers --python-version 3.11 $$each.in --output-file $$each.txt; done

clean: ## remove what was installed or generated here
	rm -rf .venv node_modules .tidewire build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} + -o -name '*.egg-info' -prune -exec rm -rf {} +
