"""Edges behind a real Envoy: a TCP balancer that sends the PROXY header (tcp.yaml), and an HTTP balancer (http.yaml).

Envoy comes to the edges from 127.0.0.1, clients to Envoy from other addresses of this machine, each test from its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.edges import EdgeProcess, running_mesh, token
from tests.support.envoy import Config, Envoy, balancer, part, program, running_envoy
from tests.support.raw_client import RawClient, Refused, opener
from tests.support.sdk import SdkClient, connected, event, subscribed
from tests.support.sdk_maker import all_kinds
from tests.support.wait import eventually
from tidewire.edge.proxy_protocol import SIGNATURE

HTTP = {
    "tcp.yaml": {"trusted_proxies": ["127.0.0.1/32"], "proxy_protocol": True},
    "http.yaml": {"trusted_proxies": ["127.0.0.1/32"]},
}
"""The settings that each file asks of the edges behind it."""
CLIENT = {"allowed_origins": ["https://good.example"], "ping_interval": "1s", "pong_timeout": "900ms"}
OF_AN_ADDRESS = 2
ENVOYS_DEFAULT = 1024
"""Connections of a cluster, where nothing is said about them."""
NOWHERE = 9
AT_ONCE = 100
PLENTY = 5000
"""Connections of an edge."""
FORGED = ["203.0.113.7", "127.0.0.1", "203.0.113.7, 127.0.0.1", ""]


class Behind(msgspec.Struct, frozen=True):
    """Edges for one of the files."""

    name: str
    edges: tuple[EdgeProcess, EdgeProcess]

    @contextlib.asynccontextmanager
    async def envoy(
        self, folder: Path, change: Callable[[Config], None] = lambda _config: None
    ) -> AsyncIterator[Envoy]:
        """Run the file, as it is but for a change, once it holds its edges for healthy."""
        config = balancer(self.name, self.edges)
        change(config)
        async with running_envoy(folder / "envoy", config) as envoy:
            await envoy.has_healthy("edges", {place["port_value"] for place in places(config)})
            yield envoy


def places(config: Config) -> list[Config]:
    """Where the edges are."""
    (group,) = part(config, "edges")["load_assignment"]["endpoints"]
    return [each["endpoint"]["address"]["socket_address"] for each in group["lb_endpoints"]]


def only_the_first(config: Config) -> None:
    """Let Envoy have one edge."""
    (group,) = part(config, "edges")["load_assignment"]["endpoints"]
    del group["lb_endpoints"][1:]


def second_has_just_gone(config: Config) -> None:
    """Nobody listens where the second edge was, and Envoy does not know it."""
    places(config)[1]["port_value"] = NOWHERE
    del part(config, "edges")["health_checks"]


def route_that_is_brief(config: Config) -> None:
    """Give the HTTP route a timeout that is over soon."""
    manager = part(config, "envoy.filters.network.http_connection_manager")["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"] = "0.3s"


@contextlib.contextmanager
def edges_for(name: str, folder: Path, **sections: Any) -> Iterator[Behind]:
    """Run two edges with the settings that a file asks for."""
    program()
    with running_mesh(folder, {"http": HTTP[name], **sections}) as mesh:
        first, second = mesh.edges
        yield Behind(name, (first, second))


@pytest.fixture(scope="module", params=HTTP)
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """Two edges that let an address have two connections each, and pages of one site in."""
    client = {**CLIENT, "address_connection_limit": OF_AN_ADDRESS, "connection_limit": PLENTY}
    with edges_for(request.param, tmp_path_factory.mktemp("edges"), client=client) as edges:
        yield edges


async def opened(envoy: Envoy, source: str, **headers: str) -> RawClient:
    """Return a WebSocket through Envoy; underscores in names of headers are hyphens. Raises Refused."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await RawClient(envoy.ws_url("clients"), headers=named, sock=opener(source)).open()


async def refusal(envoy: Envoy, source: str, **headers: str) -> int:
    """Return the status of a WebSocket that is not to be had."""
    with pytest.raises(Refused) as refused:
        await opened(envoy, source, **headers)
    return refused.value.response.status_code


async def test_limits_of_an_address_are_those_of_the_client(behind: Behind, tmp_path: Path) -> None:
    """Not of Envoy, and whatever the client says of itself; the edge's log has it, too."""
    first, second = "127.0.1.1", "127.0.1.2"
    async with behind.envoy(tmp_path, only_the_first) as envoy:
        clients = [await opened(envoy, first, X_Forwarded_For=FORGED[n]) for n in range(OF_AN_ADDRESS)]
        more = [refusal(envoy, first, X_Forwarded_For=forged) for forged in FORGED]
        assert await asyncio.gather(*more, refusal(envoy, first)) == [429] * (len(FORGED) + 1)
        clients += [await opened(envoy, second) for _ in range(OF_AN_ADDRESS)]
        assert await refusal(envoy, second) == 429
        for client in clients:
            await client.connect(token())
            await client.close()
        edge = behind.edges[0]
        await eventually(lambda: peers(edge)[second] == OF_AN_ADDRESS)
        assert peers(edge)[first] == OF_AN_ADDRESS
        assert "127.0.0.1" not in peers(edge)


def peers(edge: EdgeProcess) -> Counter[str]:
    """How many connections of each address have ended, as the edge logs them."""
    return Counter(line["peer"].partition(":")[0] for line in edge.logged("connection.closed"))


async def test_a_header_of_the_clients_own_is_a_bad_request(behind: Behind, tmp_path: Path) -> None:
    """A PROXY header, version 1 or 2, before its request: behind Envoy's nobody reads another one."""
    address = bytes([203, 0, 113, 7, 192, 0, 2, 1, 18, 103, 1, 187])
    async with behind.envoy(tmp_path, only_the_first) as envoy:
        for header in (
            b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
            SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(address)) + address,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", envoy.port("clients"))
            with contextlib.closing(writer):
                writer.write(header + b"GET /connection/websocket HTTP/1.1\r\nHost: edge\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")


