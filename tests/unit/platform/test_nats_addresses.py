from __future__ import annotations

import pytest

from tidewire.platform.nats_addresses import MAX_DISCOVERED, Server, ServerList, parse_server
from tidewire.platform.nats_types import LinkError


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("nats://host:5222", "host:5222", "nats://host:5222"),
        ("nats://host", "host:4222", "nats://host:4222"),
        ("host:5222", "host:5222", "nats://host:5222"),
        ("host", "host:4222", "nats://host:4222"),
        ("tls://host", "host:4222", "tls://host:4222"),
        ("nats://me:geheim@host", "host:4222", "nats://host:4222"),
        ("nats://[::1]:5222", "[::1]:5222", "nats://[::1]:5222"),
    ],
)
def test_a_url_is_read_with_its_defaults(url: str, address: str, shown: str) -> None:
    """The port is 4222 when left out, and what is shown holds no user or password."""
    server = parse_server(url)
    assert (server.address, server.shown) == (address, shown)
    assert server.tls == url.startswith("tls://")


def test_user_and_password_of_a_url_are_kept_for_connecting() -> None:
    """nats-py reads them from the URL."""
    assert parse_server("nats://me:geheim@host").url == "nats://me:geheim@host:4222"


@pytest.mark.parametrize("url", ["ws://host:1", "http://x:geheim@host", "nats://", "nats://host:geheim", ""])
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    """One clear sentence; it may hold a password, so it is not shown."""
    with pytest.raises(LinkError) as caught:
        parse_server(url)
    assert caught.value.final
    assert "geheim" not in str(caught.value)


def test_no_url_at_all_is_refused() -> None:
    """There would be nothing to connect to."""
    with pytest.raises(LinkError):
        ServerList([])


def test_every_server_is_tried_once_and_the_last_used_one_last() -> None:
    """A server that was just lost is tried after the others."""
    servers = ServerList(["nats://a", "nats://b", "nats://c"])
    servers.used(parse_server("nats://b"))
    for _ in range(20):
        candidates = servers.candidates()
        assert sorted(server.address for server in candidates) == ["a:4222", "b:4222", "c:4222"]
        assert candidates[-1].address == "b:4222"


def test_announced_servers_are_reached_as_the_present_one_is() -> None:
    """With its scheme, user and password; its host name is the one that certificates are checked for."""
    servers = ServerList(["tls://me:pw@nats.example"])
    servers.discover(["10.0.0.1:4222", "nats.example:4222", "10.0.0.1:4222"])
    assert Server("tls://me:pw@10.0.0.1:4222", "10.0.0.1:4222", "nats.example") in servers.candidates()
    assert len(servers.candidates()) == 2


def test_a_new_announcement_replaces_the_old_one() -> None:
    """Servers that left the cluster are not tried for ever."""
    servers = ServerList(["nats://a"])
    servers.discover(["b:1", "c:1"])
    servers.discover(["d:1"])
    assert {server.address for server in servers.candidates()} == {"a:4222", "d:1"}


def test_announcements_are_bounded() -> None:
    """A list without end would make reconnecting a search without end."""
    servers = ServerList(["nats://a"])
    servers.discover(f"h{number}:1" for number in range(1000))
    assert len(servers.candidates()) == MAX_DISCOVERED + 1
