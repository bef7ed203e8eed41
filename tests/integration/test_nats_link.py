from __future__ import annotations

import asyncio
import json
from pathlib import Path

import nats
import pytest

from tests.support.links import NotingListener, Received, asked, options, settled, started
from tests.support.nats_client import connected, flushed
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE, eventually
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkAway, LinkState

HEADER = b"NATS/1.0\r\nTw-User: anna\r\n\r\n"


async def test_a_message_arrives_with_its_header_reply_and_payload(nats_server: NatsServer) -> None:
    """Raw bytes in, raw bytes out; b"" stands for what is not there."""
    async with started(nats_server.url) as (link, _):
        received = Received()
        link.subscribe(b"a.*", received)
        link.publish(b"a.b", b"one")
        link.publish(b"a.c", b"two\r\nMSG a.b 1 0\r\n\r\n", HEADER, b"back.to")
        link.publish(b"a.d", b"", HEADER)
        link.publish(b"other", b"not ours")
        await eventually(lambda: len(received.messages) == 3)
        assert received.messages == [
            (b"a.b", b"", b"", b"one"),
            (b"a.c", b"back.to", HEADER, b"two\r\nMSG a.b 1 0\r\n\r\n"),
            (b"a.d", b"", HEADER, b""),
        ]
        assert link.stats.out_msgs == 4
        assert link.stats.in_msgs == 3
        assert link.stats.in_bytes == 3 + 2 * len(HEADER) + len(received.messages[1][3])


async def test_messages_of_any_size_come_whole_and_in_order(nats_server: NatsServer) -> None:
    """Up to the server's limit, over many reads."""
    async with started(nats_server.url) as (link, _):
        received = Received()
        link.subscribe(b"big", received)
        payloads = [
            bytes([number]) * size for number, size in enumerate((1, 100_000, 0, 1_048_576, 32_768, 700_000))
        ]
        for payload in payloads:
            link.publish(b"big", payload)
        await eventually(lambda: len(received.messages) == len(payloads))
        assert received.payloads == payloads


async def test_nats_py_and_the_link_understand_each_other(nats_server: NatsServer) -> None:
    """Both ways, on the link's own nats-py client too, whose subscription ids never meet the link's."""
    async with started(nats_server.url) as (link, _), connected(nats_server.url) as other:
        received = Received()
        stock = await link.nc.subscribe("to.stock")
        link.subscribe(b"to.raw", received)
        assert await settled(link)
        await flushed(link.nc)
        await other.publish("to.raw", b"1", headers={"A": "b"})
        await other.publish("to.stock", b"2", headers={"A": "b"})
        message = await stock.next_msg(PATIENCE)
        assert (message.data, message.headers) == (b"2", {"A": "b"})
        await eventually(lambda: received.messages)
        assert received.messages == [(b"to.raw", b"", b"NATS/1.0\r\nA: b\r\n\r\n", b"1")]


