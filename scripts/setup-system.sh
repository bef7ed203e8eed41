#!/usr/bin/env bash
# Install what only the system can give: Chromium for the browser tests, and a C compiler.
source "$(dirname "$0")/env.sh"

command -v apt-get >/dev/null || fail "no apt-get here: install Chromium and a C compiler with your system's own tools"
missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-liberation)
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
[ ${#missing[@]} -gt 0 ] || { echo "setup-system: nothing to do" && exit 0; }

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail "this installs packages: run it as root"
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
