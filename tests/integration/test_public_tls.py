"""TLS on the public port of real edges: handshakes, attacks on them, and certificates that are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.certificates import write_certificate
from tests.support.edges import START_TIMEOUT, EdgeProcess, edge_config, mapping, token
from tests.support.http import request, upgrade
from tests.support.nats_server import NatsServer
from tests.support.raw_client import joined
from tests.support.wait import PATIENCE, SLACK, eventually

GARBAGE = bytes(range(0x20, 0x80)) * 8
TRACES = ("library.log", "process.failed")
"""Events that carry a stack of ours or of a library."""


class Papers(msgspec.Struct, frozen=True):
    """The files of an edge's certificate."""

    cert: Path
    key: Path

    def renew(self, days: float = 30) -> None:
        """Write a new certificate with a new key."""
        write_certificate(self.cert, [datetime.now(UTC) + timedelta(days=days)], self.key)

    @property
    def settings(self) -> dict[str, Any]:
        """What the edge is told of them."""
        return {"cert_file": str(self.cert), "key_file": str(self.key)}

    def client(self, **versions: ssl.TLSVersion) -> ssl.SSLContext:
        """A client that trusts the certificate as it is now."""
        context = ssl.create_default_context(cafile=str(self.cert))
        for name, version in versions.items():
            setattr(context, name, version)
        return context


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    """A good certificate."""
    found = Papers(tmp_path / "edge.crt", tmp_path / "edge.key")
    found.renew()
    return found


@contextlib.contextmanager
def running(
    folder: Path, tls: Mapping[str, Any], *, workers: int = 0, **changes: Any
) -> Iterator[EdgeProcess]:
    """An edge with TLS, which must end without having written a stack."""
    with NatsServer(folder / "nats", config=mapping()) as server:
        config = edge_config(server.url, {"http": {"tls": dict(tls)}, **changes})
        with EdgeProcess(folder, config, workers=workers) as edge:
            yield edge
            assert [line for line in edge.lines if line["event"] in TRACES or "exception" in line] == []


async def handshakes(edge: EdgeProcess, outcome: str) -> float:
    """How many TLS handshakes ended so."""
    return (await edge.metrics()).value("tidewire_tls_handshakes_total", outcome=outcome)


async def counted(edge: EdgeProcess, outcome: str, number: float = 1) -> None:
    """Wait until so many have, of one outcome or another, and no socket is left."""

    async def found() -> bool:
        metrics = await edge.metrics()
        outcomes = outcome.split(" or ")
        count = sum(metrics.value("tidewire_tls_handshakes_total", outcome=each) for each in outcomes)
        return count == number and metrics.value("tidewire_sockets") == 0

    await eventually(found, message=f"{number} x {outcome}:\n{edge.log}")


async def test_clients_are_served_over_both_versions(tmp_path: Path, papers: Papers) -> None:
    """WebSocket and plain HTTP; the connection's line tells the version."""
    with running(tmp_path, papers.settings) as edge:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            tls = papers.client(maximum_version=version)
            heard: list[bytes] = []
            client = await joined(edge.ws_url, token(), "live:x", on_push=heard.append, tls=tls)
            text = "long" * 15_000
            assert "publish" in await client.command(publish={"channel": "live:x", "data": text})
            await eventually(lambda heard=heard, text=text: any(text.encode() in push for push in heard))
            await client.close()
        await eventually(lambda: len(edge.logged("connection.closed")) == 2)
        assert [line["tls"] for line in edge.logged("connection.closed")] == ["TLSv1.2", "TLSv1.3"]
        page = await request(f"{edge.base_url}/", tls=papers.client())
        assert (page.status, b"WebSocket clients connect" in page.body) == (404, True)
        assert (
            await upgrade(edge.websocket_url, headers={"Origin": "https://evil"}, tls=papers.client())
        ).status == 403
        await counted(edge, "ok", 4)
        (line,) = edge.logged("tls.certificate")
        assert line["names"] == ["127.0.0.1"]