async def test_jetstream_is_managed_through_nats_py_also_after_a_reconnect(tmp_path: Path) -> None:
    """Its requests and pull subscriptions go through the same parser; `nc` is taken anew after `link_back`."""
    with NatsServer(tmp_path / "nats", jetstream=True) as server:
        async with started(server.url) as (link, listener):
            await link.nc.jetstream().add_stream(name="S", subjects=["s.>"])
            _, ack = await asked(link, b"s.a", b"one", header=b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n")
            assert json.loads(ack) == {"stream": "S", "seq": 1}
            server.restart()
            await eventually(lambda: listener.heard("back") == 1)
            jetstream = link.nc.jetstream()
            assert (await jetstream.stream_info("S")).state.messages == 1
            pull = await jetstream.pull_subscribe("s.>", stream="S")
            message = (await pull.fetch(1, timeout=PATIENCE))[0]
            assert (message.data, message.headers) == (b"one", {"Nats-Msg-Id": "1"})
            await message.ack_sync()
            await pull.unsubscribe()


async def test_a_queue_group_delivers_each_message_once(nats_server: NatsServer) -> None:
    """Two members share what is published."""
    async with started(nats_server.url) as (link, _):
        first, second = Received(), Received()
        link.subscribe(b"work", first, b"group")
        link.subscribe(b"work", second, b"group")
        for number in range(100):
            link.publish(b"work", b"%d" % number)
        await eventually(lambda: len(first.messages) + len(second.messages) == 100)
        assert await settled(link)
        assert len(first.messages) + len(second.messages) == 100


async def test_nothing_comes_after_unsubscribe(nats_server: NatsServer) -> None:
    """Not even what the server sent before it knew."""
    async with started(nats_server.url) as (link, _):
        received = Received()
        sid = link.subscribe(b"a", received)
        link.publish(b"a", b"1")
        assert await settled(link)
        link.publish(b"a", b"2")
        await asyncio.sleep(0)
        link.unsubscribe(sid)
        link.unsubscribe(sid)
        link.publish(b"a", b"3")
        assert await settled(link)
        assert received.payloads == [b"1"]


async def test_a_barrier_passes_only_when_the_server_knows_the_subscription(nats_server: NatsServer) -> None:
    """Whoever publishes after it is heard, a hundred times out of a hundred."""
    async with started(nats_server.url) as (link, _), started(nats_server.url) as (other, _):
        for number in range(100):
            received = Received()
            link.subscribe(b"s.%d" % number, received)
            assert await settled(link)
            other.publish(b"s.%d" % number, b"x")
            await eventually(lambda received=received: received.messages)


async def test_own_messages_and_the_chunk_end_come_before_a_later_barrier(nats_server: NatsServer) -> None:
    """So what a message caused is written out before the answer that the barrier stands for."""
    async with started(nats_server.url) as (link, listener):
        link.subscribe(b"mine", lambda *_: listener.log.append("message"))
        assert await settled(link)
        listener.log.clear()
        link.publish(b"mine", b"x")
        link.barrier(lambda passed: listener.log.append(f"barrier {passed}"), 5.0)
        await eventually(lambda: "barrier True" in listener.log)
        assert listener.log[0] == "message"
        assert listener.log.index("chunk") < listener.log.index("barrier True")


async def test_barriers_of_one_turn_pass_together_and_those_of_the_next_by_their_own_ping(
    nats_server: NatsServer,
) -> None:
    """The turn is another one as soon as its PING is written: what is published then stands behind it."""
    async with started(nats_server.url) as (link, _):
        order: list[tuple[int, int]] = []
        turns = []
        for _ in range(2):
            turns.append(link.turn)
            for number in range(2):
                link.publish(b"a", b"x")
                link.barrier(lambda _, at=(link.turn, number): order.append(at), 5.0)
            assert link.turn == turns[-1]
            await asyncio.sleep(0)
            assert order == []
        assert turns == [turns[0], turns[0] + 1]
        assert link.turn == turns[0] + 2
        await eventually(lambda: len(order) == 4)
        assert order == [(turn, number) for turn in turns for number in range(2)]


async def test_barriers_pass_in_order_and_mix_with_those_of_nats_py(nats_server: NatsServer) -> None:
    """Its flushes and pings stand in the same line for their PONGs."""
    async with started(nats_server.url) as (link, _):
        order: list[int] = []
        flushes = []
        for number in range(50):
            link.barrier(lambda _, number=number: order.append(number), 5.0)
            if number % 3 == 0:
                flushes.append(asyncio.create_task(link.nc.flush(int(PATIENCE))))
            if number % 5 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*flushes)
        await eventually(lambda: len(order) == 50)
        assert order == list(range(50))


async def test_a_cancelled_flush_of_nats_py_does_not_end_the_read_loop(nats_server: NatsServer) -> None:
    """Its PONG comes for a future that is gone, which stock nats-py does not survive."""
    async with started(nats_server.url, watchdog_interval=60.0) as (link, listener):
        nats_server.pause()
        with pytest.raises(nats.errors.FlushTimeoutError):
            await link.nc.flush(0.05)
        nats_server.resume()
        assert await settled(link)
        assert listener.heard("away") == 0


