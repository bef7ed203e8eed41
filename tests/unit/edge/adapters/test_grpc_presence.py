from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.fakes.log import RecordingLog
from tests.support.wait import eventually
from tidewire.edge.adapters import grpc_presence
from tidewire.edge.adapters.grpc_presence import (
    AWAY,
    BUSY,
    CROWDED,
    MEMBERS,
    STATS,
    TOLD_AT_ONCE,
    TOO_LARGE,
    USER_STATUS,
    GrpcPresence,
)
from tidewire.edge.presence_ports import (
    Member,
    Members,
    MembersQuery,
    PresenceQuery,
    Stats,
    StatsQuery,
    UserConnection,
    UsersQuery,
    UserStatus,
)
from tidewire.kernel import call_errors
from tidewire.kernel.call_errors import CallError, reason_of
from tidewire.kernel.retries import MOST_MOVES
from tidewire.rpc.presence.v1 import presence_pb2 as pb


class FakeClient:
    """A client whose replies the test makes of requests, by path."""

    target = "dns:///presence:9543"

    def __init__(self, answers: dict[str, Callable[[Any], Any]]) -> None:
        self.answers = answers
        self.requests: list[Any] = []
        self.release = asyncio.Event()
        self.release.set()
        self.closed = False

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    def unary_unary(self, path: str, _out: object, _in: object) -> Callable[[Any], Any]:
        async def call(request: Any) -> Any:
            self.requests.append(request)
            await self.release.wait()
            answer = self.answers[path](request)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def counts(request: pb.StatsRequest) -> pb.StatsReply:
    """As many clients as the channel's name has letters."""
    return pb.StatsReply(channels=[pb.ChannelStats(clients=len(each), users=1) for each in request.channels])


