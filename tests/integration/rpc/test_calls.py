"""Calls over real sockets: deadlines, bounds, errors, retries, metrics and traces."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from tests.fakes.clock import ManualClock
from tests.fakes.tracing import recording_tracer
from tests.support.rpc import NAME, UNWELL, Rpc, path
from tests.support.wait import PATIENCE, eventually
from tidewire.kernel import call_errors, errors
from tidewire.kernel.call_errors import REASON_KEY, CallError
from tidewire.kernel.retries import MOST_MOVES
from tidewire.kernel.trace_context import TraceContext
from tidewire.platform.rpc_library import grpc

SAY, ONCE, WAIT = path("Say"), path("Number"), path("Wait")


async def test_a_call_is_answered_and_counted_on_both_sides(rpc: Rpc) -> None:
    """On uvloop, as in production."""
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    server = await rpc.server("a:")
    client = await rpc.client(server.target)
    assert await client.say(b"hello") == b"a:hello"
    assert server.handled == {(SAY, "OK"): 1}
    assert client.calls == {(SAY, "OK"): 1}
    assert (server.metrics.in_flight, client.rpc.in_flight, client.retries) == (0, 0, {})
    assert client.rpc.state == "ready"


async def test_a_deadline_ends_a_call_at_both_ends(rpc: Rpc) -> None:
    """The caller may ask for less than the client's, never for more."""
    server = await rpc.server()
    client = await rpc.client(server.target, timeout="1200ms")
    await client.say(b"", timeout=60)  # it is connected: the deadlines to come are not spent on that
    for timeout in (1, 60):
        with pytest.raises(CallError) as caught:
            async with asyncio.timeout(PATIENCE):
                await client.wait(b"", timeout=timeout)
        assert caught.value.reason is call_errors.DEADLINE_EXCEEDED
    assert client.calls == {(SAY, "OK"): 1, (WAIT, "DEADLINE_EXCEEDED"): 2}
    await eventually(lambda: server.echo.ended == 2)
    assert server.echo.waiting == 2  # a deadline that has passed is never tried again
    await eventually(lambda: sum(server.handled.values()) == 3)


async def test_the_server_ends_what_takes_too_long(rpc: Rpc) -> None:
    """Whatever deadline the client has."""
    server = await rpc.server(max_call_duration="100ms")
    client = await rpc.client(server.target)
    with pytest.raises(CallError) as caught:
        await client.wait(b"")
    assert (caught.value.reason, caught.value.message) == (
        call_errors.DEADLINE_EXCEEDED,
        "it took longer than rpc.max_call_duration",
    )
    assert server.handled == {(WAIT, "DEADLINE_EXCEEDED"): 1}


async def test_a_call_without_a_deadline_is_refused(rpc: Rpc) -> None:
    """It could stay for ever."""
    server = await rpc.server()
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(SAY)(b"")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata() or ()) == {REASON_KEY: "no_deadline"}
    assert not server.echo.requests


async def test_a_cancelled_call_ends_at_the_server(rpc: Rpc) -> None:
    """And is cancelled for its caller, not failed."""
    server = await rpc.server()
    client = await rpc.client(server.target)
    task = asyncio.ensure_future(client.wait(b""))
    await eventually(lambda: server.echo.waiting)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: server.handled == {(WAIT, "CANCELLED"): 1})
    assert client.calls == {(WAIT, "CANCELLED"): 1}
    assert client.rpc.in_flight == 0


@pytest.mark.parametrize(
    "reply", [each for each in vars(errors).values() if isinstance(each, errors.ReplyError)]
)
async def test_what_a_servicer_refuses_arrives_as_it_was_said(rpc: Rpc, reply: errors.ReplyError) -> None:
    """The whole table, over the wire."""
    server = await rpc.server()
    client = await rpc.client(server.target)
    server.echo.failing = call_errors.refusal(reply.saying("näh\n100 %"))
    with pytest.raises(CallError) as caught:
        await client.say(b"")
    assert caught.value.message == "näh\n100 %"
    expected = reply if reply == errors.INTERNAL else reply.saying("näh\n100 %")
    assert caught.value.reply == expected
    assert server.handled == {(SAY, caught.value.reason.status): 1} == client.calls