async def test_a_request_is_answered(nats_server: NatsServer) -> None:
    """By the first answer, with its header."""
    async with started(nats_server.url) as (link, _), started(nats_server.url) as (other, _):

        def answer(_subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
            other.publish(reply, payload.upper(), header)
            other.publish(reply, b"a second answer")

        other.subscribe(b"svc", answer)
        assert await settled(other)
        assert await asked(link, b"svc", b"hello", header=HEADER) == (HEADER, b"HELLO")
        assert await asked(link, b"svc", b"again") == (b"", b"AGAIN")
        assert await settled(link)


async def test_a_request_that_nobody_hears_is_told_at_once(nats_server: NatsServer) -> None:
    """The server says 503 in the header."""
    async with started(nats_server.url) as (link, _):
        header, payload = await asked(link, b"nobody", b"hello")
        assert header is not None
        assert header.startswith(b"NATS/1.0 503")
        assert payload == b""


async def test_a_request_without_an_answer_ends_at_its_timeout(nats_server: NatsServer) -> None:
    """The answer that comes too late is dropped."""
    async with started(nats_server.url) as (link, _):
        replies: list[bytes] = []
        link.subscribe(b"slow", lambda _s, reply, _h, _p: replies.append(reply))
        assert await asked(link, b"slow", timeout=0.2) == (None, b"")
        await eventually(lambda: replies)
        link.publish(replies[0], b"late")
        assert await settled(link)


async def test_a_callback_that_raises_keeps_the_link_alive(nats_server: NatsServer) -> None:
    """It is counted and reported, and everybody else gets their messages."""
    async with started(nats_server.url) as (link, listener):
        received = Received()

        def fails(*_: object) -> None:
            raise RuntimeError("as the test wants it")

        link.subscribe(b"a", fails)
        link.subscribe(b"a", received)
        for _ in range(3):
            link.publish(b"a", b"x")
        link.barrier(fails, 5.0)
        await eventually(lambda: link.stats.callback_errors == 4)
        assert await settled(link)
        assert listener.heard("error:callback") == 4
        assert isinstance(link.last_error, RuntimeError)
        assert len(received.messages) == 3
        assert link.state is LinkState.CONNECTED


async def test_a_listener_that_raises_keeps_the_link_alive(nats_server: NatsServer) -> None:
    """Whatever it is told."""

    class Failing(NotingListener):
        def chunk_end(self) -> None:
            raise RuntimeError("as the test wants it")

        link_away = link_back = chunk_end

        def link_error(self, kind: str) -> None:
            super().link_error(kind)
            raise RuntimeError("here too")

    async with started(nats_server.url, listener=Failing()) as (link, listener):
        link.reconnect("as the test wants it")
        await eventually(lambda: link.state is LinkState.CONNECTED)
        assert await settled(link)
        assert listener.heard("error:callback") >= 3


async def test_close_sends_what_was_published_just_before(nats_server: NatsServer) -> None:
    """A drain must not lose the last messages."""
    async with started(nats_server.url) as (other, _):
        received = Received()
        other.subscribe(b"last", received)
        assert await settled(other)
        async with started(nats_server.url) as (link, listener):
            for _ in range(100):
                link.publish(b"last", b"x" * 10_000)
        await eventually(lambda: len(received.messages) == 100)
        assert listener.heard("away") == 0
        with pytest.raises(LinkAway):
            link.publish(b"last", b"x")


async def test_subscriptions_made_before_the_start_are_in_place_after_it(nats_server: NatsServer) -> None:
    """`start` returns when the server knows them."""
    received = Received()
    listener = NotingListener()
    link = NatsLink(options(nats_server.url), listener)
    assert link.state is LinkState.CONNECTING
    with pytest.raises(LinkAway):
        link.publish(b"a", b"x")
    link.subscribe(b"a", received)
    try:
        await link.start()
        async with started(nats_server.url) as (other, _):
            other.publish(b"a", b"x")
            await eventually(lambda: received.messages)
        assert listener.heard("back") == 0
    finally:
        await link.close()
    assert link.state is LinkState.CLOSED
