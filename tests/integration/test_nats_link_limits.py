from __future__ import annotations

import asyncio

import pytest

from tests.support.links import Received, settled, started
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE, eventually
from tidewire.platform.nats_types import LinkFull, LinkState, PayloadTooLarge

HEADER = b"NATS/1.0\r\nTw-User: anna\r\n\r\n"


async def test_a_message_over_the_servers_limit_is_refused_here(nats_server: NatsServer) -> None:
    """The server would close the connection for it."""
    async with started(nats_server.url) as (link, _):
        assert link.max_payload == 1_048_576
        with pytest.raises(PayloadTooLarge) as caught:
            link.publish(b"a", b"x" * link.max_payload, HEADER)
        assert (caught.value.size, caught.value.limit) == (1_048_576 + len(HEADER), 1_048_576)
        assert not caught.value.temporary
        link.publish(b"a", b"x" * link.max_payload)
        assert await settled(link)


async def test_messages_that_are_sent_together_are_all_sent_or_none(nats_server: NatsServer) -> None:
    """In order, each with the same header block; what would be refused of one by itself is of all."""
    async with started(nats_server.url) as (link, _):
        received = Received()
        link.subscribe(b"a", received)
        payloads = [b"1", b"", b"\r\nPUB a 0\r\n"]
        link.publish_all(b"a", payloads, HEADER)
        with pytest.raises(PayloadTooLarge) as caught:
            link.publish_all(b"a", [b"2", b"x" * link.max_payload], HEADER)
        assert caught.value.size == link.max_payload + len(HEADER)
        for header in (b"", b"NATS/1.0\r\nA: b\r\n"):
            with pytest.raises(ValueError, match="empty line"):
                link.publish_all(b"a", [b"3"], header)
        with pytest.raises(ValueError, match="white space"):
            link.publish_all(b"a b", [b"4"], HEADER)
        assert await settled(link)
        assert [(header, payload) for _, _, header, payload in received.messages] == [
            (HEADER, each) for each in payloads
        ]
        assert link.stats.out_msgs == 3
        assert link.stats.out_bytes == 3 * len(HEADER) + sum(map(len, payloads))


async def test_a_batch_is_sent_whole_or_not_at_all(nats_server: NatsServer) -> None:
    """Each message with its own header block and reply; what would be refused of one by itself is of all."""
    async with started(nats_server.url) as (link, _):
        received = Received()
        link.subscribe(b"a", received)
        batch = [(b"a", b"", HEADER, b"1"), (b"a", b"r", HEADER, b"")]
        link.publish_each(batch)
        with pytest.raises(PayloadTooLarge):
            link.publish_each([*batch, (b"a", b"", HEADER, b"x" * link.max_payload)])
        for bad in (
            (b"a", b"", HEADER[:-2], b"2"),
            (b"a", b"a b", HEADER, b"2"),
            (b"a b", b"", HEADER, b"2"),
        ):
            with pytest.raises(ValueError, match=r"empty line|white space"):
                link.publish_each([*batch, bad])
        assert await settled(link)
        assert received.messages == batch
        assert (link.stats.out_msgs, link.stats.out_bytes) == (2, 2 * len(HEADER) + 1)


@pytest.mark.parametrize("subject", [b"", b"a b", b"a\r\nPUB b 0\r\n\r\n", b"a\tb", b"a\n", b"a\x00"])
async def test_a_subject_that_could_inject_a_command_is_refused(
    nats_server: NatsServer, subject: bytes
) -> None:
    """In every place where it would stand on a protocol line."""
    async with started(nats_server.url) as (link, _):
        with pytest.raises(ValueError, match="white space"):
            link.publish(subject, b"")
        with pytest.raises(ValueError, match="white space"):
            link.subscribe(subject, Received())
        with pytest.raises(ValueError, match="white space"):
            link.request(subject, b"", b"", 1.0, lambda *_: None)
        if subject:
            with pytest.raises(ValueError, match="white space"):
                link.publish(b"a", b"", b"", subject)
            with pytest.raises(ValueError, match="white space"):
                link.subscribe(b"a", Received(), subject)
        with pytest.raises(ValueError, match="empty line"):
            link.publish(b"a", b"", b"NATS/1.0\r\nA: b\r\n")
        assert await settled(link)


async def test_the_link_is_full_when_the_server_does_not_read(nats_server: NatsServer) -> None:
    """Publications are refused beyond max_pending, and taken again when the server goes on."""
    async with started(nats_server.url, max_pending=1_000_000, watchdog_interval=60.0) as (link, _):
        nats_server.pause()

        async def fill() -> None:
            for _ in range(1_000):
                link.publish(b"a", b"x" * 100_000)
                await asyncio.sleep(0)

        with pytest.raises(LinkFull) as caught:
            await fill()
        assert caught.value.temporary
        with pytest.raises(LinkFull):
            link.publish_all(b"a", [b"x"], HEADER)
        with pytest.raises(LinkFull):
            link.publish_each([(b"a", b"", HEADER, b"x")])
        assert link.stats.out_msgs >= 10
        assert 1_000_000 <= link.pending_bytes < 1_200_000
        nats_server.resume()
        assert await settled(link)
        link.publish(b"a", b"x")
        assert await settled(link)


async def test_subscribing_without_end_to_a_server_that_does_not_read_leaves_it(
    nats_server: NatsServer,
) -> None:
    """SUB lines are never refused, so their bytes are bounded by giving the connection up."""
    async with started(nats_server.url, max_pending=100_000, watchdog_interval=60.0) as (link, _):
        nats_server.pause()
        received = Received()
        for number in range(200_000):
            link.unsubscribe(link.subscribe(b"%0200d" % number, received))
            if number % 100 == 0:
                await asyncio.sleep(0)
            if link.state is LinkState.AWAY:
                break
        assert "does not take our bytes" in str(link.last_error)
        link.subscribe(b"a", received)
        nats_server.resume()
        await eventually(lambda: link.state is LinkState.CONNECTED)
        link.publish(b"a", b"x")
        await eventually(lambda: received.messages)


async def test_requests_and_barriers_that_wait_are_bounded(nats_server: NatsServer) -> None:
    """A server that answers nothing must not fill the memory."""
    async with started(nats_server.url, max_outstanding=10) as (link, _):
        link.subscribe(b"silent", Received())
        replies: list[bytes | None] = []
        for _ in range(10):
            link.request(b"silent", b"", b"", 60.0, lambda header, _: replies.append(header))
        with pytest.raises(LinkFull):
            link.request(b"silent", b"", b"", 60.0, lambda header, _: replies.append(header))
        assert await settled(link)
        assert replies == []
        passed: list[bool] = []
        for _ in range(10):
            link.barrier(passed.append, 60.0)
        with pytest.raises(LinkFull):
            link.barrier(passed.append, 60.0)
        await eventually(lambda: passed == [True] * 10)
        assert await settled(link)
    assert replies == [None] * 10


async def test_close_is_bounded_when_the_server_hangs(nats_server: NatsServer) -> None:
    """It gives up after its two seconds and fails what waits."""
    async with started(nats_server.url, watchdog_interval=60.0) as (link, _):
        replies: list[bytes | None] = []
        nats_server.pause()
        link.request(b"a", b"x" * 1_000_000, b"", 60.0, lambda header, _: replies.append(header))
        async with asyncio.timeout(PATIENCE):
            await link.close()
        assert replies == [None]
    nats_server.resume()
