from __future__ import annotations

import pytest

from tests.fakes.attendance import PresentCore, pushed
from tests.fakes.edge import OPEN, edge_config, token
from tests.support.protocol import protocol
from tidewire.edge import presence, presence_command
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
from tidewire.edge.timers import Timing
from tidewire.kernel import errors
from tidewire.kernel.presence_wire import Event, Joined

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


def test_list_that_many_ask_for_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand members take more than a millisecond to write, for each of a thousand askers."""
    core = PresentCore()
    made: list[Members] = []

    def counted(found: Members) -> object:
        made.append(found)
        return presence_command.listed(found)

    monkeypatch.setattr(presence, "listed", counted)
    clients = [core.join("room:a") for _ in range(3)]
    core.turns.turn()
    core.clock.advance(1)
    for client in clients:
        client.heard()
        client.say({"id": 9, "presence": {"channel": "room:a"}})
    first, second = (Members([Member(name, "u")], 1) for name in ("c1", "c2"))
    for found in (first, first, second):
        core.service.answer(found)
    told = [reply["presence"]["presence"] for client in clients for reply in client.heard()]
    assert [list(each) for each in told] == [["c1"], ["c1"], ["c2"]]
    assert made == [first, second]


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


def reload(core: PresentCore, **options: bool) -> None:
    """Put other options in force in the namespace `plain`."""
    plain = {"name": "plain", **OPEN, "allow_presence_for_subscriber": True, **options}
    target = {"presence": {"target": "ipv4:127.0.0.1:1"}}
    core.rules.configure(edge_config(channel={"namespaces": [plain]}, **target))
    core.dispatcher.reconfigured(Timing(ping=25.0, pong=8.0, stale=10.0))


def test_reload_that_turns_presence_on_announces_who_is_there_already() -> None:
    """A list is whole or an error, also the first one."""
    core = PresentCore()
    reload(core)
    alice, bob = core.join("plain:a"), core.let_in(core.client("bob"), "plain:a")
    core.turns.turn()
    assert not [each for each in core.wire.changes if isinstance(each, Joined)]
    reload(core, presence=True, join_leave=True)
    core.announcer.beat()
    members = {each.client for each in core.wire.changes if isinstance(each, Joined)}
    assert members == {"c0", "c1"}
    assert sum(each.members for each in core.wire.beats[-1]) == 2
    assert sum(each.channels for each in core.wire.beats[-1]) == 1
    core.relay()
    assert (pushed(alice), bob.heard()) == ([], [])
    core.dispatcher.lost(bob.connection)
    core.relay()
    assert pushed(alice) == [("leave", "c1")], "who had asked for them hears of leaves from now on"


def test_reload_that_turns_presence_off_takes_members_out_and_tells_no_more() -> None:
    """Their subscriptions go on."""
    core = PresentCore()
    reload(core, presence=True, join_leave=True, force_push_join_leave=True)
    alice, bob = core.join("plain:a"), core.let_in(core.client("bob"), "plain:a")
    core.relay()
    alice.heard()
    bob.heard()
    reload(core, occupancy=False)
    core.announcer.beat()
    assert sum(each.members + each.channels for each in core.wire.beats[-1]) == 0
    core.dispatcher.lost(bob.connection)
    core.relay()
    core.hear_event("plain:a", Event(1, "leave", "x", "eve"))
    assert alice.heard() == []
    core.deliver("plain:a", 1)
    assert len(alice.heard()) == 1
    core.dispatcher.lost(alice.connection)
    core.announcer.beat()
    assert sum(each.members + each.channels for each in core.wire.beats[-1]) == 0


def test_reload_is_followed_by_a_subscription_that_has_only_begun() -> None:
    """As if it had begun after it."""
    core = PresentCore()
    reload(core)
    alice = core.client()
    alice.say({"id": 2, "subscribe": {"channel": "plain:a"}})
    reload(core, presence=True)
    core.broker.confirm("plain:a")
    core.announcer.beat()
    assert sum(each.members for each in core.wire.beats[-1]) == 1
