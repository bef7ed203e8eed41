"""The official SDKs over wss: JavaScript, Python and Go, JSON and Protobuf."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.certificates import write_certificate
from tests.support.edges import running_mesh, token
from tests.support.node import running_node
from tests.support.sdk import FORMATS, SdkClient, connected, event, subscribed
from tests.support.sdk_matrix import DRIVERS
from tests.support.sdk_python import PythonClient
from tests.support.wait import eventually


async def play(client: SdkClient, channel: str) -> None:
    """Subscribe, publish and hear it, small and large."""
    await connected(client)
    await subscribed(client, channel)
    await client.publish(channel, {"text": "hello"})
    await event(client, "publication", channel=channel)
    await client.publish(channel, {"text": "long" * 14_000})
    large = await event(client, "publication", channel=channel, count=2)
    assert len(large.data["text"]) == 56_000
    await client.close()


async def test_sdks_connect_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an application has it: a wss URL, and the authority among those that the machine trusts."""
    cert, key = tmp_path / "edge.crt", tmp_path / "edge.key"
    write_certificate(cert, [datetime.now(UTC) + timedelta(days=1)], key)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(cert))
    tls = {"http": {"tls": {"cert_file": str(cert), "key_file": str(key)}}}
    with running_mesh(tmp_path / "mesh", tls, edges=1) as mesh:
        url = mesh.edges[0].ws_url
        assert url.startswith("wss://")
        async with running_node() as node, DRIVERS["go-0.12"]() as go:
            for wire in FORMATS:
                user = token(f"{wire} user")
                await play(await node.create(url, wire=wire, token=user), f"live:js-{wire}")
                await play(await go.create(url, wire=wire, token=user), f"live:go-{wire}")
                await play(PythonClient(url, wire=wire, token=user), f"live:py-{wire}")
        await eventually(lambda: len(mesh.edges[0].logged("connection.closed")) == 6)
        lines = mesh.edges[0].logged("connection.closed")
        assert {line["tls"] for line in lines} == {"TLSv1.3"}
        assert {line["sdk"] for line in lines} >= {"js", "python", "go"}
