#!/usr/bin/env bash
# Say at once what the tests would miss on this machine. Nothing is skipped for want of a tool.
source "$(dirname "$0")/env.sh"

missing=()
command -v chromium >/dev/null || missing+=("Chromium (browser tests)")
command -v cc >/dev/null || command -v gcc >/dev/null || missing+=("a C compiler")
[ -e /usr/include/openssl/ssl.h ] || missing+=("OpenSSL's headers (the load generator's TLS)")
[ ${#missing[@]} -eq 0 ] || fail "missing: $(printf "%s, " "${missing[@]}" | sed "s/, $//"): run \`make setup-system\`"
go_is_new_enough || fail "missing: Go $GO_NEEDED or newer on the PATH (SDK tests): install it from Go's own archive, as Debian 12's is too old"
