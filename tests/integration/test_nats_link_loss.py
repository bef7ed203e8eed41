from __future__ import annotations

import asyncio
import gc
import socket
import time
from pathlib import Path

import pytest

from tests.support.links import FAST, NotingListener, Received, asked, settled, started
from tests.support.nats_server import NatsServer
from tests.support.ports import free_ports
from tests.support.tcp_proxy import running_proxy
from tests.support.wait import PATIENCE, eventually
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkAway, LinkState

MOMENTS = 40
"""Turns of the loop, or some more, that a new connection takes."""


def connected(link: NatsLink) -> bool:
    """Whether publications are accepted."""
    return link.state is LinkState.CONNECTED


async def test_a_killed_server_is_noticed_and_found_again(nats_server: NatsServer) -> None:
    """Away once, back once, and delivery goes on with the same subscriptions."""
    async with started(nats_server.url) as (link, listener):
        received = Received()
        link.subscribe(b"a", received)
        link.publish(b"a", b"before")
        assert await settled(link)
        nats_server.kill()
        await eventually(lambda: link.state is LinkState.AWAY)
        assert listener.heard("away") == 1
        nats_server.start()
        await eventually(lambda: connected(link))
        link.publish(b"a", b"after")
        await eventually(lambda: len(received.messages) == 2)
        assert received.payloads == [b"before", b"after"]
        assert (listener.heard("away"), listener.heard("back")) == (1, 1)
        assert link.stats.reconnects == 1


async def test_what_cannot_be_sent_while_away_is_refused_at_once(nats_server: NatsServer) -> None:
    """A temporary error, never a silent loss; subscriptions are noted."""
    async with started(nats_server.url) as (link, _):
        nats_server.kill()
        await eventually(lambda: link.state is LinkState.AWAY)
        for call in (
            lambda: link.publish(b"a", b"x"),
            lambda: link.request(b"a", b"", b"", 1.0, lambda *_: None),
            lambda: link.barrier(lambda _: None, 1.0),
        ):
            with pytest.raises(LinkAway) as caught:
                call()
            assert caught.value.temporary
        received, gone = Received(), Received()
        link.subscribe(b"a", received)
        link.unsubscribe(link.subscribe(b"a", gone))
        nats_server.start()
        await eventually(lambda: connected(link))
        link.publish(b"a", b"x")
        assert await settled(link)
        assert (received.payloads, gone.payloads) == ([b"x"], [])


async def test_five_thousand_subscriptions_come_back_and_all_deliver(nats_server: NatsServer) -> None:
    """`link_back` is told when the server knows every one of them."""
    async with started(nats_server.url) as (link, listener), started(nats_server.url) as (other, _):
        counts = [0] * 5_000

        def count(subject: bytes, _reply: bytes, _header: bytes, _payload: bytes) -> None:
            counts[int(subject[2:])] += 1

        for number in range(5_000):
            link.subscribe(b"s.%d" % number, count)
        assert await settled(link)
        nats_server.restart()
        await eventually(lambda: listener.heard("back") == 1 and connected(other))
        for number in range(5_000):
            other.publish(b"s.%d" % number, b"")
        await eventually(lambda: sum(counts) == 5_000)
        assert set(counts) == {1}


async def test_the_link_is_back_only_when_the_server_has_processed_the_last_subscription(
    nats_server: NatsServer,
) -> None:
    """What another connection publishes in that very moment arrives, for the subscription that was sent last."""

    class Publishing(NotingListener):
        def link_back(self) -> None:
            super().link_back()
            other.sendall(b"PUB s.0 1\r\nx\r\n")

    listener, received = Publishing(), Received()
    async with started(nats_server.url, listener=listener) as (link, _):
        for number in range(50_000):
            link.subscribe(b"s.%d" % number, received)
        assert await settled(link)
        nats_server.restart()
        with socket.create_connection(("127.0.0.1", nats_server.port)) as other:
            other.sendall(b'CONNECT {"verbose": false}\r\n')
            await eventually(lambda: listener.heard("back") == 1)
            await eventually(lambda: received.messages)


