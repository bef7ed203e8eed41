from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.fakes.log import RecordingLog
from tests.support.wait import eventually
from tidewire.edge.adapters.grpc_history import AWAY, BUSY, DISAGREES, POSITION, READ, GrpcHistory
from tidewire.edge.ports import Outcome, Page, Publication, Query
from tidewire.edge.wire.commands import StreamPosition
from tidewire.kernel import call_errors, errors
from tidewire.kernel.call_errors import CallError, Reason, refusal
from tidewire.kernel.retries import MOST_MOVES
from tidewire.rpc.history.v1 import history_pb2 as pb

TOP = pb.StreamPosition(offset=9, epoch="e")
HERE = {"a": StreamPosition(offset=3, epoch="e"), "b": StreamPosition(offset=4, epoch="f")}


class FakeClient:
    """A client whose answers the test gives, by path."""

    target = "dns:///history:9443"

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
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
            answer = self.answers.get(path, pb.PositionReply())
            if isinstance(answer, Exception):
                raise answer
            return answer.pop(0) if isinstance(answer, list) else answer

        return call


def parse(channel: str, headers: bytes, data: bytes, offset: int, time_ns: int) -> Publication | None:
    """As the broker's: the tags say of which channel and headers it was asked."""
    if headers == b"bad":
        return None
    return Publication(data, tags={channel: headers.decode()}, offset=offset, time_ns=time_ns)


def over(client: FakeClient, log: RecordingLog | None = None) -> GrpcHistory:
    """The port on such a client."""
    lines: Any = log or RecordingLog()
    return GrpcHistory(cast("Any", client), parse, lines, lambda: 1000.0)


async def asked(answers: dict[str, Any], query: Query | dict[str, StreamPosition]) -> tuple[Any, FakeClient]:
    """What the port says, and the client that was called."""
    client = FakeClient()
    client.answers = answers
    history = over(client)
    await history.start()
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    if isinstance(query, Query):
        history.read(query, done.set_result)
    else:
        history.positions(query, done.set_result)
    assert not done.done(), "never from inside the call"
    return await done, client


async def test_a_query_and_its_page() -> None:
    """Publications whose headers cannot be read are left out."""
    stored = [
        pb.Publication(offset=8, data=b"x", headers=b"h", time_ns=5),
        pb.Publication(offset=9, data=b"y", headers=b"bad"),
    ]
    reply = pb.ReadReply(top=TOP, publications=stored, outcome=pb.OUTCOME_MORE)
    since = StreamPosition(offset=3, epoch="e")
    query = Query(channel="a", since=since, limit=2, max_bytes=7, reverse=True, recover=True, at_least=4)
    page, client = await asked({READ: reply}, query)
    publication = Publication(b"x", tags={"a": "h"}, offset=8, time_ns=5)
    assert page == Page(StreamPosition(offset=9, epoch="e"), [publication], Outcome.MORE)
    assert client.requests[1:] == [  # behind the question at the start
        pb.ReadRequest(
            channel="a",
            since=pb.StreamPosition(offset=3, epoch="e"),
            limit=2,
            max_bytes=7,
            reverse=True,
            recover=True,
            at_least=4,
        )
    ]


async def test_positions_are_in_the_order_asked() -> None:
    """None for those that have a problem."""
    reply = pb.PositionReply(
        positions=[pb.ChannelPosition(top=TOP), pb.ChannelPosition(problem="unavailable")]
    )
    found, client = await asked({POSITION: reply}, HERE)
    assert found == [StreamPosition(offset=9, epoch="e"), None]
    assert client.requests[1:] == [  # behind the question at the start
        pb.PositionRequest(
            channels=["a", "b"],
            since=[pb.StreamPosition(offset=3, epoch="e"), pb.StreamPosition(offset=4, epoch="f")],
        )
    ]


async def test_positions_that_another_replica_knows_are_asked_of_the_next() -> None:
    """Those alone, and not for ever."""
    unknown, known = pb.ChannelPosition(problem="elsewhere"), pb.ChannelPosition(top=TOP)
    client = FakeClient()
    client.answers = {
        POSITION: [
            pb.PositionReply(),  # to the question at the start
            pb.PositionReply(positions=[known, unknown]),
            pb.PositionReply(positions=[known]),
        ]
    }
    history = over(client)
    await history.start()
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    history.positions(HERE, done.set_result)
    assert await done == [StreamPosition(offset=9, epoch="e")] * 2
    assert [list(each.channels) for each in client.requests[1:]] == [["a", "b"], ["b"]]
    found, client = await asked({POSITION: pb.PositionReply(positions=[unknown, unknown])}, HERE)
    assert (found, len(client.requests)) == ([None, None], 1 + MOST_MOVES)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (READ, pb.ReadReply(top=TOP)),
        (READ, pb.ReadReply(top=TOP, outcome=cast("Any", 99))),
        (READ, pb.ReadReply(outcome=pb.OUTCOME_COMPLETE)),
        (POSITION, pb.PositionReply(positions=[pb.ChannelPosition(top=TOP)])),
    ],
    ids=["no outcome", "a newer outcome", "no epoch", "too few positions"],
)
async def test_what_cannot_be_understood_is_no_answer(path: str, answer: Any) -> None:
    """Least of all proof that nothing is missing."""
    found, _ = await asked({path: answer}, Query(channel="a") if path == READ else HERE)
    assert found == AWAY


