from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import msgspec
import pytest

from tests.fakes.door import Door, head
from tests.fakes.tcp import FakeTcp
from tidewire.edge.entrance import Entrance
from tidewire.edge.policies.client_address import TrustedProxies
from tidewire.edge.reception import Reception
from tidewire.edge.transport import WebSocketTransport
from tidewire.platform.tls import TlsSocket

PROXY = "PROXY TCP4 198.51.100.7 192.0.2.99 4711 443\r\n"


class Porch:
    """An entrance whose sockets come from 192.0.2.1 (see FakeTcp), before a gate that trusts some networks."""

    def __init__(self, *trusted: str, proxied: bool = True, connections: int = 10) -> None:
        self.door = Door(connections=connections)
        self.door.gate.proxies = TrustedProxies(trusted, "X-Forwarded-For")
        self.entrance = Entrance(self.door.gate, None, proxied=proxied)
        self.tcp = FakeTcp(self.entrance())
        (self.client,) = cast("dict[Reception, None]", self.door.gate.transports)

    def outcomes(self, kind: str) -> list[Any]:
        """What was counted."""
        return [outcome for outcome, _ in self.door.metrics.of(kind) if outcome != "absent"]


def test_without_settings_a_socket_is_a_client() -> None:
    """Nothing stands between."""
    porch = Porch(proxied=False)
    assert isinstance(porch.tcp.protocol, Reception)
    assert (porch.client.address, porch.client.peer) == ("192.0.2.1", "192.0.2.1:40000")


def test_tls_stands_before_the_client() -> None:
    """With the context that is in force when the socket comes."""
    door = Door()
    contexts: list[ssl.SSLContext] = []

    def context() -> ssl.SSLContext:
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        return contexts[-1]

    entrance = Entrance(door.gate, context, proxied=False)
    tcp = FakeTcp(entrance())
    assert isinstance(tcp.protocol, TlsSocket)
    assert len(door.gate.transports) == 1
    FakeTcp(entrance())
    assert len(contexts) == 2


def test_failed_tls_is_told_with_the_clients_name() -> None:
    """That of the PROXY header, and of an upgraded connection its own; plain HTTP's protocol knows none."""
    porch = Porch("192.0.2.0/24")
    entrance = Entrance(porch.door.gate, lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), proxied=True)
    tcp = FakeTcp(entrance())
    tcp.receive(PROXY.encode())
    tcp.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(tcp.protocol, TlsSocket)
    tcp.protocol.set_protocol(asyncio.Protocol())
    entrance._tls_handshake("broken", tcp.protocol)
    porch.tcp.receive(PROXY.encode() + head())
    tcp.protocol.set_protocol(porch.tcp.protocol)
    entrance._tls_handshake("broken", tcp.protocol)
    told = porch.door.metrics.of("tls_handshake")
    assert told == [
        ("http", "198.51.100.7:4711"),
        ("broken", "192.0.2.1:40000"),
        ("broken", "198.51.100.7:4711"),
    ]


@pytest.mark.parametrize("chunk", [1, 1000])
def test_header_gives_the_address_and_steps_aside(chunk: int) -> None:
    """However it comes; what follows goes on as without it."""
    porch = Porch("192.0.2.0/24")
    data = PROXY.encode() + head()
    for start in range(0, len(data), chunk):
        porch.tcp.receive(data[start : start + chunk])
    assert porch.tcp.taken().startswith(b"HTTP/1.1 101 ")
    assert isinstance(porch.tcp.protocol, WebSocketTransport)
    assert (porch.client.address, porch.client.peer) == ("198.51.100.7", "198.51.100.7:4711")
    assert (porch.tcp.protocol.counted, porch.tcp.protocol.peer) == ("198.51.100.7", "198.51.100.7:4711")
    assert porch.outcomes("proxy_header") == ["used"]


def test_mapped_address_has_its_one_name() -> None:
    """A proxy that listens on IPv6 for both."""
    porch = Porch("192.0.2.0/24")
    porch.tcp.receive(b"PROXY TCP6 ::ffff:198.51.100.7 ::1 4711 443\r\n")
    assert porch.client.address == "198.51.100.7"


def test_proxys_own_connection_keeps_its_address() -> None:
    """Such as its health check."""
    porch = Porch("192.0.2.0/24")
    porch.tcp.receive(b"PROXY UNKNOWN\r\n" + head())
    assert porch.tcp.taken().startswith(b"HTTP/1.1 101 ")
    assert porch.client.address == "192.0.2.1"
    assert porch.outcomes("proxy_header") == ["local"]


def test_stranger_is_not_let_in() -> None:
    """Before a byte of his is looked at."""
    porch = Porch("10.0.0.0/8")
    assert porch.tcp.aborted
    porch.tcp.receive(PROXY.encode())
    porch.tcp.finish()
    assert porch.outcomes("proxy_header") == ["untrusted"]
    assert porch.door.gate.sockets == 0


