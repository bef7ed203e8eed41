"""What a real edge finds out at its start, and what it says of it."""

from __future__ import annotations

import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.edges import EdgeProcess, edge_config, mapping, token
from tests.support.http import request, upgrade
from tests.support.nats_server import NatsServer
from tests.support.raw_client import RawClient
from tests.support.wait import eventually

UNAVAILABLE = 69
NARROW = """
authorization { users = [ { user: edge, password: p, permissions: { publish: { deny: ["tw.pub._tw.>", "tw.in.*._tw.>"] } } } ] }
"""


@pytest.mark.parametrize(
    "nats", [{"tls": {"ca_file": "missing.pem"}}, {"credentials_file": "missing.creds"}], ids=str
)
async def test_missing_file_is_one_line(nats_server: NatsServer, tmp_path: Path, nats: object) -> None:
    """Also where the server would not have asked for it; no stack, and exit code 69."""
    edge = EdgeProcess(tmp_path, edge_config(nats_server.url, {"nats": nats}))
    try:
        assert await edge.launch().exit_code() == UNAVAILABLE
    finally:
        edge.kill()
    (line,) = edge.lines
    assert line["event"] == "process.refused"
    assert "No such file" in line["problem"]
    assert "exception" not in json.dumps(line)


async def test_refused_probe_is_named(tmp_path: Path) -> None:
    """An edge without the right to probe is not told that NATS is silent."""
    with NatsServer(tmp_path / "nats", config=mapping() + NARROW) as server:
        login = {"nats": {"user": "edge", "password": "p"}}
        edge = EdgeProcess(tmp_path, edge_config(server.url, login))
        try:
            assert await edge.launch().exit_code() == UNAVAILABLE
        finally:
            edge.kill()
        (line,) = edge.logged("process.refused")
        assert "Permissions Violation" in line["problem"]
        assert "_tw.chk" in line["problem"]


OPEN_FILES = 300
CONNECTIONS_WITHIN = 98
"""(300 - 128 in reserve - 64 spare) / 1.1."""


async def test_a_successor_is_waited_for(tmp_path: Path) -> None:
    """Also where it writes on in the log of one that was ready: no test may meet an edge that is not there yet."""
    with NatsServer(tmp_path / "nats", config=mapping()) as server:
        config = edge_config(server.url)
        with EdgeProcess(tmp_path, config) as first:
            first.kill()
        with EdgeProcess(tmp_path, config) as second:
            assert (await second.ready()).status == 200


async def test_too_few_open_files_lower_the_connection_limit(tmp_path: Path) -> None:
    """The answer at the limit is 503, never a socket that cannot be accepted; probes and scrapes go on."""
    with NatsServer(tmp_path / "nats", config=mapping()) as server:
        async with AsyncExitStack() as stack:
            config = edge_config(server.url, {"client": {"stale_close_delay": "60s"}})
            edge = stack.enter_context(EdgeProcess(tmp_path, config, open_files=OPEN_FILES))
            (warning,) = edge.logged("edge.connection_limit_lowered")
            assert (warning["wanted"], warning["connections"]) == (15_000, CONNECTIONS_WITHIN)
            assert warning["open_files"] == OPEN_FILES
            for _ in range(CONNECTIONS_WITHIN):
                client = await RawClient(edge.ws_url).open()
                stack.callback(client.abort)
                await client.connect(token())  # without one an address may not have so many
            assert (await upgrade(edge.websocket_url)).status == 503
            for _ in range(OPEN_FILES):  # who floods it is let go of, and costs nobody else a file
                stack.enter_context(socket.create_connection(("127.0.0.1", edge.port)))

            async def flood_is_met() -> float:
                return (await edge.metrics()).value("tidewire_handshakes_total", outcome="address_sockets")

            await eventually(flood_is_met)  # the kernel opens sockets before the edge has accepted them
            metrics = await edge.metrics()
            assert metrics.value("tidewire_connection_limit") == CONNECTIONS_WITHIN
            assert metrics.value("process_open_fds") < OPEN_FILES
            assert (await edge.ready()).status == 200
            assert edge.logged("library.log") == []


async def test_enough_open_files_leave_the_limit_alone(tmp_path: Path) -> None:
    """No warning then."""
    with NatsServer(tmp_path / "nats", config=mapping()) as server:
        config = edge_config(server.url, {"client": {"connection_limit": CONNECTIONS_WITHIN}})
        with EdgeProcess(tmp_path, config, open_files=OPEN_FILES) as edge:
            assert edge.logged("edge.connection_limit_lowered") == []
            assert (await edge.metrics()).value("tidewire_connection_limit") == CONNECTIONS_WITHIN


async def test_idle_sockets_on_the_internal_port_silence_no_probe(tmp_path: Path) -> None:
    """However many hang around, each path answers."""
    with NatsServer(tmp_path / "nats", config=mapping()) as server:
        async with AsyncExitStack() as stack:
            edge = stack.enter_context(EdgeProcess(tmp_path, edge_config(server.url)))
            for _ in range(300):
                stack.enter_context(socket.create_connection(("127.0.0.1", edge.internal_port)))
            for path in ("/live", "/ready", "/metrics"):
                assert (await request(edge.internal_url + path)).status == 200