class Bench:
    """The port over such a client."""

    def __init__(self, **answers: Callable[[Any], Any]) -> None:
        paths = {"members": MEMBERS, "stats": STATS, "users": USER_STATUS}
        self.client = FakeClient({paths[name]: answer for name, answer in answers.items()})
        self.log = RecordingLog()
        self.presence = GrpcPresence(cast("Any", self.client), cast("Any", self.log), lambda: 1000.0)

    async def begin(self, *queries: PresenceQuery) -> list[asyncio.Future[Any]]:
        """Ask, all in one turn."""
        await self.presence.start()
        return [self.ask(query) for query in queries]

    def ask(self, query: PresenceQuery) -> asyncio.Future[Any]:
        """Ask once."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.presence.ask(query, done.set_result)
        assert not done.done(), "never from inside the call"
        return done


async def test_members_with_infos_and_how_many_there_are() -> None:
    """In one call for several channels, each cut to its own limit."""
    member = pb.Member(client="c", user="u", conn_info=b"1", chan_info=b"2")
    bench = Bench(
        members=lambda _: pb.MembersReply(
            channels=[
                pb.ChannelMembers(members=[member, member], clients=9),
                pb.ChannelMembers(members=[member], clients=1),
            ]
        )
    )
    found = await asyncio.gather(*await bench.begin(MembersQuery("a", 1), MembersQuery("b", 5)))
    whole = Member("c", "u", b"1", b"2")
    assert found == [Members([whole], 9), Members([whole], 1)]
    assert bench.client.requests == [pb.MembersRequest(channels=["a", "b"], limit=5)]


async def test_users_are_told_in_the_order_asked() -> None:
    """One that cannot be told spoils the answer of all."""
    status = pb.UserStatus(
        connections=[pb.UserConnection(client="c", edge="e", since_ms=5)],
        online=3,
        last_seen_ms=6,
        known_since_ms=7,
    )
    bench = Bench(users=lambda request: pb.UserStatusReply(users=[status] * len(request.users)))
    (found,) = await asyncio.gather(*await bench.begin(UsersQuery(("a", "b"))))
    assert found == [UserStatus([UserConnection("c", "e", 5)], 3, 6, 7)] * 2
    problem = pb.UserStatus(problem="not_synced")
    bench = Bench(users=lambda _: pb.UserStatusReply(users=[status, problem]))
    (found,) = await asyncio.gather(*await bench.begin(UsersQuery(("a", "b"))))
    assert found == AWAY


async def test_questions_of_one_turn_are_one_call_and_the_same_one_is_asked_once() -> None:
    """Each asker is answered."""
    bench = Bench(stats=counts)
    queries = [StatsQuery("a"), StatsQuery("bb"), StatsQuery("a")]
    assert await asyncio.gather(*await bench.begin(*queries)) == [Stats(1, 1), Stats(2, 1), Stats(1, 1)]
    assert bench.client.requests == [pb.StatsRequest(channels=["a", "bb"])]


async def test_who_asks_what_is_being_asked_gets_the_next_answer() -> None:
    """The one under way may be older than what he knows; those who wait share one."""
    bench = Bench(stats=counts)
    bench.client.release.clear()
    first = await bench.begin(StatsQuery("a"))
    await eventually(lambda: bench.client.requests)
    later = [bench.ask(StatsQuery("a")) for _ in range(100)]
    for _ in range(10):
        await asyncio.sleep(0)  # turns enough for another call
    assert len(bench.client.requests) == 1
    bench.client.release.set()
    await asyncio.gather(*first, *later)
    assert len(bench.client.requests) == 2


async def test_what_another_replica_serves_is_asked_there() -> None:
    """And no replica for ever."""
    elsewhere = pb.ChannelStats(problem="elsewhere")
    replies = [
        pb.StatsReply(channels=[pb.ChannelStats(clients=1, users=1), elsewhere]),
        pb.StatsReply(channels=[elsewhere]),
        pb.StatsReply(channels=[pb.ChannelStats(clients=2, users=2)]),
    ]
    bench = Bench(stats=lambda _: replies.pop(0))
    found = await asyncio.gather(*await bench.begin(StatsQuery("a"), StatsQuery("b")))
    assert found == [Stats(1, 1), Stats(2, 2)]
    assert [list(request.channels) for request in bench.client.requests] == [["a", "b"], ["b"], ["b"]]
    bench = Bench(stats=lambda _: pb.StatsReply(channels=[elsewhere]))
    assert await asyncio.gather(*await bench.begin(StatsQuery("a"))) == [AWAY]
    assert len(bench.client.requests) == MOST_MOVES


async def test_what_one_replica_does_not_hold_yet_another_one_may() -> None:
    """An answer to one question is none to the others that were asked with it."""
    lacking = pb.ChannelStats(problem="not_synced")
    replies = [
        pb.StatsReply(channels=[pb.ChannelStats(clients=1, users=1), lacking]),
        pb.StatsReply(channels=[pb.ChannelStats(clients=2, users=2)]),
    ]
    bench = Bench(stats=lambda _: replies.pop(0))
    found = await asyncio.gather(*await bench.begin(StatsQuery("a"), StatsQuery("b")))
    assert found == [Stats(1, 1), Stats(2, 2)]


async def test_list_is_not_cut_for_others_that_are_asked_for_with_it() -> None:
    """A reply holds so many bytes: what found no room is asked for by itself, once."""

    def answer(request: pb.MembersRequest) -> pb.MembersReply:
        room = {"big": 1, "small": 1} if len(request.channels) == 1 else {"big": 1, "small": 0}
        size = {"big": 3, "small": 1}
        return pb.MembersReply(
            channels=[
                pb.ChannelMembers(members=[pb.Member(client="c")] * room[name], clients=size[name])
                for name in request.channels
            ]
        )

    bench = Bench(members=answer)
    queries = MembersQuery("big", 1000), MembersQuery("small", 1000)
    big, small = await asyncio.gather(*await bench.begin(*queries))
    assert (len(big.members), big.clients) == (1, 3)
    assert (len(small.members), small.clients) == (1, 1)
    assert [list(each.channels) for each in bench.client.requests] == [["big", "small"], ["big"], ["small"]]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (pb.StatsReply(channels=[pb.ChannelStats(problem="not_synced")]), AWAY),
        (pb.StatsReply(), AWAY),
        (CallError(call_errors.UNAVAILABLE), AWAY),
        (CallError(call_errors.DEADLINE_EXCEEDED), AWAY),
        (CallError(call_errors.BUSY), BUSY),
        (CallError(call_errors.BUSY_HERE), BUSY),
        (CallError(reason_of("RESOURCE_EXHAUSTED", None)), TOO_LARGE),
    ],
    ids=["not synced", "no item", "away", "late", "busy", "busy here", "too large"],
)
async def test_without_an_answer_there_is_an_error(answer: Any, expected: object) -> None:
    """Never a count of zero."""
    bench = Bench(stats=lambda _: answer)
    assert await asyncio.gather(*await bench.begin(StatsQuery("a"))) == [expected]


async def test_that_it_is_away_is_logged_once_a_minute() -> None:
    """With where it should be."""
    bench = Bench(stats=lambda _: CallError(call_errors.UNAVAILABLE))
    for _ in range(3):
        await asyncio.gather(*await bench.begin(StatsQuery("a")))
    ((level, event, fields),) = bench.log.lines
    assert (level, event, fields["target"]) == ("warning", "presence.away", "dns:///presence:9543")


async def test_answer_that_cannot_be_read_is_an_error_to_who_waits() -> None:
    """Nobody waits for ever."""
    bench = Bench(stats=lambda _: None)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    assert await asyncio.gather(*await bench.begin(StatsQuery("a"))) == [AWAY]


async def test_number_of_those_who_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are told to come later."""
    monkeypatch.setattr(grpc_presence, "MAX_WAITING", 2)
    bench = Bench(stats=counts)
    found = await asyncio.gather(*await bench.begin(*[StatsQuery("a")] * 3))
    assert found == [Stats(1, 1), Stats(1, 1), CROWDED]
    assert await bench.ask(StatsQuery("a")) == Stats(1, 1)