@pytest.mark.parametrize("data", [head(), b"\x16\x03\x01", b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n"])
def test_connection_without_a_good_header_is_cut(data: bytes) -> None:
    """It is not served as the proxy's: that would lift every limit by address."""
    porch = Porch("192.0.2.0/24")
    porch.tcp.receive(data)
    assert porch.tcp.aborted
    porch.tcp.finish()
    assert porch.outcomes("proxy_header") == ["malformed"]
    assert porch.tcp.taken() == b""


def test_header_has_the_deadline_of_the_handshake() -> None:
    """One byte of it does not move that."""
    porch = Porch("192.0.2.0/24")
    porch.tcp.receive(b"PROXY ")
    porch.door.run(6)
    assert porch.tcp.aborted
    porch.tcp.finish()
    assert porch.outcomes("proxy_header") == ["incomplete"]
    assert porch.door.gate.sockets == 0


def test_reset_before_it_was_accepted_is_no_stranger() -> None:
    """A balancer's check of the port may end so: nobody is told of an untrusted peer without an address."""
    porch = Porch("192.0.2.0/24")
    tcp = FakeTcp(porch.entrance(), "")
    assert tcp.aborted
    tcp.finish()
    assert porch.outcomes("proxy_header") == ["incomplete"]


def test_too_many_sockets_are_refused_as_ever() -> None:
    """And not counted as something about the header."""
    porch = Porch("192.0.2.0/24", connections=0)
    tcps = [FakeTcp(porch.entrance()) for _ in range(64)]
    assert tcps[-1].aborted
    tcps[-1].finish()
    assert porch.outcomes("proxy_header") == []


def test_address_in_the_header_of_a_known_proxy_is_the_clients() -> None:
    """Final once the request is read, before it is judged."""
    porch = Porch("192.0.2.0/24", proxied=False)
    porch.tcp.receive(head("/connection/websocket", ("X-Forwarded-For", "203.0.113.9, 198.51.100.7")))
    assert porch.tcp.taken().startswith(b"HTTP/1.1 101 ")
    assert (porch.client.address, porch.client.peer) == ("198.51.100.7", "198.51.100.7")
    assert porch.outcomes("forwarded") == ["used"]


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)])
def test_address_in_the_header_of_a_stranger_says_nothing(trusted: tuple[str, ...]) -> None:
    """Otherwise everybody could use up the limits of somebody else."""
    porch = Porch(*trusted, proxied=False)
    porch.tcp.receive(head("/connection/websocket", ("X-Forwarded-For", "203.0.113.9")))
    assert porch.client.address == "192.0.2.1"
    assert porch.outcomes("forwarded") == ["ignored"]


@pytest.mark.parametrize(
    ("announced", "address"), [("192.0.2.50", "203.0.113.9"), ("198.51.100.7", "198.51.100.7")]
)
def test_both_stand_in_line(announced: str, address: str) -> None:
    """Behind two proxies the header counts only if the address of the first, in the PROXY header, is a proxy's too."""
    porch = Porch("192.0.2.0/24")
    request = head("/connection/websocket", ("X-Forwarded-For", "203.0.113.9"))
    porch.tcp.receive(f"PROXY TCP4 {announced} 192.0.2.99 1 443\r\n".encode() + request)
    assert porch.client.address == address


def test_socket_without_an_address_has_none() -> None:
    """A Unix socket."""
    door = Door()
    client = Reception(door.gate)
    tcp = FakeTcp(asyncio.Protocol())
    tcp._extra["peername"] = ""
    client.connection_made(tcp)
    assert (client.address, client.peer) == ("", "")


def test_clients_behind_a_proxy_count_one_by_one() -> None:
    """The proxy's own address, of which all sockets come, counts for nobody."""
    porch = Porch("192.0.2.0/24", proxied=False)
    gate = porch.door.gate
    gate.limits = msgspec.structs.replace(gate.limits, address_connections=1)
    answers = []
    for client in ("198.51.100.7", "198.51.100.8", "198.51.100.7"):
        tcp = FakeTcp(porch.entrance())
        tcp.receive(head("/connection/websocket", ("X-Forwarded-For", client)))
        answers.append(tcp.taken()[9:12])
    assert answers == [b"101", b"101", b"429"]
    assert gate.shedder.addresses.connections("192.0.2.1") == 0
    assert gate.shedder.addresses.unfinished("192.0.2.1") == 0


def test_sockets_behind_a_proxy_count_for_their_client_from_the_proxy_header_on() -> None:
    """One client that never finishes a handshake has no more sockets than there is room left, and others are let in."""
    porch = Porch("192.0.2.0/24", connections=0)
    client = PROXY.encode()
    tcps = [FakeTcp(porch.entrance()) for _ in range(40)]
    for tcp in tcps:
        tcp.receive(client)
    assert sum(not tcp.aborted for tcp in tcps) == porch.door.gate.room > 0
    assert porch.door.handshakes[-1] == "address_sockets"
    other = FakeTcp(porch.entrance())
    other.receive(PROXY.replace("198.51.100.7", "198.51.100.8").encode())
    assert not other.aborted


@pytest.mark.parametrize("upgraded", [True, False])
def test_trust_that_changes_meanwhile_leaves_nothing_behind(*, upgraded: bool) -> None:
    """A socket is taken from where it was counted, whatever its address is called now."""
    porch = Porch("192.0.2.0/24", proxied=False)
    gate = porch.door.gate
    stranger = FakeTcp(Reception(gate), "203.0.113.1")
    if upgraded:
        for tcp in (porch.tcp, stranger):
            tcp.receive(head())
    gate.proxies = TrustedProxies(("203.0.113.0/24",))
    for tcp in (porch.tcp, stranger):
        tcp.finish()
    assert (len(gate.shedder.addresses), gate.sockets) == (0, 0)
