from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.doctor import EDGE, host, named
from tidewire.doctor.findings import Finding, Level
from tidewire.doctor.network_advice import MOST_PORTS, TCP_BYTES, advise_network

OK, SKIP, WARN = Level.OK, Level.SKIP, Level.WARN
PAGES = 50_000 * TCP_BYTES // 4096


def advised(check: str, connections: int = 50_000, **changes: Any) -> Finding:
    """The finding on a machine that is good but for some facts."""
    return named(list(advise_network(host(**changes), EDGE.listeners, connections)), check)


def test_a_good_machine_has_nothing_to_be_mended() -> None:
    """And says of each check what was found."""
    findings = list(advise_network(host(), EDGE.listeners, 50_000))
    assert all(finding.level is OK and finding.found and not finding.do for finding in findings)


@pytest.mark.parametrize(
    ("check", "changes", "level"),
    [
        ("ephemeral ports", {"port_range": (10_000, 59_999)}, OK),
        ("ephemeral ports", {"port_range": (10_000, 59_998)}, WARN),
        ("ephemeral ports", {"port_range": None}, SKIP),
        ("reserved ports", {"port_range": (8_001, 8_999)}, OK),
        ("reserved ports", {"port_range": (8_000, 8_999)}, WARN),
        ("reserved ports", {"port_range": (8_001, 9_000)}, WARN),
        ("reserved ports", {"port_range": (1_024, 65_535), "reserved_ports": ((8_000, 9_000),)}, OK),
        ("reserved ports", {"port_range": None}, SKIP),
        ("accept backlog", {"somaxconn": 4_095}, WARN),
        ("accept backlog", {"somaxconn": None}, SKIP),
        ("SYN backlog", {"syn_backlog": 4_095}, WARN),
        ("SYN backlog", {"syn_backlog": 128, "syncookies": 1}, OK),
        ("SYN backlog", {"syn_backlog": None}, SKIP),
        ("TCP memory", {"tcp_mem": (1, PAGES, PAGES * 2)}, OK),
        ("TCP memory", {"tcp_mem": (1, PAGES - 1, PAGES * 2)}, WARN),
        ("TCP memory", {"tcp_mem": None}, SKIP),
        ("socket buffers", {"tcp_wmem": (4_096, 16_384, 131_072)}, OK),
        ("socket buffers", {"tcp_wmem": (4_096, 16_384, 131_071)}, WARN),
        ("socket buffers", {"tcp_rmem": (4_096, 16_384, 131_071)}, WARN),
        ("socket buffers", {"tcp_rmem": None}, SKIP),
        ("connection tracking", {"conntrack_count": 0, "conntrack_max": 62_500}, OK),
        ("connection tracking", {"conntrack_count": 1, "conntrack_max": 62_500}, WARN),
        ("connection tracking", {"conntrack_max": None}, OK),
    ],
)
def test_each_check_at_its_bound(check: str, changes: dict[str, Any], level: Level) -> None:
    """Just enough is enough; and whoever is told that it is not is told why, and what to do."""
    finding = advised(check, **changes)
    assert finding.level is level
    assert bool(finding.why and finding.do) == (level is WARN)


def test_the_advised_ports_do_not_take_the_edges_own() -> None:
    """What one check advises, the next must not warn of."""
    finding = advised("ephemeral ports", port_range=(32_768, 60_999))
    assert finding.do[0].startswith('sysctl -w net.ipv4.ip_local_port_range="10240 65535"')
    assert advised("reserved ports", port_range=(10_240, 65_535)).level is OK


def test_more_connections_than_ports_need_more_addresses() -> None:
    """However wide the range is."""
    assert advised("ephemeral ports", 2 * MOST_PORTS + 1, port_range=(1_024, 65_535)).do == (
        "3 addresses of the proxy, or as many ports of the edge",
    )
    assert len(advised("ephemeral ports", 100_000, port_range=(32_768, 60_999)).do) == 2


def test_reserved_ports_stay_reserved() -> None:
    """The setting is replaced as a whole, so that what stands there is named again."""
    finding = advised("reserved ports", port_range=(1_024, 65_535), reserved_ports=((5_000, 5_010),))
    assert finding.found == "http.port and http.internal_port within the ephemeral ports 1024 to 65535"
    assert finding.do == ("sysctl -w net.ipv4.ip_local_reserved_ports=5000-5010,8000,9000",)


def test_advised_settings_are_good_ones() -> None:
    """Each command has the values in the kernel's order, and passes its own check."""
    (command,) = advised("TCP memory", tcp_mem=(1, 2, 3)).do
    low, pressure, most = map(int, command.split('"')[1].split())
    assert advised("TCP memory", tcp_mem=(low, pressure, most)).level is OK
    (command,) = advised("socket buffers", tcp_wmem=(1_024, 4_096, 16_384)).do
    assert command == 'sysctl -w net.ipv4.tcp_wmem="1024 4096 131072"'
    table, buckets, _ = advised("connection tracking", conntrack_max=60_000).do
    assert (table, buckets) == (
        "sysctl -w net.netfilter.nf_conntrack_max=131072",
        "echo 32768 > /sys/module/nf_conntrack/parameters/hashsize",
    )
    assert advised("connection tracking", conntrack_max=131_072).level is OK
    assert advised("accept backlog", somaxconn=128).do[0] == "sysctl -w net.core.somaxconn=4096"
