"""Mutual TLS over real sockets: who gets through, who does not, and certificates that change under load."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support.certificates import Authority
from tests.support.rpc import Client, Load, Rpc, Server, path
from tests.support.wait import eventually
from tidewire.kernel import call_errors
from tidewire.kernel.call_errors import CallError
from tidewire.platform.lifecycle import StartError

SAY = path("Say")
SERVER_NAME = "history.tidewire.test"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs the certificates of both sides."""
    return Authority(tmp_path / "ours")


@pytest.fixture
def foreign(tmp_path: Path) -> Authority:
    """Another one, that nobody trusts."""
    return Authority(tmp_path / "foreign")


def server_tls(authority: Authority, **more: Any) -> dict[str, Any]:
    """A server's settings, with a new certificate."""
    cert_file, key_file = authority.issue("server", SERVER_NAME)
    ours = {"cert_file": cert_file, "key_file": key_file, "client_ca_file": str(authority.file)}
    return {"tls": {**ours, **more}}


def client_tls(authority: Authority, signer: Authority | None = None, **more: Any) -> dict[str, Any]:
    """A client's settings, with a new certificate of `signer` (by default the same authority)."""
    cert_file, key_file = (signer or authority).issue("client", "edge.tidewire.test")
    ours = {
        "ca_file": str(authority.file),
        "cert_file": cert_file,
        "key_file": key_file,
        "server_name": SERVER_NAME,
    }
    return {"tls": {**ours, **more}}


async def refused(client: Client) -> CallError:
    """What a call ends with."""
    with pytest.raises(CallError) as caught:
        await client.say(b"x", timeout=10)
    return caught.value


async def test_both_sides_are_known(rpc: Rpc, authority: Authority) -> None:
    """A call gets through, and both say when their certificate ends."""
    server = await rpc.server(**server_tls(authority))
    client = await rpc.client(server.target, **client_tls(authority))
    assert await client.say(b"x") == b"x"
    assert server.metrics.certificate_ends == client.rpc.certificate_ends is not None


async def test_a_client_without_a_certificate(rpc: Rpc, authority: Authority) -> None:
    """Is refused in the handshake: no call of his reaches the server."""
    server = await rpc.server(**server_tls(authority))
    client = await rpc.client(server.target, attempts=1, **client_tls(authority, cert_file="", key_file=""))
    assert (await refused(client)).reason is call_errors.UNAVAILABLE
    assert server.handled == {}


async def test_a_client_with_a_certificate_of_others(
    rpc: Rpc, authority: Authority, foreign: Authority
) -> None:
    """The same."""
    server = await rpc.server(**server_tls(authority))
    client = await rpc.client(server.target, attempts=1, **client_tls(authority, foreign))
    assert (await refused(client)).reason is call_errors.UNAVAILABLE
    assert server.handled == {}


async def test_a_client_that_is_not_listed(rpc: Rpc, authority: Authority) -> None:
    """A certificate of the right authority is not enough where names are given."""
    for names, allowed in (
        (["other.test"], False),
        (["tidewire.test"], False),
        (["other.test", "edge.tidewire.test"], True),
    ):
        server = await rpc.server(**server_tls(authority, client_names=names))
        client = await rpc.client(server.target, **client_tls(authority))
        if allowed:
            assert await client.say(b"x") == b"x"
            continue
        assert (await refused(client)).reason is call_errors.UNKNOWN_CLIENT
        assert server.handled == {(SAY, "PERMISSION_DENIED"): 1}
        assert not server.echo.requests


async def test_a_server_of_another_name(rpc: Rpc, authority: Authority) -> None:
    """Gets no call, though the authority has signed its certificate."""
    server = await rpc.server(**server_tls(authority))
    for settings in (
        client_tls(authority, server_name="presence.tidewire.test"),
        client_tls(authority, server_name=""),
    ):
        client = await rpc.client(f"dns:///localhost:{server.rpc.port}", attempts=1, **settings)
        assert (await refused(client)).reason is call_errors.UNAVAILABLE
    assert server.handled == {}


async def test_a_server_of_others(rpc: Rpc, authority: Authority, foreign: Authority) -> None:
    """Gets no call, though it has the right name."""
    server = await rpc.server(**server_tls(foreign))
    client = await rpc.client(server.target, attempts=1, **client_tls(authority, foreign))
    assert (await refused(client)).reason is call_errors.UNAVAILABLE
    assert server.handled == {}


