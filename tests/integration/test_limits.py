"""The limits of an edge process, on real sockets: what is too much is refused cheaply, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.edges import EdgeProcess, edge_config, mapping, token
from tests.support.nats_server import NatsServer
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient, Refused, joined
from tests.support.wait import PATIENCE, eventually


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with the mapping."""
    with NatsServer(tmp_path / "nats", config=mapping()) as server:
        yield server


@asynccontextmanager
async def edge_with(nats: NatsServer, folder: Path, **client: Any) -> AsyncIterator[EdgeProcess]:
    """An edge with these settings of clients."""
    with EdgeProcess(folder, edge_config(nats.url, {"client": client})) as edge:
        yield edge


async def refusal(url: str) -> tuple[int, int] | None:
    """Status and Retry-After of a handshake; None when it is not refused."""
    try:
        await (await RawClient(url).open()).close()
    except Refused as refused:
        return refused.response.status_code, int(refused.response.headers["Retry-After"])
    return None


async def handshakes(edge: EdgeProcess, outcome: str) -> float:
    """How many ended so."""
    return (await edge.metrics()).value("tidewire_handshakes_total", outcome=outcome)


@protocol("command.rate", "error.111", "disconnect.3013")
async def test_client_that_floods_is_told_and_then_closed_while_its_neighbour_is_served(
    nats: NatsServer, tmp_path: Path
) -> None:
    """Of 60 publications at once 40 are carried out, and one more each second; the closing line says how many were not."""
    async with edge_with(nats, tmp_path, command_rate_limit=1, command_rate_burst=50) as edge:
        flooder, neighbour = await joined(edge.ws_url, token("a")), await joined(edge.ws_url, token("b"))
        publish = {"channel": "live:x", "data": 1}
        replies = await asyncio.gather(*(flooder.command(publish=publish) for _ in range(60)))
        problems = [reply["error"] for reply in replies if "error" in reply]
        assert {problem["code"] for problem in problems} == {111}
        assert 1 <= len(problems) <= 20
        assert "try again in " in problems[0]["message"]
        calls = [asyncio.ensure_future(flooder.command(publish=publish)) for _ in range(60)]
        await asyncio.wait_for(flooder.gone.wait(), PATIENCE)
        assert (flooder.close_code, flooder.close_reason) == (3013, "too many requests")
        await asyncio.gather(*calls, return_exceptions=True)
        assert "publish" in await neighbour.command(publish=publish)
        await eventually(lambda: edge.logged("connection.closed"))
        (line,) = edge.logged("connection.closed")
        assert line["throttled"] >= 50
        metrics = await edge.metrics()
        assert metrics.value("tidewire_commands_throttled_total", outcome="refused") >= len(problems)
        assert metrics.value("tidewire_commands_throttled_total", outcome="closed") >= 1
        await neighbour.close()


@protocol("connect.user_limit", "disconnect.3504")
async def test_user_has_so_many_connections_and_may_have_another_when_one_ends(
    nats: NatsServer, tmp_path: Path
) -> None:
    """Other users do not notice; a reload lifts it."""
    async with edge_with(nats, tmp_path, user_connection_limit=2) as edge:
        first, second = await joined(edge.ws_url, token("a")), await joined(edge.ws_url, token("a"))
        third = await RawClient(edge.ws_url).open()
        with pytest.raises(ConnectionError, match="3504 connection limit: the user has 2 on this edge"):
            await third.connect(token("a", jti="third"))
        await eventually(lambda: edge.logged("connection.closed"))
        (line,) = edge.logged("connection.closed")
        assert (line["user"], line["jti"], line["code"]) == ("a", "third", 3504)
        other = await joined(edge.ws_url, token("b"))
        await first.close()
        fourth = await joined(edge.ws_url, token("a"))
        edge.configure({"client": {"user_connection_limit": 0}})
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reloaded"))
        for client in (second, other, fourth, await joined(edge.ws_url, token("a"))):
            await client.close()