async def test_a_mistake_says_nothing_to_the_peer(rpc: Rpc) -> None:
    """The log has it, once a minute."""
    server = await rpc.server()
    client = await rpc.client(server.target)
    for failure in (ValueError("secret"), TimeoutError("secret")):
        server.echo.failing = failure
        with pytest.raises(CallError) as caught:
            await client.say(b"")
        assert caught.value.reason is call_errors.INTERNAL
        assert "secret" not in str(caught.value)
    assert server.log.lines == [("exception", "rpc.failed", {"method": SAY})]
    assert server.handled == {(SAY, "INTERNAL"): 2}


async def test_a_request_that_cannot_be_read_is_the_clients_fault(rpc: Rpc) -> None:
    """No word of the decoder's goes back."""
    server = await rpc.server()
    client = await rpc.client(server.target)
    with pytest.raises(CallError) as caught:
        await client.once(b"secret")
    assert caught.value.reason is call_errors.BAD_REQUEST
    assert "secret" not in caught.value.message
    assert not server.log.lines


async def test_a_method_that_nobody_has(rpc: Rpc) -> None:
    """Its name, which the peer chose, is no label."""
    server = await rpc.server()
    client = await rpc.client(server.target)
    with pytest.raises(CallError) as caught:
        await client.rpc.unary_unary("/tidewire.tests.Echo/Nothing")(b"")
    assert caught.value.reason.status == "UNIMPLEMENTED"
    assert caught.value.reply == errors.INTERNAL  # the edge's own mistake, or a server of another release
    assert server.handled == {("unknown", "UNIMPLEMENTED"): 1}


async def test_the_server_takes_so_many_calls_at_once(rpc: Rpc) -> None:
    """The next one is told at once, and is not repeated."""
    server = await rpc.server(max_in_flight=2)
    client = await rpc.client(server.target)
    waiting = [asyncio.ensure_future(client.wait(b"")) for _ in range(2)]
    await eventually(lambda: server.echo.waiting == 2)
    with pytest.raises(CallError) as caught:
        await client.say(b"")
    assert caught.value.reason is call_errors.BUSY
    server.echo.release.set()
    await asyncio.gather(*waiting)
    assert await client.say(b"x") == b"x"
    assert server.handled == {(WAIT, "OK"): 2, (SAY, "RESOURCE_EXHAUSTED"): 1, (SAY, "OK"): 1}


async def test_the_client_makes_so_many_calls_at_once(rpc: Rpc) -> None:
    """The next one never leaves it."""
    server = await rpc.server()
    client = await rpc.client(server.target, max_in_flight=2)
    waiting = [asyncio.ensure_future(client.wait(b"")) for _ in range(2)]
    await eventually(lambda: server.echo.waiting == 2)
    with pytest.raises(CallError) as caught:
        await client.say(b"")
    assert caught.value.reason is call_errors.BUSY_HERE
    assert caught.value.message == f"2 calls to {server.target} are under way"
    server.echo.release.set()
    await asyncio.gather(*waiting)
    assert await client.say(b"x") == b"x"
    assert server.echo.requests == {b"x": 1}
    assert client.calls == {(WAIT, "OK"): 2, (SAY, "RESOURCE_EXHAUSTED"): 1, (SAY, "OK"): 1}


