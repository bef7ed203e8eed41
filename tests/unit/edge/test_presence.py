from __future__ import annotations

import pytest

from tests.fakes.attendance import PresentCore
from tests.fakes.edge import token
from tests.support.protocol import protocol
from tidewire.edge.presence_ports import (
    Member,
    Members,
    MembersQuery,
    Stats,
    StatsQuery,
    UserConnection,
    UsersQuery,
    UserStatus,
)
from tidewire.kernel import errors

ONLINE = UserStatus([UserConnection("x", "e2", 1000)], 1, 0, 5)
OFFLINE = UserStatus([], 0, 900, 5)
REFUSE = {"client": {"single_connection": "refuse"}}


@protocol("command.presence")
def test_question_goes_out_when_the_service_has_heard_what_this_edge_knows() -> None:
    """So a client that has just subscribed finds itself in the list."""
    core = PresentCore()
    alice = core.join("room:a")
    alice.say({"id": 3, "presence": {"channel": "room:a"}})
    assert core.wire.deltas
    assert core.service.asked == []
    core.wire.settling.pop()()
    query = core.service.answer(Members([Member("c0", "alice", b'{"n":1}')], 1))
    assert query == MembersQuery("room:a", 1000)
    info = {"user": "alice", "client": "c0", "conn_info": {"n": 1}}
    assert alice.heard() == [{"id": 3, "presence": {"presence": {"c0": info}}}]


@protocol("command.presence_stats")
def test_when_all_is_long_announced_it_goes_out_at_once() -> None:
    """Counts of zero are written."""
    core = PresentCore()
    alice = core.join("room:a")
    core.turns.turn()
    core.clock.advance(1)
    alice.say({"id": 3, "presence_stats": {"channel": "room:a"}})
    assert core.service.answer(Stats(0, 0)) == StatsQuery("room:a")
    assert alice.heard() == [{"id": 3, "presence_stats": {"num_clients": 0, "num_users": 0}}]


@protocol("error.100")
def test_service_that_is_away_is_an_error_and_never_an_empty_list() -> None:
    """A temporary one."""
    core = PresentCore()
    alice = core.join("room:a")
    core.turns.turn()
    core.clock.advance(1)
    alice.say({"id": 3, "presence": {"channel": "room:a"}})
    core.service.answer(errors.INTERNAL)
    (reply,) = alice.heard()
    assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)


def test_answer_that_comes_after_the_end_goes_nowhere() -> None:
    """The client has gone meanwhile."""
    core = PresentCore()
    alice = core.join("room:a")
    core.turns.turn()
    core.clock.advance(1)
    alice.say({"id": 3, "presence_stats": {"channel": "room:a"}})
    core.dispatcher.lost(alice.connection)
    core.service.answer(Stats(1, 1))
    assert core.dispatcher.connections == {}


@protocol("connect.single", "disconnect.3504")
@pytest.mark.parametrize(
    ("answer", "code", "outcome"),
    [([ONLINE], 3504, "elsewhere"), ([OFFLINE], 0, "alone"), (errors.INTERNAL, 0, "unknown")],
    ids=["elsewhere", "alone", "away"],
)
def test_user_who_may_have_one_connection_waits_for_what_the_service_says(
    answer: list[UserStatus], code: int, outcome: str
) -> None:
    """Where it says nothing this edge's own knowledge has to do."""
    core = PresentCore(**REFUSE)
    client = core.client(None)
    client.say({"id": 1, "connect": {"token": token("alice")}})
    assert client.heard() == []
    assert core.service.answer(answer) == UsersQuery(("alice",))
    assert client.closed == code
    assert bool(client.heard()) is not bool(code)
    assert core.metrics.of("others_asked") == [(outcome,)]


def test_without_a_service_this_edges_own_knowledge_decides() -> None:
    """As ever."""
    core = PresentCore(service=False, **REFUSE)
    assert core.client().closed == 0