async def test_origin_is_the_clients(behind: Behind, tmp_path: Path) -> None:
    """A page of another site is refused as without Envoy."""
    async with behind.envoy(tmp_path) as envoy:
        assert await refusal(envoy, "127.0.3.1", Origin="https://evil.example") == 403
        await (await opened(envoy, "127.0.3.1", Origin="https://good.example")).close()


async def test_more_clients_than_envoy_lets_through_by_default(behind: Behind, tmp_path: Path) -> None:
    """The circuit breakers of the file are for edges, each of which has many."""
    number = ENVOYS_DEFAULT + 40
    async with behind.envoy(tmp_path) as envoy, contextlib.AsyncExitStack() as stack:
        for start in range(0, number, AT_ONCE):
            sources = [
                f"127.1.{start // AT_ONCE}.{1 + index}" for index in range(min(AT_ONCE, number - start))
            ]
            for client in await asyncio.gather(*(opened(envoy, source) for source in sources)):
                stack.callback(client.abort)
        assert await envoy.stat("cluster.edges.upstream_cx_active") == number


async def test_an_edge_that_has_just_gone_is_passed_over(behind: Behind, tmp_path: Path) -> None:
    """Before any health check can tell. It has no connections, and so is what Envoy chooses first."""
    async with behind.envoy(tmp_path, second_has_just_gone) as envoy, contextlib.AsyncExitStack() as stack:
        for number in range(1, 21):
            stack.callback((await opened(envoy, f"127.0.6.{number}")).abort)
        assert await envoy.stat("cluster.edges.upstream_cx_connect_fail") > 10


@pytest.mark.parametrize("behind", ["http.yaml"], indirect=True)
async def test_a_full_edge_is_passed_over(behind: Behind, tmp_path: Path) -> None:
    """Its 503 is not the client's, while another edge has room; where none has, it is."""
    async with behind.envoy(tmp_path) as envoy, contextlib.AsyncExitStack() as stack:
        for full in behind.edges:
            for number in range(1, 13):
                stack.callback((await opened(envoy, f"127.0.4.{number}")).abort)
            await take(full, 1)
            stack.push_async_callback(take, full, PLENTY)
        assert await refusal(envoy, "127.0.4.99") == 503
        assert await envoy.stat("cluster.edges.upstream_rq_retry") > 0


async def take(edge: EdgeProcess, connections: int) -> None:
    """Have an edge take so many, from now on."""
    before = len(edge.logged("config.reloaded"))
    edge.configure({"client": {"connection_limit": connections}})
    edge.hang_up()
    await eventually(lambda: len(edge.logged("config.reloaded")) > before)


@pytest.mark.parametrize("behind", ["http.yaml"], indirect=True)
async def test_a_websocket_outlives_the_timeout_of_its_route(behind: Behind, tmp_path: Path) -> None:
    """Which is for answers, and the upgrade is one."""
    async with behind.envoy(tmp_path, route_that_is_brief) as envoy:
        client = await opened(envoy, "127.0.5.1")
        await client.connect(token())
        await eventually(lambda: client.pings)
        assert "publish" in await client.command(publish={"channel": "live:x", "data": 1})
        await client.close()


@pytest.mark.parametrize("name", HTTP)
async def test_drain_moves_clients_of_the_sdks_to_the_other_edge(name: str, tmp_path: Path) -> None:
    """Each is told so by its edge (3001), and none meets a closed port: Envoy has seen `/ready` say no before."""
    with edges_for(name, tmp_path, drain={"delay": "1s", "window": "200ms"}) as behind:
        first, second = behind.edges
        async with behind.envoy(tmp_path) as envoy, all_kinds() as makes:
            clients = [await make(envoy.ws_url("clients"), token=token()) for make in makes * 2]
            for client in clients:
                await connected(client)
                await subscribed(client, CHANNEL)
            await heard_by_all(clients, "before")
            there = await connections(first)
            assert 0 < there == len(clients) - await connections(second)
            first.terminate()
            await envoy.has_healthy("edges", {second.port})
            assert await first.exit_code() == 0
            await eventually(lambda: stories(clients) == {STAYED: len(clients) - there, MOVED: there})
            await heard_by_all(clients, "after")
            assert await connections(second) == len(clients)
            assert await envoy.stat("cluster.edges.upstream_cx_connect_fail") == 0


CHANNEL = "live:news"
STAYED = (("connecting", 0), ("connected", 0))
MOVED = (*STAYED, ("connecting", 3001), ("connected", 0))


def stories(clients: Sequence[SdkClient]) -> Counter[tuple[tuple[str, int], ...]]:
    """What happened to connections, with its code, and to how many."""
    kinds = {"connecting", "connected", "disconnected", "error"}
    return Counter(
        tuple((each.event, each.code) for each in client.events if each.event in kinds) for client in clients
    )


async def heard_by_all(clients: Sequence[SdkClient], data: str) -> None:
    """Publish, once everybody has subscribed again, and wait until everybody has it."""
    await eventually(lambda: all(is_subscribed(client) for client in clients))
    await clients[0].publish(CHANNEL, data)
    for client in clients:
        await event(client, "publication", data=data)


def is_subscribed(client: SdkClient) -> bool:
    """Whether the last word about the channel is that it is subscribed."""
    words = [each.event for each in client.events if each.event in {"subscribing", "subscribed"}]
    return words[-1:] == ["subscribed"]


async def connections(edge: EdgeProcess) -> int:
    """How many an edge has."""
    return int((await edge.metrics()).value("tidewire_connections"))