@pytest.mark.parametrize("path", [READ, POSITION])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CallError(call_errors.UNAVAILABLE, "away"), AWAY),
        (CallError(call_errors.DEADLINE_EXCEEDED, "late"), AWAY),
        (CallError(call_errors.BUSY, "busy"), BUSY),
        (CallError(call_errors.BUSY_HERE, "busy"), BUSY),
        (refusal(errors.UNRECOVERABLE_POSITION), errors.UNRECOVERABLE_POSITION),
        (refusal(errors.UNKNOWN_CHANNEL), DISAGREES),
        (CallError(Reason("new", "ABORTED"), "?"), AWAY),
    ],
    ids=["away", "late", "busy", "busy here", "unrecoverable", "unknown channel", "unknown reason"],
)
async def test_errors_are_those_of_clients(path: str, error: CallError, expected: errors.ReplyError) -> None:
    """Temporary, unless the service has said otherwise."""
    found, _ = await asked({path: error}, Query(channel="a") if path == READ else HERE)
    assert found == expected


async def test_it_is_looked_for_at_the_start_and_told_where_it_is_away() -> None:
    """Once a minute, with what gRPC says: a wrong name, a port without TLS, nothing there."""
    client, log = FakeClient(), RecordingLog()
    client.answers = {
        POSITION: CallError(call_errors.UNAVAILABLE, "refused"),
        READ: refusal(errors.UNKNOWN_CHANNEL),
    }
    history = over(client, log)
    await history.start()
    line = ("warning", "history.away", {"target": client.target, "problem": "unavailable: refused"})
    await eventually(lambda: log.lines == [line])
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    history.positions(HERE, told.set_result)
    assert await told == AWAY
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    history.read(Query(channel="a"), answer.set_result)
    assert await answer == DISAGREES
    known = refusal(errors.UNKNOWN_CHANNEL)
    assert log.lines == [
        line,
        ("warning", "history.disagrees", {"target": client.target, "problem": str(known)}),
    ]


async def test_a_mistake_in_reading_a_publication_ends_its_read_all_the_same() -> None:
    """One that never ended would take up one of 128 places."""
    client, log = FakeClient(), RecordingLog()
    reply = pb.ReadReply(top=TOP, publications=[pb.Publication()], outcome=pb.OUTCOME_COMPLETE)
    client.answers = {READ: reply}

    def mistaken(*_: object) -> None:
        raise AssertionError("a mistake")

    lines: Any = log
    history = GrpcHistory(cast("Any", client), mistaken, lines, lambda: 1000.0)
    await history.start()
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    history.read(Query(channel="a"), told.set_result)
    assert await told == AWAY


async def test_a_mistake_in_asking_for_positions_ends_the_question_all_the_same() -> None:
    """The sweep asks one after the other: without an answer to this one it would never ask again."""
    client = FakeClient()
    history = over(client)
    await history.start()
    client.answers = {POSITION: AssertionError("a mistake")}
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    history.positions(HERE, told.set_result)
    assert await told == AWAY


async def test_close_ends_what_is_under_way() -> None:
    """Nobody is told."""
    client = FakeClient()
    client.release.clear()
    history = over(client)
    await history.start()
    heard: list[Any] = []
    history.read(Query(channel="a"), heard.append)
    await asyncio.sleep(0)
    await history.close()
    assert (heard, client.closed) == ([], True)


@pytest.mark.parametrize("query", [Query(channel="a", limit=1 << 40), Query(channel="a")])
async def test_a_read_that_goes_wrong_gives_its_place_back(query: Query) -> None:
    """Before it is sent, or whatever the library raises: the client can try again, and the mistake is told."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    page, _ = await asked({READ: ZeroDivisionError()}, query)
    assert page == AWAY
    await eventually(lambda: told)
    assert isinstance(told[0], ValueError if query.limit else ZeroDivisionError)
