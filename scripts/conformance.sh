#!/usr/bin/env bash
# Run the Autobahn Testsuite against the edge's handshake and frame reader. It needs Python 2.7: $PYTHON27, or pyenv's.
# Arguments: case patterns, such as "7.*"; all cases without any, which takes some ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=.tidewire/autobahn
python27=${PYTHON27:-$(compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/2.7.*/bin/python2.7" | head -n 1 || true)}
python27=${python27:-$(command -v python2.7 || true)}
if [[ -z $python27 ]]; then
  echo "conformance: not run: Python 2.7 is missing (set PYTHON27 to it, or install one with pyenv)" >&2
  exit 1
fi

if [[ ! -x $folder/env/bin/wstest ]] || ! cmp -s tests/conformance/requirements.txt "$folder/installed.txt"; then
  rm -rf "$folder" && mkdir -p "$folder"
  "$python27" -m pip install --quiet --disable-pip-version-check --target "$folder/virtualenv" virtualenv==20.15.1
  PYTHONPATH="$folder/virtualenv" "$python27" -m virtualenv --quiet "$folder/env"
  "$folder/env/bin/pip" install --quiet --disable-pip-version-check -r tests/conformance/requirements.txt
  cp tests/conformance/requirements.txt "$folder/installed.txt"
fi

PYTHONPATH=services:. exec .venv/bin/python -m tests.conformance.run "$folder/env/bin/wstest" "$@"