async def raw(edge: EdgeProcess, data: bytes) -> bytes:
    """Send bytes without TLS and return everything until the edge closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                return await reader.read()
            return b""
    finally:
        writer.close()


async def test_what_is_no_tls_is_closed_counted_and_told_once(tmp_path: Path, papers: Papers) -> None:
    """Each kind has its outcome; a flood writes one line of each."""
    client_hello = bytes.fromhex("16030100040100")  # a handshake record that is cut off, and then nonsense
    with running(tmp_path, papers.settings) as edge:
        for _ in range(3):
            answer = await raw(edge, b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"speaks TLS" in answer
            assert not (await raw(edge, GARBAGE)).startswith(b"HTTP")
            await raw(edge, client_hello + GARBAGE)
        await counted(edge, "http", 3)
        await counted(edge, "malformed", 6)
        assert sorted(line["outcome"] for line in edge.logged("tls.failed")) == ["http", "malformed"]


async def test_old_versions_and_ciphers_are_refused(tmp_path: Path, papers: Papers) -> None:
    """TLS 1.1, and a cipher without authenticated encryption."""
    with running(tmp_path, papers.settings) as edge:
        old = papers.client()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        weak = papers.client(maximum_version=ssl.TLSVersion.TLSv1_2)
        weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256")  # CBC, which Python's own defaults would take
        for context, outcome in ((old, "version"), (weak, "cipher")):
            with pytest.raises(ssl.SSLError):
                await request(edge.base_url, tls=context)
            await counted(edge, outcome)


async def test_version_can_be_raised_by_a_reload(tmp_path: Path, papers: Papers) -> None:
    """Then TLS 1.2 is refused, while a client that speaks it already stays."""
    with running(tmp_path, papers.settings) as edge:
        client = await joined(edge.ws_url, token(), tls=papers.client(maximum_version=ssl.TLSVersion.TLSv1_2))
        edge.configure({"http": {"tls": {"min_version": "1.3"}}})
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reloaded"))
        with pytest.raises(ssl.SSLError):
            await request(edge.base_url, tls=papers.client(maximum_version=ssl.TLSVersion.TLSv1_2))
        assert (await request(edge.base_url, tls=papers.client())).status == 404
        assert "subscribe" in await client.command(subscribe={"channel": "live:x"})
        await client.close()


async def test_slow_and_silent_handshakes_have_a_deadline(tmp_path: Path, papers: Papers) -> None:
    """From accept on: one byte a moment does not move it. A client that goes in the middle is counted as such."""
    with running(tmp_path, papers.settings, client={"handshake_timeout": "2s"}) as edge:
        hello = _hello(papers)
        silent = await asyncio.open_connection("127.0.0.1", edge.port)
        slow = await asyncio.open_connection("127.0.0.1", edge.port)
        begun = asyncio.get_running_loop().time()

        async def drip() -> None:
            for byte in hello:
                slow[1].write(bytes([byte]))
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(silent[0].read(), PATIENCE) == b""
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(slow[0].read(), PATIENCE) == b""
        assert asyncio.get_running_loop().time() - begun < 2 + SLACK
        dripping.cancel()
        silent[1].close()
        slow[1].close()
        await counted(edge, "timeout", 1)
        gone = await asyncio.open_connection("127.0.0.1", edge.port)
        gone[1].write(hello[:20])
        await gone[1].drain()
        gone[1].close()
        await counted(edge, "closed or gone")
        metrics = await edge.metrics()
        assert metrics.value("tidewire_handshakes_total", outcome="timeout") == 2


def _hello(papers: Papers) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = papers.client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def test_renegotiation_is_refused(tmp_path: Path, papers: Papers) -> None:
    """A client of TLS 1.2 that asks for a new handshake gets none, and its connection goes on or ends, as it likes."""
    with running(tmp_path, papers.settings) as edge:
        process = await asyncio.create_subprocess_exec(
            *(
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{edge.port}",
                "-tls1_2",
                "-CAfile",
                str(papers.cert),
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            await process.stdout.readuntil(b"Verify return code: 0 (ok)")
            process.stdin.write(b"R\n")
            said = await process.stdout.read()
            await process.wait()
        assert b"RENEGOTIATING" in said
        assert b"no renegotiation" in said.lower()
        await eventually(_no_sockets(edge))


def _no_sockets(edge: EdgeProcess) -> Any:
    async def found() -> bool:
        return (await edge.metrics()).value("tidewire_sockets") == 0

    return found


async def test_goodbye_of_the_edge_arrives_in_the_middle_of_a_message(tmp_path: Path, papers: Papers) -> None:
    """The close frame is not lost to a reset, though the client goes on sending: the edge closes one direction."""
    with running(tmp_path, papers.settings) as edge:
        client = await joined(edge.ws_url, token(), tls=papers.client())
        for _ in range(32):
            client.frame(b"x" * 200_000)  # the head of the first one is enough for 1009
        await asyncio.wait_for(client.told_to_go.wait(), PATIENCE)
        assert client.close_code == 1009
        client.abort()
        await eventually(_no_sockets(edge))


async def test_what_a_client_sent_before_it_went_counts(tmp_path: Path, papers: Papers) -> None:
    """Much at once, and its end behind it: each of its publications is heard."""
    with running(tmp_path, papers.settings) as edge:
        heard: list[bytes] = []
        await joined(edge.ws_url, token(), "live:x", on_push=heard.append, tls=papers.client())
        writer = await joined(edge.ws_url, token("bob"), tls=papers.client())
        for number in range(100):
            writer.begin(publish={"channel": "live:x", "data": [number, "x" * 400]})
        tcp = writer._tcp
        assert tcp is not None
        await eventually(lambda: tcp.get_write_buffer_size() == 0)
        tcp.get_extra_info("socket").shutdown(
            socket.SHUT_WR
        )  # it reads on: a reset would take from what it sent
        await eventually(lambda: len(heard) == 100)


async def test_client_that_does_not_read_is_closed(tmp_path: Path, papers: Papers) -> None:
    """With 3008 at the bound of what waits, as without TLS; its socket goes, though it never says goodbye."""
    with running(
        tmp_path, papers.settings, client={"queue_max_size": 65_536}, websocket={"close_timeout": "500ms"}
    ) as edge:
        reader = await joined(edge.ws_url, token(), "live:x", tls=papers.client())
        assert reader._tcp is not None
        reader._tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader._tcp.pause_reading()
        writer = await joined(edge.ws_url, token("bob"), tls=papers.client())

        async def slow() -> bool:
            await writer.command(publish={"channel": "live:x", "data": "y" * 60_000})
            return (await edge.metrics()).value("tidewire_slow_consumers_total") == 1

        await eventually(slow)
        await writer.close()
        await eventually(_no_sockets(edge))
        (line,) = [line for line in edge.logged("connection.closed") if line["user"] == "alice"]
        assert line["code"] == 3008
        reader.abort()


async def served(edge: EdgeProcess) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return bytes(shown)


@pytest.mark.parametrize("workers", [0, 2])
async def test_certificate_is_replaced_without_losing_a_connection(
    tmp_path: Path, papers: Papers, workers: int
) -> None:
    """SIGHUP reads the files again, though no setting has changed. One that is bad is refused by name, the old one stays."""
    with running(tmp_path, papers.settings, workers=workers) as edge:
        client = await joined(edge.ws_url, token(), "live:x", tls=papers.client())
        before = await served(edge)
        ends = (await edge.metrics()).value("tidewire_tls_certificate_expiry_timestamp_seconds")
        reloads = max(workers, 1)
        papers.renew(days=60)
        edge.hang_up()
        await eventually(lambda: len(edge.logged("config.reloaded")) == reloads)
        assert edge.logged("config.reloaded")[0]["changes"] == ["http.tls: the certificate"]
        assert await served(edge) != before
        later = (await edge.metrics()).value("tidewire_tls_certificate_expiry_timestamp_seconds")
        assert later - ends == pytest.approx(30 * 86_400, abs=120)
        fresh = await joined(edge.ws_url, token("bob"), tls=papers.client())
        good = await served(edge)
        papers.renew(days=-1)
        edge.hang_up()
        await eventually(lambda: len(edge.logged("config.reload_refused")) == reloads)
        (problem,) = edge.logged("config.reload_refused")[0]["problems"]
        assert problem.startswith(f"http.tls.cert_file: {papers.cert} expired on ")
        assert await served(edge) == good
        for each in (client, fresh):
            assert "subscribe" in await each.command(subscribe={"channel": "live:y"})
            await each.close()


async def test_tls_cannot_be_switched_off_by_a_reload(tmp_path: Path, papers: Papers) -> None:
    """The listener and the addresses that clients know belong to it."""
    with running(tmp_path, papers.settings) as edge:
        edge.configure({"http": {"tls": {"cert_file": "", "key_file": ""}}})
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reload_refused"))
        assert edge.logged("config.reload_refused")[0]["problems"] == [
            "http.tls.cert_file: to begin or end TLS needs a restart"
        ]
        assert (await request(edge.base_url, tls=papers.client())).status == 404


async def test_edge_with_a_bad_certificate_does_not_start(tmp_path: Path, papers: Papers) -> None:
    """One line says which file, and why."""
    papers.renew(days=-1)
    config = edge_config("nats://127.0.0.1:1", {"http": {"tls": papers.settings}})
    edge = EdgeProcess(tmp_path, config).launch()
    assert await edge.exit_code(START_TIMEOUT) == 69
    (line,) = edge.logged("process.refused")
    assert line["problem"].startswith(f"http.tls.cert_file: {papers.cert} expired on ")


async def test_clients_can_be_asked_for_a_certificate(tmp_path: Path, papers: Papers) -> None:
    """Of an authority that is configured: others do not get through the handshake."""
    mine = Papers(tmp_path / "client.crt", tmp_path / "client.key")
    mine.renew()
    with running(tmp_path, {**papers.settings, "client_ca_file": str(mine.cert)}) as edge:
        known = papers.client()
        known.load_cert_chain(mine.cert, mine.key)
        assert (await request(edge.base_url, tls=known)).status == 404
        with pytest.raises(OSError):
            await request(edge.base_url, tls=papers.client())
        stranger = papers.client()
        stranger.load_cert_chain(papers.cert, papers.key)
        with pytest.raises(OSError):
            await request(edge.base_url, tls=stranger)
        await counted(edge, "client_certificate", 2)


async def test_client_that_does_not_trust_the_edge(tmp_path: Path, papers: Papers) -> None:
    """It says so by an alert, which is what a wrong chain looks like to an operator."""
    with running(tmp_path, papers.settings) as edge:

        def shake() -> None:
            with socket.create_connection(("127.0.0.1", edge.port)) as plain:
                ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")

        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(shake)
        await counted(edge, "rejected")


async def test_drain_tells_clients_to_go(tmp_path: Path, papers: Papers) -> None:
    """As without TLS, and ends in order."""
    with running(tmp_path, papers.settings, drain={"delay": 0, "window": 0}) as edge:
        client = await joined(edge.ws_url, token(), tls=papers.client())
        edge.terminate()
        await asyncio.wait_for(client.told_to_go.wait(), PATIENCE)
        assert client.close_code == 3001
        assert await edge.exit_code() == 0


async def test_reset_in_the_middle_leaves_nothing(tmp_path: Path, papers: Papers) -> None:
    """Of a handshake and of a connection: no socket, no line of the loop's own."""
    with running(tmp_path, papers.settings) as edge:
        client = await joined(edge.ws_url, token(), tls=papers.client())
        assert client._tcp is not None
        sock = client._tcp.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.abort()
        begun = socket.create_connection(("127.0.0.1", edge.port))
        begun.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        begun.sendall(_hello(papers)[:100])
        begun.close()
        await counted(edge, "closed or gone")
