from __future__ import annotations

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import rules
from tidewire.edge.party import MAX_TTL, Party
from tidewire.edge.wire.replies import Reply
from tidewire.kernel import errors
from tidewire.kernel.ids import ConnectionId

NOW = ManualClock().wall()


def party(limit: int = 128) -> Party:
    """The client of a new connection."""
    return Party(ConnectionId("c1"), rules(ManualClock(), client={"inflight_limit": limit}), is_json=True)


@pytest.mark.parametrize(
    ("left", "ttl", "over"),
    [
        (None, 0, False),
        (-1, 0, True),
        (0, 0, True),
        (0.4, 1, False),
        (1, 1, False),
        (1.9, 1, False),
        (60, 60, False),
        (10**12, MAX_TTL, False),
    ],
)
def test_ttl_is_what_the_sdks_timers_can_hold(left: float | None, ttl: int, over: bool) -> None:
    """Whole seconds, at least one while it lasts; 0 for never and for what is over."""
    client = party()
    expires_at = 0 if left is None else NOW + left
    assert client.ttl(expires_at) == ttl  # type: ignore[arg-type]
    assert client.is_over(expires_at) is over  # type: ignore[arg-type]


def test_crowded_is_who_is_owed_as_much_as_may_be() -> None:
    """Each settled command makes room."""
    client = party(limit=1)
    assert not client.crowded
    client.owed += 1
    assert client.crowded
    client.settle("rpc", 3.5, Reply(id=1))
    assert (client.crowded, client.owed) == (False, 0)


def test_answers_know_when_their_command_came() -> None:
    """The one at hand, or the one that waited."""
    client = party()
    client.started = 7.0
    assert client.refuse("publish", 1, errors.INTERNAL).started == 7.0
    client.owed = 1
    assert client.settle("publish", 3.0, Reply(id=1)).started == 3.0