async def test_plaintext_at_the_port_of_tls(rpc: Rpc, authority: Authority) -> None:
    """Neither gRPC nor anything else is answered."""
    server = await rpc.server(**server_tls(authority))
    client = await rpc.client(server.target, attempts=1)
    assert (await refused(client)).reason is call_errors.UNAVAILABLE
    reader, writer = await asyncio.open_connection("127.0.0.1", server.rpc.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    assert server.handled == {}


async def test_strangers_write_no_logs(rpc: Rpc, authority: Authority) -> None:
    """GRPC's library would write a line to standard error for each of them."""
    process = await rpc.process("a", **server_tls(authority))
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
    client = await rpc.client(f"ipv4:127.0.0.1:{process.port}", **client_tls(authority))
    assert await client.say(b"x") == b"ax"
    assert await process.end() == b""


async def test_tls_at_a_plaintext_port(rpc: Rpc, authority: Authority) -> None:
    """A client with TLS never falls back."""
    server = await rpc.server()
    client = await rpc.client(server.target, attempts=1, **client_tls(authority))
    assert (await refused(client)).reason is call_errors.UNAVAILABLE
    assert server.handled == {}


def presented(port: int, settings: dict[str, Any]) -> int:
    """The serial number of the certificate that a server shows now. Blocks."""
    context = ssl.create_default_context(cafile=settings["tls"]["ca_file"])
    context.load_cert_chain(settings["tls"]["cert_file"], settings["tls"]["key_file"])
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


async def test_certificates_change_under_load(rpc: Rpc, authority: Authority) -> None:
    """On both sides, many times, and no call fails by it."""
    server = await rpc.server(**server_tls(authority))
    settings = client_tls(authority)
    client = await rpc.client(server.target, attempts=1, **{**settings, "close_timeout": "10s"})
    peers: set[bytes] = set()

    async def note_peer() -> None:
        peers.add(await client.peer(b""))

    load = Load(note_peer)
    await eventually(lambda: load.done > 10)
    serials = {await asyncio.to_thread(presented, server.rpc.port, settings)}
    for number in range(2, 6):
        server_tls(authority)
        await server.rpc.reload()
        client_tls(authority)
        await client.rpc.reload()
        await eventually(lambda number=number: len(peers) >= number)
        serials.add(await asyncio.to_thread(presented, server.rpc.port, settings))
    await load.end()
    assert load.failures == []
    assert len(serials) == 5
    assert not client.log.lines
    assert not server.log.lines
    await eventually(lambda: not client.rpc._closing)


async def test_an_authority_changes_by_reload(rpc: Rpc, authority: Authority, foreign: Authority) -> None:
    """New handshakes are judged by the new one."""
    server = await rpc.server(**server_tls(authority))
    client = await rpc.client(server.target, attempts=1, **client_tls(authority))
    assert await client.say(b"x") == b"x"
    authority.file.write_bytes(foreign.file.read_bytes())
    await server.rpc.reload()
    late = await rpc.client(server.target, attempts=1, **client_tls(authority))
    assert (await refused(late)).reason is call_errors.UNAVAILABLE
    assert await client.say(b"x") == b"x"  # a connection that is open stays


@pytest.mark.parametrize("side", ["server", "client"])
async def test_a_reload_of_what_cannot_be_used_changes_nothing(
    rpc: Rpc, authority: Authority, side: str
) -> None:
    """It is logged, and the old certificate stays."""
    settings = server_tls(authority)
    server = await rpc.server(**settings)
    client = await rpc.client(server.target, **client_tls(authority))
    changed: Server | Client = server if side == "server" else client
    key_file = Path(settings["tls"]["key_file"]).with_name(f"{side}-key.pem")
    key_file.write_text("no key")
    await changed.rpc.reload()
    problem = f"key_file {key_file} holds no private key in PEM"
    names = {"side": "server"} if side == "server" else {"side": server.target}
    assert changed.log.lines == [("error", "rpc.certificate_refused", {**names, "problem": problem})]
    assert await client.say(b"x") == b"x"
    late = await rpc.client(server.target, **client_tls(authority))
    assert await late.say(b"x") == b"x"


async def test_a_start_with_what_cannot_be_used(rpc: Rpc, authority: Authority) -> None:
    """Is one line, on either side."""
    settings = server_tls(authority, client_ca_file="/nowhere")
    with pytest.raises(StartError) as caught:
        await rpc.server(**settings)
    assert str(caught.value) == "rpc.tls.client_ca_file /nowhere is not there, or no regular file"
    with pytest.raises(StartError) as caught:
        await rpc.client("dns:///x:1", **client_tls(authority, ca_file="/nowhere"))
    assert str(caught.value) == "dns:///x:1: tls.ca_file /nowhere is not there, or no regular file"
