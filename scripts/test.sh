#!/usr/bin/env bash
# Run test suites, each within its budget of seconds: a suite that hangs is stopped and fails; the others run all the same.
# The whole stays under 30 minutes on two cores. Usage: scripts/test.sh [suite...], by default every one in this order.
# Two tests run at a time; those marked `alone` are the suite of that name, and run one by one.
source "$(dirname "$0")/env.sh"

declare -A budget=([unit]=200 [integration]=880 [e2e]=480 [alone]=240)
declare -A paths=([unit]=tests/unit [integration]=tests/integration [e2e]="tests/e2e tests/browser" [alone]="tests/e2e tests/chaos")
together=(-n 2 --dist worksteal -m "not alone")
for folder in $(find tests -name 'test_*.py' | cut -d/ -f1,2 | sort -u); do
  [[ " ${paths[*]} " == *" $folder "* ]] || fail "$folder holds tests and is in no suite of scripts/test.sh"
done

suites=("$@")
[ $# -gt 0 ] || suites=(unit integration e2e alone)

timings=() failed=()
for suite in "${suites[@]}"; do
  echo "== $suite (at most ${budget[$suite]} s)"
  started=$SECONDS
  case $suite in
    alone) how=(-m alone) ;;
    *) how=("${together[@]}") ;;
  esac
  # shellcheck disable=SC2086  # a list of files
  timeout --foreground --signal=INT --kill-after=20 "${budget[$suite]}" .venv/bin/python -m pytest ${paths[$suite]} "${how[@]}" --durations=5 ||
    failed+=("$suite (after $((SECONDS - started)) of ${budget[$suite]} s)")
  timings+=("$suite $((SECONDS - started)) s")
done
[ ${#failed[@]} -eq 0 ] || fail "suites that failed: $(printf '%s, ' "${failed[@]}" | sed 's/, $//')"
printf 'suites: %s\n' "$(printf '%s, ' "${timings[@]}" | sed 's/, $//')"
