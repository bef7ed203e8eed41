from __future__ import annotations

import pytest

from tests.fakes.measured import MeasuredEdge
from tidewire.platform.nats_types import LinkState


@pytest.fixture
def edge() -> MeasuredEdge:
    """A silent edge."""
    return MeasuredEdge()


def test_what_the_link_counts_is_read_when_somebody_asks(edge: MeasuredEdge) -> None:
    """State, traffic and troubles."""
    assert edge.value("tidewire_nats_connected") == 1
    edge.link.state = LinkState.AWAY
    assert edge.value("tidewire_nats_connected") == 0
    names = [
        "received_messages",
        "received_bytes",
        "sent_messages",
        "sent_bytes",
        "reconnects",
        "callback_errors",
    ]
    assert [edge.value(f"tidewire_nats_{name}_total") for name in names] == [1, 20, 3, 40, 5, 7]
    assert edge.value("tidewire_nats_pending_bytes") == 6
