from __future__ import annotations

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import RecordingTransport, rules
from tidewire.edge.connection import Connection
from tidewire.edge.session import Session
from tidewire.edge.timers import Timer
from tidewire.edge.users import Users
from tidewire.kernel.ids import ConnectionId


def test_new_connection_is_open_and_has_room_for_each_timer() -> None:
    """Equal to nothing but itself, so that it can be a key; slotted, since there are very many."""
    session = Session(ConnectionId("c1"), rules(ManualClock()), Users(), json=True)
    connection = Connection(session, RecordingTransport(), 12.5)
    twin = Connection(session, connection.transport, 12.5)
    assert (connection.opened_at, connection.commands, connection.disconnect) == (12.5, 0, None)
    assert connection.due == [0] * len(Timer)
    assert connection.due is not twin.due
    assert connection != twin
    with pytest.raises(AttributeError):
        connection.note = "x"  # type: ignore[attr-defined]