@protocol("handshake.address_limit")
async def test_address_has_so_many_connections_and_refusals_leave_nothing_behind(
    nats: NatsServer, tmp_path: Path
) -> None:
    """Neither does what is cut: afterwards there is no address at all."""
    async with edge_with(nats, tmp_path, address_connection_limit=3) as edge:
        clients = [await joined(edge.ws_url, token(str(number))) for number in range(3)]
        for _ in range(20):
            answer = await refusal(edge.ws_url)
            assert answer is not None
            assert (answer[0], 2 <= answer[1] < 10) == (429, True)
        clients.pop().abort()

        async def room() -> bool:
            return (await edge.metrics()).value("tidewire_connections") == 2

        await eventually(room)
        clients.append(await joined(edge.ws_url, token("3")))
        for client in clients:
            client.abort()

        async def nobody() -> bool:
            return (await edge.metrics()).value("tidewire_client_addresses") == 0

        await eventually(nobody)
        assert await handshakes(edge, "address_limit") == 20
        (line,) = edge.logged("handshake.refused")
        assert line["outcome"] == "address_limit"


async def test_slow_sockets_of_one_address_leave_room_for_others(nats: NatsServer, tmp_path: Path) -> None:
    """From 127.0.0.2 come more sockets than the edge has room for, and say nothing; 127.0.0.1 is served."""
    async with edge_with(nats, tmp_path, connection_limit=100, handshake_timeout="60s") as edge:
        slow = []
        for _ in range(250):
            _, writer = await asyncio.open_connection("127.0.0.1", edge.port, local_addr=("127.0.0.2", 0))
            slow.append(writer)

        async def settled() -> bool:
            return await handshakes(edge, "address_sockets") == 250 - 82

        await eventually(settled)
        (line,) = edge.logged("handshake.refused")
        assert (line["outcome"], line["peer"].split(":")[0]) == ("address_sockets", "127.0.0.2")
        for number in range(20):
            await (await joined(edge.ws_url, token(str(number)))).close()
        for writer in slow:
            writer.close()


@protocol("handshake.rate")
async def test_handshakes_over_the_rate_come_back_at_different_times(
    nats: NatsServer, tmp_path: Path
) -> None:
    """Whoever is there is served; a reload lifts the limit."""
    async with edge_with(nats, tmp_path, connection_rate_limit=1, connection_rate_burst=10) as edge:
        clients = [await joined(edge.ws_url, token(str(number))) for number in range(5)]
        answers = [answer for _ in range(40) if (answer := await refusal(edge.ws_url))]
        assert len(answers) > 10  # a slow machine brings a token now and then
        assert {status for status, _ in answers} == {503}
        assert len({after for _, after in answers}) > 3
        assert "publish" in await clients[0].command(publish={"channel": "live:x", "data": 1})
        assert await handshakes(edge, "connection_rate") == len(answers)
        edge.configure({"client": {"connection_rate_limit": 0}})
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reloaded"))
        clients += [await joined(edge.ws_url, token(str(number))) for number in range(20)]
        for client in clients:
            await client.close()


@protocol("handshake.overload")
async def test_overloaded_edge_refuses_newcomers_until_it_is_on_time_again(
    nats: NatsServer, tmp_path: Path
) -> None:
    """The process is stopped and continued again and again, as if it had half of a core; once does not matter."""
    async with edge_with(nats, tmp_path, max_loop_lag="250ms") as edge:
        os.kill(edge.pid, signal.SIGSTOP)
        await asyncio.sleep(1)
        os.kill(edge.pid, signal.SIGCONT)
        await (await joined(edge.ws_url, token())).close()

        async def overloaded() -> bool:
            os.kill(edge.pid, signal.SIGSTOP)
            await asyncio.sleep(0.5)
            os.kill(edge.pid, signal.SIGCONT)
            try:
                await (await joined(edge.ws_url, token())).close()
            except Refused as refused:
                return refused.response.status_code == 503
            return False

        await eventually(overloaded, 30)
        assert await handshakes(edge, "overload") >= 1

        async def recovered() -> bool:
            lag = (await edge.metrics()).value("tidewire_event_loop_lag_median_seconds")
            return lag < 0.25

        await eventually(recovered, 30)
        await (await joined(edge.ws_url, token())).close()
