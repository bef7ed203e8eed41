from __future__ import annotations

from tidewire.kernel.config import decode
from tidewire.presence.config import PresenceConfig


def test_its_ports_are_not_those_of_the_history_service() -> None:
    """Both run on one machine with a file that names none, also where another setting of the server is named."""
    own = decode(PresenceConfig, {"presence_service": {"rpc": {"address": "127.0.0.2"}}})
    assert (own.presence_service.rpc.port, own.presence_service.rpc.health_port) == (9543, 9544)
    assert own.presence_service.internal_port == 9110