async def test_a_connection_has_so_many_calls_at_once(rpc: Rpc) -> None:
    """The next one waits at the client, and is sent when there is room."""
    server = await rpc.server(max_connection_streams=3)  # one of them is the client's look at health
    client = await rpc.client(server.target)
    assert await client.say(b"x") == b"x"
    waiting = [asyncio.ensure_future(client.wait(b"")) for _ in range(2)]
    await eventually(lambda: server.echo.waiting == 2)
    with pytest.raises(CallError) as caught:
        await client.say(b"late", timeout=0.2)
    assert caught.value.reason is call_errors.DEADLINE_EXCEEDED
    third = asyncio.ensure_future(client.say(b"third"))
    server.echo.release.set()
    await asyncio.gather(*waiting)
    assert await third == b"third"
    assert list(server.echo.requests) == [b"x", b"third"]


async def test_messages_have_a_size(rpc: Rpc) -> None:
    """In both directions, by either side's limit."""
    server = await rpc.server(max_request_size=2048)
    wide = await rpc.client(server.target)
    narrow = await rpc.client(server.target, max_request_size=1024)
    assert await wide.say(b"x" * 1024) == b"x" * 1024
    with pytest.raises(CallError) as caught:
        await wide.say(b"x" * 4096)
    assert caught.value.reason.status == "RESOURCE_EXHAUSTED"
    with pytest.raises(CallError) as caught:
        await narrow.say(b"x" * 1025)
    assert caught.value.reason.status == "RESOURCE_EXHAUSTED"
    assert list(server.echo.requests) == [b"x" * 1024]


async def test_an_idempotent_call_is_made_again(rpc: Rpc) -> None:
    """So often, if nobody can be had."""
    server = await rpc.server()
    client = await rpc.client(server.target, attempts=3, retry_pause="1ms")
    server.echo.failing = UNWELL
    with pytest.raises(CallError) as caught:
        await client.say(b"x")
    assert (caught.value.reason, caught.value.message) == (call_errors.UNAVAILABLE, "the test says so")
    assert server.echo.requests == {b"x": 3}
    assert client.retries == {"retried": 2, "attempts": 1}
    assert client.calls == {(SAY, "UNAVAILABLE"): 1}


async def test_only_what_is_idempotent_and_unavailable_is_made_again(rpc: Rpc) -> None:
    """Anything else may have been carried out, or would fail again."""
    server = await rpc.server()
    client = await rpc.client(server.target, retry_pause="1ms")
    for call, failure in (
        (client.once, UNWELL),
        (client.say, CallError(call_errors.BUSY)),
        (client.say, ValueError()),
        (client.say, call_errors.refusal(errors.TOO_MANY_REQUESTS)),
    ):
        server.echo.failing = failure
        with pytest.raises(CallError):
            await call(b"1")
    assert sum(server.echo.requests.values()) == 4
    assert client.retries == {}


async def test_retries_have_a_budget(rpc: Rpc) -> None:
    """A server that fails gets a tenth more than the calls, whatever each of them may do."""
    server = await rpc.server()
    client = await rpc.client(server.target, attempts=5, retry_pause="1ms", retry_burst=10, retry_ratio=0.1)
    server.echo.failing = UNWELL
    for _ in range(200):
        with pytest.raises(CallError):
            await client.say(b"x")
    assert server.echo.requests[b"x"] == 200 + client.retries["retried"]
    assert 10 + 18 <= client.retries["retried"] <= 10 + 20
    assert client.retries["budget"] + client.retries.get("attempts", 0) == 200


@pytest.mark.parametrize("reason", [call_errors.ELSEWHERE, call_errors.NOT_SYNCED])
async def test_a_replica_that_does_not_serve_it_costs_no_budget(rpc: Rpc, reason: call_errors.Reason) -> None:
    """The next one is asked at once, though not for ever; what is not idempotent is not passed on."""
    server = await rpc.server()
    client = await rpc.client(server.target, retry_burst=1, retry_ratio=0)
    server.echo.failing = CallError(reason)
    for _ in range(3):
        with pytest.raises(CallError) as caught:
            await client.say(b"x")
        assert caught.value.reason is reason
    with pytest.raises(CallError):
        await client.once(b"1")
    assert server.echo.requests == {b"x": 3 * (1 + MOST_MOVES), 1: 1}
    assert client.retries == {reason.name: 3 * MOST_MOVES}