async def test_subscribing_during_a_reconnect_loses_and_doubles_nothing(nats_server: NatsServer) -> None:
    """What is added or removed at any moment is in effect when the link is back."""
    async with started(nats_server.url) as (link, listener):
        kept = [Received() for _ in range(3_000)]
        sids = [link.subscribe(b"all", received) for received in kept]
        added: list[Received] = []
        nats_server.restart()
        async with asyncio.timeout(PATIENCE):
            while connected(link) or not link._outgoing.attached:  # noqa: ASYNC110 - no turn may be missed
                await asyncio.sleep(0)
        assert not listener.heard("back")
        while not listener.heard("back"):
            if len(added) < 2_500:
                added.append(Received())
                link.subscribe(b"all", added[-1])
                which = len(added) % 2 - 1  # from both ends: those sent again already, and those yet to come
                link.unsubscribe(sids.pop(which))
                kept.pop(which)
            await asyncio.sleep(0)
        link.publish(b"all", b"x")
        assert await settled(link)
        assert {len(received.messages) for received in [*kept, *added]} == {1}


async def test_what_waits_fails_when_the_server_dies(nats_server: NatsServer) -> None:
    """Requests get None and barriers False at once, not at their timeouts."""
    async with started(nats_server.url) as (link, _):
        outcomes: list[object] = []
        link.subscribe(b"silent", Received())
        link.request(b"silent", b"", b"", 60.0, lambda header, _: outcomes.append(header))
        nats_server.pause()
        link.barrier(outcomes.append, 60.0)
        await asyncio.sleep(0)
        nats_server.kill()
        await eventually(lambda: len(outcomes) == 2)
        assert sorted(map(str, outcomes)) == ["False", "None"]


async def test_a_hanging_server_fails_a_barrier_within_its_timeout(nats_server: NatsServer) -> None:
    """And a PONG that comes later harms nothing."""
    async with started(nats_server.url, watchdog_interval=60.0) as (link, listener):
        nats_server.pause()
        start = time.monotonic()
        assert not await settled(link, 0.3)
        assert 0.3 <= time.monotonic() - start < PATIENCE
        nats_server.resume()
        assert await settled(link)
        assert await settled(link)
        assert listener.heard("away") == 0


async def test_the_watchdog_leaves_a_hanging_server_and_takes_it_again(nats_server: NatsServer) -> None:
    """Sockets of a stopped process stay open: only the missing answer tells."""
    async with started(nats_server.url, **FAST) as (link, listener):
        received = Received()
        link.subscribe(b"a", received)
        nats_server.pause()
        await eventually(lambda: link.state is LinkState.AWAY)
        assert "no sign of life" in str(link.last_error)
        nats_server.resume()
        await eventually(lambda: connected(link))
        link.publish(b"a", b"x")
        await eventually(lambda: received.messages)
        assert listener.heard("back") == 1


async def test_the_watchdog_leaves_a_server_that_has_stopped_reading(nats_server: NatsServer) -> None:
    """Bytes that it will never take must not hold the reconnect up (stock nats-py waits for them)."""
    async with started(nats_server.url, max_pending=20_000_000, **FAST) as (link, _):
        nats_server.pause()
        for _ in range(20):
            link.publish(b"a", b"x" * 1_000_000)
        await eventually(lambda: link.state is LinkState.AWAY)
        assert link.pending_bytes == 0
        nats_server.restart()
        await eventually(lambda: connected(link))


async def test_another_server_is_taken_when_one_hangs(nats_server: NatsServer, tmp_path: Path) -> None:
    """The one that was lost is tried last."""
    with NatsServer(tmp_path / "second", config="server_name: second") as second:
        async with started(nats_server.url, second.url, connect_timeout=60.0, watchdog_timeout=3.0) as (
            link,
            _,
        ):
            first = nats_server if link.server_name != "second" else second
            first.pause()
            await eventually(lambda: link.state is LinkState.AWAY)
            await eventually(lambda: connected(link))  # long before the hanging one's connect timeout is over
            assert (link.server_name == "second") == (first is nats_server)
            first.resume()


async def test_an_announced_server_is_taken_when_the_configured_one_dies(tmp_path: Path) -> None:
    """A cluster tells its clients who else is there."""
    routes = free_ports(2)

    def cluster(number: int) -> str:
        return (
            f"server_name: n{number}\n"
            f"cluster {{ name: c, listen: 127.0.0.1:{routes[number]}, routes: [nats://127.0.0.1:{routes[1 - number]}] }}"
        )

    with (
        NatsServer(tmp_path / "n0", config=cluster(0)) as first,
        NatsServer(tmp_path / "n1", config=cluster(1)) as second,
    ):
        async with started(first.url) as (link, _):
            servers = link._keeper._servers
            await eventually(lambda: second.address in {server.address for server in servers.candidates()})
            first.kill()
            await eventually(lambda: connected(link) and link.server_name == "n1")


