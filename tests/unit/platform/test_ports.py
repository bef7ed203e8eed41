from __future__ import annotations

import socket

from tidewire.platform.ports import why_not


def test_taken_port() -> None:
    """A port where somebody listens is taken, and free again afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert why_not("127.0.0.1", port) == "is taken"
    assert why_not("127.0.0.1", port) is None


def test_address_of_another_machine() -> None:
    """An address that is not ours is told from a taken port."""
    assert why_not("192.0.2.1", 0) == "is at an address that this machine does not have"
