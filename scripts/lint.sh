#!/usr/bin/env bash
# Everything that is judged without running the system: style, types, import rules, generated code.
source "$(dirname "$0")/env.sh"

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
scripts/proto.sh "$fresh"
diff -r --exclude='__init__.py' --exclude=__pycache__ "$fresh/tidewire/rpc" services/tidewire/rpc ||
  fail "services/tidewire/rpc is not what proto/ generates: run \`make proto\` and commit the result"
! grep -n '"resolved"' package-lock.json || fail "package-lock.json names a registry: see .npmrc"