async def test_thousands_are_told_in_slices() -> None:
    """Each of them gets a whole list, and all others are served meanwhile."""
    bench = Bench(stats=counts)
    turn, told = 0, Counter[int]()

    async def goes_on() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    others = asyncio.ensure_future(goes_on())
    for each in await bench.begin(*[StatsQuery("a")] * 100):
        each.add_done_callback(lambda _: told.update([turn]))
    await eventually(lambda: told.total() == 100)
    others.cancel()
    assert max(told.values()) <= TOLD_AT_ONCE


async def test_one_that_cannot_be_told_keeps_nobody_waiting() -> None:
    """A mistake with one client is not another one's."""
    bench = Bench(stats=counts)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    def fails(_found: object) -> None:
        raise ValueError

    await bench.begin()
    bench.presence.ask(StatsQuery("a"), fails)
    found = [bench.ask(StatsQuery("a")) for _ in range(40)]
    assert await asyncio.gather(*found) == [Stats(1, 1)] * 40
    assert await bench.ask(StatsQuery("a")) == Stats(1, 1)


async def test_lists_go_few_at_a_time() -> None:
    """Each may be large."""
    bench = Bench(
        members=lambda request: pb.MembersReply(channels=[pb.ChannelMembers()] * len(request.channels))
    )
    found = await asyncio.gather(*await bench.begin(*(MembersQuery(str(n), 5) for n in range(20))))
    assert found == [Members([], 0)] * 20
    assert [len(request.channels) for request in bench.client.requests] == [8, 8, 4]


async def test_close_ends_what_is_under_way() -> None:
    """And the client."""
    bench = Bench(stats=counts)
    bench.client.release.clear()
    await bench.begin(StatsQuery("a"))
    await eventually(lambda: bench.client.requests)
    await bench.presence.close()
    assert bench.client.closed
