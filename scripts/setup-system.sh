#!/usr/bin/env bash
# Install what only the system can give: Chromium for the browser tests, a C compiler and OpenSSL's headers for the load
# generator, strace for `python -m bench.history.fsync`. Go, for the SDK tests, is only looked for: Debian 12's (1.19) would be too old.
source "$(dirname "$0")/env.sh"

go_is_new_enough || fail "Go $GO_NEEDED or newer must be on the PATH, and apt's may be older: install it from Go's own archive first"

command -v apt-get >/dev/null || fail "no apt-get here: install Chromium, a C compiler, OpenSSL's headers and strace with your system's own tools"
missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-liberation)
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
[ -e /usr/include/openssl/ssl.h ] || missing+=(libssl-dev)
command -v strace >/dev/null || missing+=(strace)
[ ${#missing[@]} -gt 0 ] || { echo "setup-system: nothing to do" && exit 0; }

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail "this installs packages: run it as root"
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
