#!/usr/bin/env bash
# Everything that is judged without running the system: style, types, import rules, generated code.
source "$(dirname "$0")/env.sh"

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
go_is_new_enough || fail "Go $GO_NEEDED or newer must be on the PATH to judge tests/sdks/go"
unformatted=$(gofmt -l tests/sdks/go)
[ -z "$unformatted" ] || fail "not formatted: $unformatted: run \`gofmt -w tests/sdks/go\`"
go -C tests/sdks/go vet .

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
scripts/proto.sh "$fresh"
diff -r --exclude='__init__.py' --exclude=__pycache__ "$fresh/tidewire/rpc" services/tidewire/rpc ||
  fail "services/tidewire/rpc is not what proto/ generates: run \`make proto\` and commit the result"
! grep -n '"resolved"' package-lock.json bench/peers/package-lock.json || fail "a package-lock.json names a registry: see .npmrc"
