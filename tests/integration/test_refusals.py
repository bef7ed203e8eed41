"""What NATS refuses an edge (its user lacks a right) is no success for a client: an error, and a count for the operator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.edges import EdgeProcess, edge_config, mapping, token
from tests.support.nats_server import NatsServer
from tests.support.raw_client import Clients

DENIED = 'deny: "tw.in.*.live.>"'


def rights(publish: str = "", subscribe: str = "") -> str:
    """A nats-server whose user `edge` may do everything but what is denied."""
    return f"""{mapping()}
authorization {{ users = [ {{ user: edge, password: p, permissions: {{
  publish: {{ allow: ">", {publish} }}, subscribe: {{ allow: ">", {subscribe} }} }} }} ] }}
"""


@pytest.fixture(params=["publish", "subscribe"])
def side(request: pytest.FixtureRequest) -> str:
    """What is denied."""
    return str(request.param)


@pytest.fixture
def edge(tmp_path: Path, side: str) -> Iterator[EdgeProcess]:
    """An edge that lacks one right in the namespace `live`."""
    with NatsServer(tmp_path / "nats", config=rights(**{side: DENIED})) as server:
        config = edge_config(server.url, {"nats": {"user": "edge", "password": "p"}})
        with EdgeProcess(tmp_path, config) as process:
            yield process


async def test_what_nats_refuses_is_not_acknowledged(edge: EdgeProcess, side: str, clients: Clients) -> None:
    """Error 100, which is temporary; other channels are not touched.

    Guards the refusal that a PONG carries (`_Pong.refuse`): without it both sides are told yes.
    """
    client = await clients.open(edge.ws_url)
    await client.connect(token())
    command = {side: {"channel": "live:x", **({"data": 1} if side == "publish" else {})}}
    for _ in range(2):
        reply = await client.command(**command)
        assert reply["error"]["code"] == 100, reply
        assert reply["error"]["temporary"]
    command[side]["channel"] = "other"
    assert side in await client.command(**command)
    metrics = await edge.metrics()
    assert metrics.value("tidewire_nats_errors_total", kind="permissions") == 2
    assert metrics.value("tidewire_nats_disconnects_total") == 0
    (warning,) = edge.logged("nats.error")
    assert "live.x" in warning["error"]
