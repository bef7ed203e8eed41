from __future__ import annotations

import contextlib
import socket
from collections import deque

import pytest

from tests.support.ports import free_ports


def test_ports_are_free_and_none_that_the_kernel_would_give_away() -> None:
    """All different; what listens already is passed over."""
    ports = free_ports(100)
    assert len(set(ports)) == 100
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        given = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        assert given > max(ports)


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody listens there at the moment: whoever was given it may only have stopped, to start again."""
    monkeypatch.setattr("tests.support.ports.LOWEST", 32_000)
    ports = free_ports(100)
    assert not set(ports) & set(free_ports(100))
    monkeypatch.setattr("tests.support.ports._given", deque())
    assert set(ports) & set(free_ports(100)), "of so few it would be by chance"


def test_what_listens_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever it belongs to."""
    (taken,) = free_ports(1)
    monkeypatch.setattr("tests.support.ports._given", deque())
    drawn = iter((taken, *free_ports(1)))
    monkeypatch.setattr("random.SystemRandom.randrange", lambda *_: next(drawn))
    monkeypatch.setattr("tests.support.ports._given", deque())
    with socket.create_server(("127.0.0.1", taken)):
        assert taken not in free_ports(1)


def test_test_processes_have_different_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of pytest-xdist know nothing of each other."""
    monkeypatch.setattr("tests.support.ports.LOWEST", 32_000)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    found = []
    for process in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", process)
        monkeypatch.setattr("tests.support.ports._given", deque())
        found.append(set(free_ports(100)))
    assert not found[0] & found[1]
