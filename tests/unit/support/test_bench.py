from __future__ import annotations

import os

import pytest

from bench import tracing, workers


def test_core_that_is_measured_delivers_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks run seldom: one that no longer fits the edge would be noticed late."""
    monkeypatch.setattr(tracing, "COMMANDS", 3)
    sent: list[bytes] = []
    monkeypatch.setattr(tracing.NullTransport, "send", lambda _, frame: not sent.append(frame))
    tracing.Bench(None).run()
    assert [frame.count(b"Hello, everybody") for frame in sent[-6:]] == [0, 1] * 3


def test_memory_and_cost_of_importing_are_read() -> None:
    """Of this process, and of a fresh one: a figure of nothing would look good."""
    assert workers.pss(os.getpid()) > 10
    seconds, size = tracing.cost_of_importing()
    assert seconds > 0.001
    assert size >= 0
