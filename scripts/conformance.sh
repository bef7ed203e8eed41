#!/usr/bin/env bash
# Run the Autobahn Testsuite against the edge's handshake, frame reader and transport. It needs Python 2.7: PYTHON27, or
# pyenv's, or the system's. Usage: scripts/conformance.sh [pattern of cases, such as "7.*"...], by default every case.
source "$(dirname "$0")/env.sh"

folder=.tidewire/autobahn
pins=tests/conformance/requirements.txt
python27=${PYTHON27:-$(compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/2.7.*/bin/python2.7" | head -n 1 || command -v python2.7 || true)}
[ -n "$python27" ] || fail "conformance was not tested: Python 2.7 is missing; name it in PYTHON27, or install it with pyenv"

if ! cmp -s "$pins" "$folder/installed.txt"; then
  rm -rf "$folder" && mkdir -p "$folder"
  "$python27" -m pip install --quiet --disable-pip-version-check --target "$folder/virtualenv" virtualenv==20.15.1
  PYTHONPATH=$folder/virtualenv "$python27" -m virtualenv --quiet "$folder/env"
  "$folder/env/bin/pip" install --quiet --disable-pip-version-check -r "$pins"
  cp "$pins" "$folder/installed.txt"
fi

PYTHONPATH=services:. exec .venv/bin/python -m tests.conformance.run "$folder/env/bin/wstest" "$@"
