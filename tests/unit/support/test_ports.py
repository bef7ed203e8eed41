from __future__ import annotations

import contextlib
import socket

import pytest

from tests.support.ports import free_ports


def test_ports_are_free_and_none_that_the_kernel_would_give_away() -> None:
    """All different; what listens already is passed over."""
    ports = free_ports(100)
    assert len(set(ports)) == 100
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        assert not set(free_ports(100)) & set(ports)
        given = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        assert given > max(ports)


def test_tests_that_run_at_the_same_time_have_no_port_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody listens on them."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    found = set()
    for worker in range(3):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        found |= {(worker, port % 3) for port in free_ports(50)}
    assert len(found) == 3
