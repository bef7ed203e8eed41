from __future__ import annotations

import asyncio
import gc
import socket
import time
from pathlib import Path

import pytest
import uvloop

from tests.support.links import NotingListener, Received, options, settled, settling, started
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE, eventually
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkError, LinkState

USERS = """
authorization {{ users: [
  {{ user: edge, password: "{password}", permissions: {{
      publish: {{ allow: ["ok.>", "_INBOX.>"] }}, subscribe: {{ allow: ["ok.>", "_INBOX.>"] }} }} }}
] }}
"""
RIGHT = USERS.format(password="geheim")
OTHER = USERS.format(password="another")


async def failing_start(link: NatsLink) -> LinkError:
    """The error of a start that must not work."""
    with pytest.raises(LinkError) as caught:
        await link.start()
    await link.close()
    return caught.value


def make(*urls: str, **changes: object) -> NatsLink:
    """A link that was not started."""
    return NatsLink(options(*urls, **changes), NotingListener())


async def test_nothing_listening_is_told_in_one_sentence_after_the_window() -> None:
    """It is tried for three connect timeouts, in case NATS is just starting."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody else gets it meanwhile
        port = free.getsockname()[1]
        start = time.monotonic()
        error = await failing_start(make(f"nats://me:geheim@127.0.0.1:{port}", connect_timeout=0.2))
    assert 0.6 <= time.monotonic() - start < PATIENCE
    assert f"nothing answers at nats://127.0.0.1:{port}" in str(error)
    assert "geheim" not in str(error)
    assert "\n" not in str(error)


async def test_a_server_that_comes_within_the_window_is_taken(tmp_path: Path) -> None:
    """Whoever starts both at once need not care for the order."""
    with NatsServer(tmp_path / "nats") as server:
        server.kill()
        link = make(server.url, connect_timeout=PATIENCE)
        starting = asyncio.create_task(link.start())
        try:
            await eventually(lambda: link.nc.dropped, message="one attempt failed")
            server.start()
            await starting
            assert link.state is LinkState.CONNECTED
        finally:
            await link.close()


async def test_a_socket_that_says_nothing_is_told_in_one_sentence() -> None:
    """Something listens, but it is no NATS, or it hangs."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = await failing_start(make(f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.2))
    assert "did not answer within 0.2 s" in str(error)


async def test_wrong_credentials_are_told_at_once(tmp_path: Path) -> None:
    """Trying again would not help; the sentence names the user and never the password."""
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with asyncio.timeout(PATIENCE):
            error = await failing_start(
                make(server.url, user="edge", password="falsch", connect_timeout=60.0)
            )
        assert error.final
        assert server.url in str(error)
        assert "edge" in str(error)
        assert "Authorization Violation" in str(error)
        assert "falsch" not in str(error)


async def test_credentials_in_the_url_work_and_are_not_shown(tmp_path: Path) -> None:
    """They are used for connecting only."""
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with started(f"nats://edge:geheim@{server.address}") as (link, _):
            assert await settled(link)
        error = await failing_start(make(f"nats://edge:falsch@{server.address}"))
        assert "falsch" not in str(error)


async def test_turned_down_subscriptions_and_publications_are_reported(tmp_path: Path) -> None:
    """As trouble with permissions, which leaves the rest of the link alone; the error names the subject as it is."""
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with started(server.url, user="edge", password="geheim") as (link, listener):
            received = Received()
            link.subscribe(b"ok.a", received)
            link.subscribe(b"Forbidden", Received())
            await settled(link)
            assert listener.heard("error:permissions") == 1
            assert '"Forbidden"' in str(link.last_error)
            link.publish(b"Also.Forbidden", b"x")
            await settled(link)
            assert listener.heard("error:permissions") == 2
            assert '"Also.Forbidden"' in str(link.last_error)
            link.publish(b"ok.a", b"x")
            await eventually(lambda: received.messages)
            assert listener.heard("away") == 0


async def test_a_barrier_fails_when_the_server_refused_what_was_written_before_it(tmp_path: Path) -> None:
    """And no other: not the one before, nor the one after. An acknowledgement rests on this alone."""
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with started(server.url, user="edge", password="geheim") as (link, _):
            for refused in (lambda: link.publish(b"no", b"x"), lambda: link.subscribe(b"no", Received())):
                before = settling(link)
                await asyncio.sleep(0)  # a turn of the loop, hence a PING, of its own
                refused()
                with_it = settling(link)
                await asyncio.sleep(0)
                after = settling(link)
                assert await asyncio.gather(before, with_it, after) == [True, False, True]


async def test_a_refusal_that_nobody_waited_for_fails_no_later_barrier(tmp_path: Path) -> None:
    """What was written without a barrier has nobody to tell."""
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with started(server.url, user="edge", password="geheim") as (link, listener):
            link.publish(b"no", b"x")
            await eventually(lambda: listener.heard("error:permissions"))
            assert await settled(link)