async def test_a_retry_never_passes_the_deadline(rpc: Rpc) -> None:
    """The failure itself is what the caller gets, and at once."""
    server = await rpc.server()
    client = await rpc.client(server.target, attempts=5, retry_pause="10s", retry_longest_pause="10s")
    client.rpc.retries._random = lambda: 1.0
    server.echo.failing = UNWELL
    with pytest.raises(CallError) as caught:
        await client.say(b"x", timeout=9)
    assert caught.value.reason is call_errors.UNAVAILABLE
    assert client.retries == {"deadline": 1}
    assert server.echo.requests == {b"x": 1}


async def test_nobody_there_is_told_at_once(rpc: Rpc) -> None:
    """A call does not wait for a server to come up."""
    client = await rpc.client("ipv4:127.0.0.1:1", attempts=1)
    with pytest.raises(CallError) as caught:
        await client.say(b"")
    assert caught.value.reason is call_errors.UNAVAILABLE
    await eventually(lambda: client.rpc.state in {"transient_failure", "connecting"})


async def test_a_caller_says_what_it_is_called(rpc: Rpc) -> None:
    """Whatever a host may be called, since metadata hold no other letters; or says nothing."""
    server = await rpc.server()
    assert await (await rpc.client(server.target)).caller(b"") == b""
    named = await rpc.client(server.target, caller="höst.example-1")
    assert await named.caller(b"") == b"h%C3%B6st%2Eexample-1"


async def test_a_trace_is_carried(rpc: Rpc) -> None:
    """Without a tracer as it is; each tracer puts a span into it."""
    parent = TraceContext(0xABC, 0xDEF, "vendor=1")
    server = await rpc.server()
    client = await rpc.client(server.target)
    assert await client.trace(b"") == b""
    assert await client.trace(b"", parent=parent) == b"00-%032x-%016x-01 vendor=1" % (0xABC, 0xDEF)


async def test_spans_are_linked(rpc: Rpc) -> None:
    """Client's under the caller's, server's under the client's."""
    parent = TraceContext(0xABC, 0xDEF)
    tracer, exporter = recording_tracer(ManualClock())
    server = await rpc.server(tracer=tracer)
    client = await rpc.client(server.target, tracer=tracer)
    await client.trace(b"", parent=parent)
    await eventually(lambda: len(exporter.ended) == 2)
    served, called = exporter.ended
    assert (called.parent, served.parent) == (parent, called.context)
    assert {span.context.trace_id for span in exporter.ended} == {0xABC}
    assert [span.kind.name for span in exporter.ended] == ["SERVER", "CLIENT"]
    assert served.attributes == {
        "rpc.system": "grpc",
        "rpc.service": NAME,
        "rpc.method": "Trace",
        "tidewire.code": 0,
    }


async def test_a_closed_client_fails_what_it_is_asked(rpc: Rpc) -> None:
    """What was under way when it closed, too, as an error and not as a cancellation."""
    server = await rpc.server()
    client = await rpc.client(server.target, close_timeout=0)
    waiting = asyncio.ensure_future(client.wait(b""))
    await eventually(lambda: server.echo.waiting)
    await client.rpc.close()
    with pytest.raises(CallError) as caught:
        await waiting
    assert caught.value.reason is call_errors.CANCELLED
    with pytest.raises(CallError) as caught:
        await client.say(b"")
    assert caught.value.reason is call_errors.UNAVAILABLE
    assert not client.metrics.clients


async def test_closing_lets_calls_end(rpc: Rpc) -> None:
    """Within `close_timeout`."""
    server = await rpc.server()
    client = await rpc.client(server.target, close_timeout="20s")
    waiting = asyncio.ensure_future(client.wait(b"x"))
    await eventually(lambda: server.echo.waiting)
    closing = asyncio.ensure_future(client.rpc.close())
    await asyncio.sleep(0)
    server.echo.release.set()
    assert await waiting == b"x"
    await closing
