#!/usr/bin/env bash
# Make .venv and node_modules hold exactly what the pins say. Costs nothing when nothing changed since the last time.
# Usage: scripts/setup.sh [sdks | peers]; sdks: also what only tests use and not every machine can have, a fuzzer and, in
# .venv/sdks, SDKs that need more than .venv; peers: also .venv/peers and bench/peers/node_modules, the servers that
# `make bench` measures beside ours.
source "$(dirname "$0")/env.sh"

find_python() { # print the first Python of version 3.11 or newer that is not the one in .venv
  local python
  for python in $(type -aP python3.11 python3); do
    if [[ $python != "$PWD/.venv/"* ]] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "$python"
      return
    fi
  done
  fail "Python 3.11 or newer is needed and not on the PATH: install it (Debian: apt-get install python3 python3-pip)"
}

make_venv() { # Debian keeps ensurepip in a package of its own (python3-venv): the system's pip serves as well
  local python
  python=$(find_python)
  echo "setup: creating .venv with $python"
  rm -rf .venv
  if "$python" -m ensurepip --version >/dev/null 2>&1; then
    "$python" -m venv .venv
  elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip .venv
    echo "$python" >.venv/pip-from
  else
    fail "$python has neither ensurepip nor pip: install one (Debian: apt-get install python3-pip)"
  fi
  pwd >.venv/made-in
}

pip_install() { # python arguments...
  local python=$1 pip=(.venv/bin/python -m pip)
  shift
  [ ! -f .venv/pip-from ] || pip=("$(cat .venv/pip-from)" -m pip)
  "${pip[@]}" --python "$python" --disable-pip-version-check --no-input install --quiet --no-deps "$@"
}

once() { # stamp inputs... -- command...: run the command unless it succeeded before with the same inputs
  local stamp=$1 inputs=() sum
  shift
  while [ "$1" != -- ]; do inputs+=("$1") && shift; done
  shift
  sum=$(cat "${inputs[@]}" scripts/setup.sh | cksum)
  [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$sum" ] || return 0
  "$@"
  printf '%s\n' "$sum" >"$stamp"
}

install_requirements() {
  echo "setup: installing the pinned Python packages (a minute or two the first time)"
  pip_install .venv/bin/python --require-hashes -r requirements-dev.txt
}

install_node_modules() {
  echo "setup: installing the pinned Node packages with Node $(node --version)"
  npm ci --ignore-scripts --loglevel=error >/dev/null
}

install_apart() { # folder requirements: make an environment of its own
  echo "setup: installing $2 in an environment of its own"
  rm -rf "$1"
  .venv/bin/python -m venv --without-pip "$1"
  pip_install "$1/bin/python" --require-hashes -r "$2"
}

install_node_peers() {
  echo "setup: installing Socket.IO for Node"
  npm ci --prefix bench/peers --ignore-scripts --loglevel=error >/dev/null
}

install_fuzzer() {
  echo "setup: installing the fuzzer"
  pip_install .venv/bin/python --require-hashes --only-binary :all: -r tests/fuzz/requirements.txt ||
    fail "atheris cannot be installed: it has wheels for Python 3.11 to 3.13 on Linux and x86-64 only"
}

build_go_driver() {
  echo "setup: building the driver of the Go SDK (half a minute the first time)"
  go_is_new_enough || fail "Go $GO_NEEDED or newer must be on the PATH for the SDK tests"
  go -C tests/sdks/go build -o "$PWD/.venv/sdks/go-driver" .
}

# A virtual environment holds its own path, so a moved or copied folder needs a new one.
{ [ "$(cat .venv/made-in 2>/dev/null)" = "$PWD" ] && .venv/bin/python -c ''; } || make_venv
once .venv/requirements.stamp requirements-dev.txt -- install_requirements
once .venv/package.stamp pyproject.toml services/tidewire/__init__.py -- pip_install .venv/bin/python --no-build-isolation --editable .
[ -d node_modules ] || rm -f .venv/node.stamp
once .venv/node.stamp package.json package-lock.json -- install_node_modules
case "${1:-}" in
sdks)
  once .venv/fuzz.stamp tests/fuzz/requirements.txt -- install_fuzzer
  mkdir -p .venv/sdks
  once .venv/sdks/python-0.5.stamp tests/sdks/requirements-0.5.txt -- install_apart .venv/sdks/python-0.5 tests/sdks/requirements-0.5.txt
  once .venv/sdks/go.stamp tests/sdks/go/{go.mod,go.sum,main.go,client.go} -- build_go_driver
  ;;
peers)
  command -v redis-server >/dev/null || fail "redis-server is missing: install it (Debian: apt-get install redis-server)"
  [ -d bench/peers/node_modules ] || rm -f .venv/peers-node.stamp
  once .venv/peers.stamp bench/peers/requirements.txt -- install_apart .venv/peers bench/peers/requirements.txt
  once .venv/peers-node.stamp bench/peers/package.json bench/peers/package-lock.json -- install_node_peers
  ;;
esac
