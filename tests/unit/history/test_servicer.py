from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.fakes.history import FakeHistory
from tidewire.history.answers import Outcome
from tidewire.history.servicer import MOST_BYTES, MOST_PUBLICATIONS, HistoryServicer, query_of
from tidewire.kernel.call_errors import BAD_REQUEST, CallError
from tidewire.rpc.history.v1 import history_pb2 as pb


def test_requests_are_bounded() -> None:
    """By what one answer can be; 0 bytes are as many as there may be."""
    query = query_of(pb.ReadRequest(channel="a", limit=1 << 31, max_bytes=1 << 31))
    assert (query.limit, query.max_bytes, query.since) == (MOST_PUBLICATIONS, MOST_BYTES, None)
    assert query_of(pb.ReadRequest()).max_bytes == MOST_BYTES


def test_a_recovery_has_one_direction() -> None:
    """It is all behind a position."""
    with pytest.raises(CallError) as caught:
        query_of(pb.ReadRequest(recover=True, reverse=True))
    assert caught.value.reason is BAD_REQUEST


async def test_either_all_say_where_they_stand_or_none() -> None:
    """Else it would be guessed whose position is meant."""
    history = FakeHistory()
    servicer = HistoryServicer(history.reader, history.positions)
    request = pb.PositionRequest(channels=["chat:a", "chat:b"], since=[pb.StreamPosition(offset=1)])
    with pytest.raises(CallError, match="of some channels") as caught:
        await servicer.Position(
            request, SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1", invocation_metadata=lambda: None)
        )
    assert caught.value.reason is BAD_REQUEST


def test_outcomes_are_those_of_the_protocol() -> None:
    """By name and number."""
    assert {f"OUTCOME_{each.name}": each.value for each in Outcome} == {
        name: number for name, number in pb.Outcome.items() if number
    }