async def test_the_link_can_be_told_to_reconnect(nats_server: NatsServer) -> None:
    """Also from within a message callback, whose chunk is then dropped."""
    async with started(nats_server.url) as (link, listener):
        link.subscribe(b"a", lambda *_: link.reconnect("as the test wants it"))
        link.publish(b"a", b"x")
        await eventually(lambda: listener.heard("back") == 1)
        assert listener.heard("away") == 1
        assert "as the test wants it" in str(link.last_error)
        assert await settled(link)


async def test_a_read_loop_that_ends_is_noticed_at_once(nats_server: NatsServer) -> None:
    """Stock nats-py would call itself connected for ever."""
    async with started(nats_server.url, watchdog_interval=60.0) as (link, listener):
        assert link.nc._reading_task is not None
        link.nc._reading_task.cancel()
        await eventually(lambda: listener.heard("back") == 1)
        assert await settled(link)


async def test_an_invalid_subscription_is_reported_and_costs_nothing_else(nats_server: NatsServer) -> None:
    """The server says -ERR 'Invalid Subject' and goes on; closing here would repeat it at every reconnect."""
    async with started(nats_server.url) as (link, listener):
        link.subscribe(b"a..b", Received())
        assert not await settled(link)
        assert await settled(link)
        assert listener.heard("error:other") == 1
        assert "Invalid Subject" in str(link.last_error)
        link.reconnect("as the test wants it")
        await eventually(lambda: connected(link))
        assert await settled(link)
        assert listener.heard("back") == 1


async def test_an_error_for_which_the_server_closes_leads_to_a_new_connection(
    nats_server: NatsServer,
) -> None:
    """The link never ends silently: it is away, and comes back."""
    async with started(nats_server.url) as (link, listener):
        link.nc.wire.write(b"NONSENSE\r\n")
        await eventually(lambda: listener.heard("back") == 1)
        assert listener.log.index("error:other") < listener.log.index("away") < listener.log.index("back")
        assert await settled(link)


async def test_nonsense_from_a_server_leads_to_a_new_connection(nats_server: NatsServer) -> None:
    """A protocol error is the loss of the connection, not of the link."""
    async with started(nats_server.url) as (link, listener):
        await asyncio.gather(link.nc._ps.parse(b"PONG\r\n"), return_exceptions=True)
        link.nc._transport._bare_io_reader.feed_data(b"NONSENSE\r\n")  # type: ignore[union-attr]
        await eventually(lambda: listener.heard("back") == 1)
        assert await settled(link)


async def test_requests_work_after_a_reconnect(nats_server: NatsServer) -> None:
    """The inbox is among the subscriptions that come back."""
    async with started(nats_server.url) as (link, listener):
        link.subscribe(b"svc", lambda _s, reply, _h, payload: link.publish(reply, payload))
        nats_server.restart()
        await eventually(lambda: listener.heard("back") == 1)
        assert await asked(link, b"svc", b"x") == (b"", b"x")


async def test_many_restarts_leave_nothing_behind(nats_server: NatsServer) -> None:
    """No task, socket or waiting call of an old connection survives."""
    async with started(nats_server.url) as (link, listener):
        await link.nc.subscribe("kept.by.nats-py", cb=_ignore)
        tasks, files = len(asyncio.all_tasks()), open_files()
        for round_number in range(1, 6):
            nats_server.restart()
            await eventually(lambda expected=round_number: listener.heard("back") == expected)
        await eventually(lambda: len(asyncio.all_tasks()) < tasks, message="tasks of old connections end")
        gc.collect()
        await eventually(lambda: open_files() <= files, message="sockets of old connections are closed")
        assert await settled(link)


def open_files() -> int:
    """How many files and sockets this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def _ignore(_message: object) -> None:
    return None


async def test_a_link_ends_at_any_moment_of_a_new_connection(nats_server: NatsServer) -> None:
    """Also where its cancellation is lost, since what was waited for came in the same turn of the loop."""
    async with running_proxy(nats_server.port) as way:
        for turns in range(MOMENTS):
            async with asyncio.timeout(PATIENCE), started(way.url) as (link, listener):
                before = way.ends.copy()
                link.reconnect("a new connection is wanted")
                while way.ends <= before:  # noqa: ASYNC110 - each turn of the loop counts
                    await asyncio.sleep(0)
                for _ in range(turns):
                    await asyncio.sleep(0)
                back = listener.heard("back")
            assert listener.heard("back") == back
