"""Edges and their history services: shares of the partitions, certificates that change, a drain during a read, a lagging node."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from tests.support.certificates import Authority
from tests.support.durable import Durable, durable_mesh
from tests.support.edges import PARTITIONS, EdgeProcess, token
from tests.support.history import HistoryProcess, publish
from tests.support.nats_client import connected as nats_connected
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient, joined
from tests.support.wait import eventually
from tidewire.kernel.subjects import in_subject

SERVER_NAME = "history.tidewire.test"
HALF = PARTITIONS // 2
DAY = 86_400
"""Seconds that the certificates are good."""
READS = 200
"""More than a client's budget of retries."""


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Durable]:
    """A nats-server with streams, and a history process."""
    with durable_mesh(tmp_path) as running:
        yield running


def partition(channel: str) -> int:
    """Where a channel is stored."""
    return int(in_subject(channel, PARTITIONS).split(b".")[2])


def channels(low: bool) -> list[str]:
    """Some of the lower or the upper half of the partitions."""
    return [name for number in range(40) if (partition(name := f"log:{number}") < HALF) is low][:10]


async def history(client: RawClient, channel: str, limit: int = -1) -> list[int] | int:
    """The offsets that a history command shows, or the code of its error."""
    reply = await client.command(history={"channel": channel, "limit": limit})
    if "error" in reply:
        assert reply["error"]["temporary"]
        return int(reply["error"]["code"])
    return [each["offset"] for each in reply["history"]["publications"]]


async def put(backend: Client, channel: str) -> int:
    """Publish, and return the offset."""
    return await publish(backend, channel, b"1", PARTITIONS)


@protocol("command.history")
async def test_services_with_a_share_of_the_partitions_each(mesh: Durable) -> None:
    """An edge finds who serves a channel, however many it reads; one that dies takes no channel along that another serves.

    Where nobody is left, that is a temporary error, and no empty history.
    """
    mesh.history.kill()
    lower, upper = list(range(HALF)), list(range(HALF, PARTITIONS))
    one, other, both = (
        mesh.another_history(name, {"partitions": share})
        for name, share in (("one", lower), ("other", upper), ("both", lower))
    )
    target = "ipv4:" + ",".join(f"127.0.0.1:{each.port}" for each in (one, other, both))
    unlimited = {"client": {"command_rate_limit": 0}}  # reads of history are dear
    edge = mesh.edge("edge", {"history": {"target": target}, **unlimited})
    client = await joined(edge.ws_url, token())
    async with nats_connected(mesh.nats.url) as backend:
        sent = {name: [await put(backend, name)] for low in (True, False) for name in channels(low)}
    for number in range(READS):
        name = list(sent)[number % len(sent)]
        assert await history(client, name) == sent[name], number
    one.kill()
    for number in range(READS):
        name = list(sent)[number % len(sent)]
        assert await history(client, name) == sent[name], number
    both.kill()
    for name in channels(True):
        assert await history(client, name) == 100
    for name in channels(False):
        assert await history(client, name) == sent[name]
    await client.close()


@pytest.mark.parametrize("ending", ["read", "recovery"])
async def test_an_edge_that_drains_during_a_read_answers_first(mesh: Durable, ending: str) -> None:
    """With what there is to say within the read's time, and is gone in time."""
    edge = mesh.edge("edge", {"history": {"timeout": "3900ms"}})  # time enough to see that it reads
    client = await joined(edge.ws_url, token())
    assert await history(client, "log:a") == []
    mesh.history.send_signal(signal.SIGSTOP)
    try:
        number = client.begin(
            **(
                {"history": {"channel": "log:a", "limit": 1}}
                if ending == "read"
                else {"subscribe": {"channel": "log:a", "recover": True}}
            )
        )
        await eventually(lambda: _reads(edge))
        edge.terminate()
        reply = await client.reply(number)
        assert reply["error"]["code"] == 100
        assert reply["error"]["temporary"]
        assert await edge.exit_code() == 0
        await eventually(lambda: client.close_code == 3001)
    finally:
        mesh.history.send_signal(signal.SIGCONT)


async def _reads(edge: EdgeProcess) -> bool:
    return (await edge.metrics()).value("tidewire_edge_history_reads", state="running") > 0


def server_tls(authority: Authority, signer: Authority) -> dict[str, Any]:
    """A service's settings: its certificate, and who signs its clients'."""
    cert_file, key_file = signer.issue("server", SERVER_NAME)
    return {"cert_file": cert_file, "key_file": key_file, "client_ca_file": str(authority.file)}


def client_tls(authority: Authority, signer: Authority) -> dict[str, Any]:
    """An edge's: its certificate, and who signs the service's."""
    cert_file, key_file = signer.issue("client", "edge.tidewire.test")
    files = {"cert_file": cert_file, "key_file": key_file, "ca_file": str(authority.file)}
    return {**files, "server_name": SERVER_NAME}


async def test_certificates_of_both_sides_change_while_clients_read(mesh: Durable, tmp_path: Path) -> None:
    """New ones of the same authority in the same files, and SIGHUP: reads go on. One of strangers is refused, and kept out."""
    ours, foreign = Authority(tmp_path / "ours"), Authority(tmp_path / "foreign")
    rpc = {"max_connection_age": "1s", "max_connection_age_grace": "1s", "tls": server_tls(ours, ours)}
    service = mesh.another_history("tls", {"rpc": rpc})
    target = f"ipv4:127.0.0.1:{service.port}"
    edge = mesh.edge(
        "edge", {"history": {"target": target, "close_timeout": 0, "tls": client_tls(ours, ours)}}
    )
    client = await joined(edge.ws_url, token())
    async with nats_connected(mesh.nats.url) as backend:
        sent = [await put(backend, "log:a")]
        assert await history(client, "log:a") == sent
        before = await _ends(service, edge)
        await eventually(lambda: time.time() + DAY > max(before) + 1)  # certificates count in seconds
        server_tls(ours, ours)
        client_tls(ours, ours)
        service.send_signal(signal.SIGHUP)
        edge.hang_up()

        async def renewed() -> bool:
            assert await history(client, "log:a") == sent
            return all(new > old for new, old in zip(await _ends(service, edge), before, strict=True))

        await eventually(renewed)
        sent.append(await put(backend, "log:a"))
        assert await history(client, "log:a") == sent
        stranger = mesh.edge("stranger", {"history": {"target": target, "tls": client_tls(ours, foreign)}})
        kept_out = await joined(stranger.ws_url, token())
        assert await history(kept_out, "log:a") == 100
        assert await history(client, "log:a") == sent
    await client.close()
    await kept_out.close()


async def _ends(service: HistoryProcess, edge: EdgeProcess) -> tuple[float, float]:
    """When the certificates in force end."""
    served = (await service.metrics()).value("tidewire_rpc_server_certificate_expiry_timestamp_seconds")
    used = (await edge.metrics()).value("tidewire_rpc_client_certificate_expiry_timestamp_seconds")
    return served, used