async def test_pings_of_nats_py_take_no_refusal_from_a_barrier(tmp_path: Path) -> None:
    """Its PONG may come between the refusal and ours: the refusal stays with the barrier."""
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with started(server.url, user="edge", password="geheim") as (link, _):
            server.pause()  # so that all three stand in the line before the first answer
            link.publish(b"no", b"x")
            await asyncio.sleep(0)
            flush = asyncio.create_task(link.nc.flush(int(PATIENCE)))
            await eventually(lambda: len(link.nc._pongs) == 1)
            verdict = settling(link)
            await eventually(lambda: len(link.nc._pongs) == 2)
            server.resume()
            await flush
            assert not await verdict


async def test_a_subscription_refused_after_a_reconnect_is_reported_and_the_link_goes_on(
    tmp_path: Path,
) -> None:
    """A node with fewer rights must not look like one that cannot be used; nor does the watchdog take it for one."""
    narrow = RIGHT.replace('"ok.>", "_INBOX.>"] } }', '"ok.Some.>", "_INBOX.>"] } }')
    assert narrow != RIGHT
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with started(server.url, user="edge", password="geheim") as (link, listener):
            kept = Received()
            link.subscribe(b"ok.Some.a", kept)
            link.subscribe(b"ok.Other", Received())
            assert await settled(link)
            server.restart(narrow)
            await eventually(lambda: listener.heard("back") == 1)
            assert listener.heard("error:permissions") == 1
            assert '"ok.Other"' in str(link.last_error)
            link.publish(b"ok.Some.a", b"x")
            await eventually(lambda: kept.messages)
            assert listener.heard("away") == 1


async def test_the_link_lives_through_a_time_with_other_credentials(tmp_path: Path) -> None:
    """It is away, asks ever more seldom, and is back when its password counts again."""
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with started(server.url, user="edge", password="geheim") as (link, listener):
            received = Received()
            link.subscribe(b"ok.a", received)
            server.restart(OTHER)
            await eventually(lambda: listener.heard("error:other") >= 3)
            assert link.state is LinkState.AWAY
            assert "Authorization Violation" in str(link.last_error)
            server.restart(RIGHT)
            await eventually(lambda: link.state is LinkState.CONNECTED)
            link.publish(b"ok.a", b"x")
            await eventually(lambda: received.messages)
            assert listener.heard("back") == 1


async def test_the_link_lives_through_a_reload_that_throws_it_out(tmp_path: Path) -> None:
    """The server says -ERR on a living connection and closes it."""
    with NatsServer(tmp_path / "nats", config=RIGHT) as server:
        async with started(server.url, user="edge", password="geheim") as (link, listener):
            server.reload(OTHER)
            await eventually(lambda: link.state is LinkState.AWAY)
            server.reload(RIGHT)
            await eventually(lambda: listener.heard("back") == 1)
            assert await settled(link)


async def test_missing_files_are_told_at_once(nats_server: NatsServer, tmp_path: Path) -> None:
    """A credentials file at the start, a TLS file when the link is made."""
    missing = str(tmp_path / "missing")
    with pytest.raises(LinkError, match="TLS files") as caught:
        make(nats_server.url, tls_ca_file=missing)
    assert caught.value.final
    error = await failing_start(make(nats_server.url, credentials_file=missing))
    assert error.final
    assert "credentials" in str(error)


async def test_tls_that_the_server_does_not_offer_is_refused_before_anything_secret_is_sent(
    nats_server: NatsServer,
) -> None:
    """Someone in between could have taken it away."""
    error = await failing_start(make(f"tls://{nats_server.address}", user="edge", password="geheim"))
    assert error.final
    assert "offers no TLS" in str(error)
    assert "edge" not in nats_server.log


async def test_a_larger_message_limit_of_a_restarted_server_is_taken_over(tmp_path: Path) -> None:
    """What the server says at each connection counts."""
    with NatsServer(tmp_path / "nats", config="max_payload: 1000") as server:
        async with started(server.url) as (link, listener):
            assert link.max_payload == 1000
            server.restart("max_payload: 2000")
            await eventually(lambda: listener.heard("back") == 1)
            assert link.max_payload == 2000


def test_a_host_that_is_resolved_too_late_leaves_nothing_behind() -> None:
    """The answer of a resolver that nobody waits for any more is no "exception was never retrieved" in the log."""
    complaints: list[dict[str, object]] = []
    host = "no.such.host.invalid"

    async def give_up_while_resolving() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        for turns in range(5):
            link = make(f"nats://{host}:4222")
            starting = asyncio.create_task(link.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait({starting})
            await link.close()
            for _ in range(3):  # later than the first question, so answered after it
                with pytest.raises(socket.gaierror):
                    await loop.getaddrinfo(host, 4222)
        gc.collect()

    uvloop.run(give_up_while_resolving())
    assert complaints == []
