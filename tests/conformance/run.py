"""Runs the Autobahn Testsuite against the echo and judges its report; arguments: wstest, then case patterns (default: all).

Every case must have run, none may fail, close badly or be unimplemented. NON-STRICT is counted, not judged: it tells of
the order of an echo and an error, which the RFC leaves open and which varies from run to run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

GOOD = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
PATIENCE = 3600.0
"""Seconds: compression (12.*, 13.*) takes 13 minutes on two idle cores, the rest 20 seconds."""


def run(wstest: str, port: int, cases: list[str], folder: Path) -> tuple[int, dict[str, Any]]:
    """Return how many cases wstest announced, and its report by case."""
    spec = {
        "outdir": str(folder),
        "servers": [{"agent": "tidewire", "url": f"ws://127.0.0.1:{port}/connection/websocket"}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    done = subprocess.run(
        [wstest, "-m", "fuzzingclient", "-s", str(folder / "spec.json")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    announced = re.search(r"will run (\d+) test cases", done.stdout + done.stderr)
    report = folder / "index.json"
    return (
        int(announced[1]) if announced else 0,
        json.loads(report.read_text()).get("tidewire", {}) if report.exists() else {},
    )


def main() -> int:
    """Return the exit code: 0 when all is well."""
    wstest, *cases = sys.argv[1:]
    echo = subprocess.Popen(
        [sys.executable, "-m", "tests.conformance.echo"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert echo.stdout is not None
        port = int(echo.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            announced, report = run(wstest, port, cases or ["*"], Path(folder))
    finally:
        echo.kill()
        echo.wait()
    behaviours = Counter(case["behavior"] for case in report.values())
    closes = Counter(case["behaviorClose"] for case in report.values())
    bad = {
        name: (case["behavior"], case["behaviorClose"])
        for name, case in report.items()
        if not {case["behavior"], case["behaviorClose"]} <= GOOD
    }
    print(f"conformance: {len(report)} of {announced} cases: {dict(behaviours)}; closes: {dict(closes)}")
    for name, found in sorted(bad.items()):
        print(f"  {name}: {' and '.join(found)}")
    return 0 if announced and len(report) == announced and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
