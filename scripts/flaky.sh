#!/usr/bin/env bash
# How often tests fail on a machine that has other things to do: TESTS (files, folders or ids) run RUNS times (10) beside HOGS
# busy processes (3), and it prints how often each one failed. What failed runs said stays in OUT (.tidewire/flaky). Ends
# only what it has started. Usage: TESTS="..." [RUNS=10] [HOGS=3] scripts/flaky.sh [further arguments of pytest...]
source "$(dirname "$0")/env.sh"

runs=${RUNS:-10} hogs=${HOGS:-3} folder=${OUT:-.tidewire/flaky}
[ -n "${TESTS:-}" ] || fail "name the tests, such as: make flaky TESTS=tests/integration/test_limits.py RUNS=10 HOGS=3"
[[ $runs =~ ^[1-9][0-9]*$ ]] || fail "RUNS is $runs: expected a number of at least 1"
[[ $hogs =~ ^[0-9]+$ ]] || fail "HOGS is $hogs: expected a number"

busy=()
trap '[ ${#busy[@]} -eq 0 ] || kill "${busy[@]}"' EXIT
for ((hog = 0; hog < hogs; hog++)); do
  (trap - EXIT && while :; do :; done) >/dev/null 2>&1 &
  busy+=($!)
done

rm -rf "$folder" && mkdir -p "$folder"
for ((run = 1; run <= runs; run++)); do
  output=$folder/$run.txt
  # shellcheck disable=SC2086  # a list of tests
  status=0 && .venv/bin/python -m pytest $TESTS -q -p no:cacheprovider "$@" >"$output" 2>&1 || status=$?
  printf 'run %d of %d: %s\n' "$run" "$runs" "$(tail -n 1 "$output")"
  case $status in
    0) rm "$output" ;;
    1) sed -nE 's/^(FAILED|ERROR) (.*)/\2/; t told; d; :told s/ - .*//; p' "$output" | sort -u >>"$folder/failed" ;;
    *) fail "pytest ended with $status: see $output" ;;
  esac
done
[ -s "$folder/failed" ] || { printf 'no test failed in %d runs beside %d busy processes\n' "$runs" "$hogs" && exit 0; }
printf 'failed, of %d runs beside %d busy processes (output: %s):\n' "$runs" "$hogs" "$folder"
sort "$folder/failed" | uniq -c | sort -rn
exit 1
