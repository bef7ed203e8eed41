from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.links import FAST, NotingListener, Received, options, settled, started
from tests.support.nats_server import NatsServer
from tests.support.wait import eventually
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkError

TLS = Path(__file__).parents[1] / "support" / "tls"
CA = str(TLS / "ca.pem")


def config(more: str = "", outside: str = "") -> str:
    """nats-server configuration with TLS."""
    files = f'cert_file: "{TLS / "server.pem"}", key_file: "{TLS / "server-key.pem"}"'
    return f'tls {{ {files}, ca_file: "{CA}", {more} }}\n{outside}'


async def test_messages_of_any_size_pass_through_tls_and_reconnects(tmp_path: Path) -> None:
    """With the CA from the configuration, for both kinds of URL."""
    with NatsServer(tmp_path / "nats", config=config()) as server:
        for url in (f"tls://{server.address}", server.url):
            async with started(url, tls_ca_file=CA) as (link, listener):
                received = Received()
                link.subscribe(b"a", received)
                link.publish(b"a", b"x" * 1_000_000)
                await eventually(lambda received=received: len(received.messages) == 1)
                server.restart()
                await eventually(lambda listener=listener: listener.heard("back") == 1)
                link.publish(b"a", b"y" * 1_000_000)
                await eventually(lambda received=received: len(received.messages) == 2)
                assert link.nc.wire.get_extra_info("ssl_object") is not None


async def test_a_certificate_of_an_unknown_ca_is_refused_at_once(tmp_path: Path) -> None:
    """Without the CA file the machine's own CAs count, and they do not know this server."""
    with NatsServer(tmp_path / "nats", config=config()) as server:
        link = NatsLink(options(f"tls://{server.address}"), NotingListener())
        with pytest.raises(
            LinkError, match=r"TLS with NATS at tls://.* failed .*CERTIFICATE_VERIFY_FAILED"
        ) as caught:
            await link.start()
        assert caught.value.final
        await link.close()


async def test_a_client_certificate_is_shown_where_one_is_asked_for(tmp_path: Path) -> None:
    """And without it there is no connection."""
    with NatsServer(tmp_path / "nats", config=config("verify: true")) as server:
        pair = {"tls_cert_file": str(TLS / "client.pem"), "tls_key_file": str(TLS / "client-key.pem")}
        async with started(server.url, tls_ca_file=CA, **pair) as (link, _):
            assert await settled(link)
        link = NatsLink(options(server.url, tls_ca_file=CA, connect_timeout=0.3), NotingListener())
        with pytest.raises(LinkError):
            await link.start()
        await link.close()


async def test_tls_is_used_where_the_server_leaves_it_open(tmp_path: Path) -> None:
    """A server that takes both gets TLS from a client that was told to use it."""
    with NatsServer(tmp_path / "nats", config=config(outside="allow_non_tls: true")) as server:
        async with started(f"tls://{server.address}", tls_ca_file=CA) as (link, _):
            assert await settled(link)
            assert link.nc.wire.get_extra_info("ssl_object") is not None
        async with started(server.url) as (link, _):
            assert await settled(link)
            assert link.nc.wire.get_extra_info("ssl_object") is None


async def test_a_hanging_server_is_left_under_tls_too(tmp_path: Path) -> None:
    """Bytes that wait inside the TLS layer hold nothing up."""
    with NatsServer(tmp_path / "nats", config=config()) as server:
        async with started(server.url, tls_ca_file=CA, max_pending=20_000_000, **FAST) as (link, listener):
            server.pause()
            for _ in range(20):
                link.publish(b"a", b"x" * 1_000_000)
            await eventually(lambda: listener.heard("away") == 1)
            server.restart()
            await eventually(lambda: listener.heard("back") == 1)
            assert await settled(link)
