from __future__ import annotations

import pytest

from tidewire.history.answers import Outcome
from tidewire.history.servicer import MOST_BYTES, MOST_PUBLICATIONS, query_of
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


def test_outcomes_are_those_of_the_protocol() -> None:
    """By name and number."""
    assert {f"OUTCOME_{each.name}": each.value for each in Outcome} == {
        name: number for name, number in pb.Outcome.items() if number
    }
