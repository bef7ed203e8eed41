#!/usr/bin/env bash
# Generate services/tidewire/rpc from proto/ (or into the folder given as $1, for the drift check).
# The proto path and the Python package have the same name (the proto package, too, but for a service of others whose path
# clients know), so the output needs no rewriting.
source "$(dirname "$0")/env.sh"

out=${1:-services}
mapfile -t sources < <(cd proto && find . -name '*.proto' | sed 's|^\./||' | sort)
[ ${#sources[@]} -gt 0 ] || fail "no .proto file under proto/"
[ -n "${1:-}" ] || find services/tidewire/rpc -name '*_pb2.py*' -delete
.venv/bin/python -m grpc_tools.protoc -Iproto --python_out="$out" --pyi_out="$out" "${sources[@]}"
mapfile -t services < <(cd proto && grep -l '^service ' "${sources[@]}")
.venv/bin/python -m grpc_tools.protoc -Iproto --grpc_python_out="$out" "${services[@]}"
