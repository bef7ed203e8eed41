from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench import tls, tracing, workers
from tests.support.certificates import write_certificate


def test_core_that_is_measured_delivers_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks run seldom: one that no longer fits the edge would be noticed late."""
    monkeypatch.setattr(tracing, "COMMANDS", 3)
    sent: list[bytes] = []
    monkeypatch.setattr(tracing.NullTransport, "send", lambda _, frame: not sent.append(frame))
    tracing.Bench(None).run()
    assert [frame.count(b"Hello, everybody") for frame in sent[-6:]] == [1, 0] * 3


def test_memory_and_cost_of_importing_are_read() -> None:
    """Of this process, and of a fresh one: a figure of nothing would look good."""
    assert workers.pss(os.getpid()) > 10
    seconds, size = tracing.cost_of_importing()
    assert seconds > 0.001
    assert size >= 0


def test_tls_servers_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is in a process of its own, with clients that come through."""
    monkeypatch.setattr(tls, "CONNECTIONS", 1)
    write_certificate(tmp_path / "cert", [datetime.now(UTC) + timedelta(days=1)], tmp_path / "key")
    _, cpu, _ = tls.measure("ours", tmp_path, tls.SMALL)
    assert cpu > 0
