"""Several replicas over real sockets: calls are spread, go to healthy ones only, and outlive replicas and connections."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from tests.support.ports import free_ports
from tests.support.rpc import Client, Echo, Load, Rpc, Server, path
from tests.support.wait import eventually
from tidewire.kernel import call_errors
from tidewire.kernel.call_errors import CallError
from tidewire.platform.lifecycle import StartError
from tidewire.platform.ports import why_not

SAY = path("Say")


def both(*servers: Server) -> str:
    """A target of all these servers."""
    return "ipv4:" + ",".join(server.address for server in servers)


async def answered_by(client: Client, *names: bytes) -> bool:
    """Whether calls are answered by these, and by nobody else."""
    return {await client.say(b"") for _ in range(2 * len(names))} == set(names)


async def test_calls_are_spread_evenly(rpc: Rpc) -> None:
    """In turn, once both are connected."""
    servers = [await rpc.server(name) for name in "ab"]
    client = await rpc.client(both(*servers))
    await eventually(lambda: answered_by(client, b"a", b"b"))
    before = [server.echo.requests.total() for server in servers]
    for _ in range(100):
        await client.say(b"")
    after = [server.echo.requests.total() for server in servers]
    assert [late - early for late, early in zip(after, before, strict=True)] == [50, 50]


async def test_a_name_is_looked_up(rpc: Rpc) -> None:
    """`localhost`, whose addresses the machine has in a file."""
    server = await rpc.server("a:")
    client = await rpc.client(f"dns:///localhost:{server.rpc.port}")
    assert await client.say(b"x") == b"a:x"


async def test_a_server_that_is_not_serving_gets_no_calls(rpc: Rpc) -> None:
    """From the moment that it says so, and gets them again when it says otherwise."""
    a, b = [await rpc.server(name) for name in "ab"]
    client = await rpc.client(both(a, b))
    await eventually(lambda: answered_by(client, b"a", b"b"))
    a.rpc.set_serving(serving=False)
    await eventually(lambda: answered_by(client, b"b"))
    before = a.echo.requests.total()
    for _ in range(50):
        assert await client.say(b"") == b"b"
    assert a.echo.requests.total() == before
    a.rpc.set_serving(serving=True)
    await eventually(lambda: answered_by(client, b"a", b"b"))
    assert client.calls.keys() == {(SAY, "OK")}


async def test_kill_9_of_a_replica_loses_no_idempotent_call(rpc: Rpc) -> None:
    """Those that were on their way to it are made again, at the other one."""
    a, b = await asyncio.gather(rpc.process("a"), rpc.process("b"))
    client = await rpc.client(f"ipv4:127.0.0.1:{a.port},127.0.0.1:{b.port}")
    await eventually(lambda: answered_by(client, b"a", b"b"))
    load = Load(lambda: client.say(b""), tasks=8)
    await eventually(lambda: load.done > 100)
    a.send_signal(signal.SIGKILL)
    done = load.done
    await eventually(lambda: load.done > done + 500)
    await load.end()
    assert load.failures == []


async def test_a_silent_connection_is_tried(rpc: Rpc) -> None:
    """A replica that stands still answers no ping, and calls go to the other one."""
    a, b = await asyncio.gather(rpc.process("a"), rpc.process("b"))
    target = f"ipv4:127.0.0.1:{a.port},127.0.0.1:{b.port}"
    client = await rpc.client(target, keepalive_interval="5s", keepalive_timeout="1s")
    await eventually(lambda: answered_by(client, b"a", b"b"))
    a.send_signal(signal.SIGSTOP)
    with pytest.raises(CallError):  # it is one of the two that are asked in turn
        await asyncio.gather(*(client.say(b"", timeout=0.5) for _ in range(2)))

    async def only_b() -> bool:
        try:
            return {await client.say(b"", timeout=0.5) for _ in range(4)} == {b"b"}
        except CallError:
            return False

    await eventually(only_b)
    a.send_signal(signal.SIGCONT)
    await eventually(lambda: answered_by(client, b"a", b"b"))


async def test_connections_age_without_an_error(rpc: Rpc) -> None:
    """The server tells the client to connect anew, and no call is lost by it."""
    server = await rpc.server(max_connection_age="1s", max_connection_age_grace="5s")
    client = await rpc.client(server.target, attempts=1)
    peers: set[bytes] = set()

    async def note_peer() -> None:
        peers.add(await client.peer(b""))

    load = Load(note_peer)
    await eventually(lambda: len(peers) >= 3)
    await load.end()
    assert load.failures == []


async def test_a_drained_server_fails_no_call(rpc: Rpc) -> None:
    """It says so first, ends the calls that it has, and is gone."""
    a, b = [await rpc.server(name, drain_delay="200ms", drain_timeout="20s") for name in "ab"]
    client = await rpc.client(both(a, b), attempts=1)
    await eventually(lambda: answered_by(client, b"a", b"b"))
    slow = [asyncio.ensure_future(client.wait(b"x")) for _ in range(8)]
    await eventually(lambda: a.echo.waiting and b.echo.waiting)
    load = Load(lambda: client.say(b""))
    await eventually(lambda: load.done > 50)
    draining = asyncio.ensure_future(a.rpc.drain())
    await eventually(lambda: refused(a.rpc.port))
    done = load.done
    await eventually(lambda: load.done > done + 200)
    assert not draining.done()
    assert a.echo.ended == 0
    for server in (a, b):
        server.echo.release.set()
    assert await asyncio.gather(*slow) == [b"x"] * 8
    await draining
    done = load.done
    await eventually(lambda: load.done > done + 50)
    await load.end()
    assert load.failures == []
    assert a.metrics.in_flight == 0


async def test_a_drain_does_not_wait_for_ever(rpc: Rpc) -> None:
    """A call that is not over by then is cancelled, and its client told."""
    server = await rpc.server(drain_timeout="100ms")
    client = await rpc.client(server.target, attempts=1)
    slow = asyncio.ensure_future(client.wait(b""))
    await eventually(lambda: server.echo.waiting)
    await server.rpc.drain()
    with pytest.raises(CallError) as caught:
        await slow
    assert caught.value.reason is call_errors.UNAVAILABLE
    assert server.echo.ended == 1


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_client_finds_a_server_that_comes_late(rpc: Rpc) -> None:
    """And one that came back at the same address."""
    (port,) = free_ports(1)
    client = await rpc.client(f"ipv4:127.0.0.1:{port}", attempts=1)
    load = Load(lambda: client.say(b""), tasks=1)
    await eventually(lambda: load.failures)
    assert {failure.reason.name for failure in load.failures} == {"unavailable"}
    server = await rpc.server(port=port)
    await eventually(lambda: load.done)
    await server.rpc.stop()
    failed = len(load.failures)
    await eventually(lambda: len(load.failures) > failed)
    done = load.done
    await rpc.server(port=port)
    await eventually(lambda: load.done > done)
    await load.end()


async def test_a_port_that_is_taken(rpc: Rpc) -> None:
    """Is a line that names the setting."""
    server = await rpc.server()
    for setting in ("port", "health_port"):
        with pytest.raises(StartError) as caught:
            await rpc.server(**{setting: server.rpc.port})
        assert str(caught.value) == f"cannot listen on {server.address} (rpc.{setting}): is taken"


async def test_a_start_that_fails_leaves_no_port_behind() -> None:
    """Where the second port is taken, the first can be had again as soon as the server is stopped."""
    (free,) = free_ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server(Echo(), port=free, health_port=taken.getsockname()[1])
        with pytest.raises(StartError, match=r"\(rpc\.health_port\): is taken$"):
            await server.rpc.start()
        assert why_not("127.0.0.1", free) == "is taken"
        await server.rpc.stop()
    assert why_not("127.0.0.1", free) is None
