"""Do the kernel's network settings carry so many connections, and all of them at once after an outage? Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from tidewire.doctor.facts import HostFacts, ListenerFacts
from tidewire.doctor.findings import NOT_TOLD, Finding, ok, rounded, size, skip, warn
from tidewire.platform.ports import BACKLOG

TCP_BYTES: Final = 8 * 1024
"""What the kernel lets a socket keep even under pressure: a page to send and a page to read."""
LEAST_BUFFER: Final = 128 * 1024
"""Below it a message of the usual 64 KiB does not fit, since the kernel counts its own overhead too."""
LOW_PORT: Final = 10_240
"""Where a wider range of ephemeral ports begins: above the ports that servers usually have."""
MOST_PORTS: Final = 65_535 - LOW_PORT + 1


def advise_network(
    host: HostFacts, listeners: tuple[ListenerFacts, ...], connections: int
) -> Iterator[Finding]:
    """Yield a finding for each check of the network, for an edge with so many connections."""
    yield _ephemeral_ports(host, connections)
    yield _reserved_ports(host, listeners)
    yield _accept_backlog(host)
    yield _syn_backlog(host)
    yield _tcp_memory(host, connections)
    yield _socket_buffers(host)
    yield _conntrack(host, connections)


def _ephemeral_ports(host: HostFacts, connections: int) -> Finding:
    name = "ephemeral ports"
    if host.port_range is None:
        return skip(name, f"{NOT_TOLD} net.ipv4.ip_local_port_range")
    low, high = host.port_range
    ports = high - low + 1
    found = f"{low} to {high}, {ports} ports"
    if ports >= connections:
        return ok(name, found)
    widen = f'sysctl -w net.ipv4.ip_local_port_range="{LOW_PORT} 65535"   (on the proxy, also a safe sysctl of a pod)'
    spread = f"{math.ceil(connections / MOST_PORTS)} addresses of the proxy, or as many ports of the edge"
    return warn(
        name,
        f"{found} for {connections} connections",
        "the edge itself needs none, but a proxy in front of it has one connection per port, address and target",
        *([widen] if ports < min(connections, MOST_PORTS) else []),
        *([spread] if connections > MOST_PORTS else []),
    )


def _reserved_ports(host: HostFacts, listeners: tuple[ListenerFacts, ...]) -> Finding:
    name = "reserved ports"
    if host.port_range is None:
        return skip(name, f"{NOT_TOLD} net.ipv4.ip_local_port_range")
    low, high = host.port_range
    inside = [one for one in listeners if low <= one.port <= high and not _is_reserved(host, one.port)]
    if not inside:
        return ok(name, "no outgoing connection can take a port of the edge")
    ports = [*(f"{first}-{last}" for first, last in host.reserved_ports), *(str(one.port) for one in inside)]
    return warn(
        name,
        f"{' and '.join(one.setting for one in inside)} within the ephemeral ports {low} to {high}",
        "an outgoing connection may have the port when the edge starts",
        f"sysctl -w net.ipv4.ip_local_reserved_ports={','.join(ports)}",
    )


def _accept_backlog(host: HostFacts) -> Finding:
    name = "accept backlog"
    if host.somaxconn is None:
        return skip(name, f"{NOT_TOLD} net.core.somaxconn")
    found = f"net.core.somaxconn is {host.somaxconn}"
    if host.somaxconn >= BACKLOG:
        return ok(name, found)
    return warn(
        name,
        found,
        f"the edge asks for {BACKLOG} connections that wait to be accepted, and the kernel cuts that down: when all "
        "clients reconnect at once the others wait a second and more",
        f"sysctl -w net.core.somaxconn={BACKLOG}",
        "Kubernetes: securityContext.sysctls of the pod, which the kubelet must allow (--allowed-unsafe-sysctls)",
    )


def _syn_backlog(host: HostFacts) -> Finding:
    name = "SYN backlog"
    if host.syn_backlog is None or host.syncookies is None:
        return skip(name, f"{NOT_TOLD} net.ipv4.tcp_max_syn_backlog and tcp_syncookies")
    found = f"net.ipv4.tcp_max_syn_backlog is {host.syn_backlog}, tcp_syncookies {host.syncookies}"
    if host.syn_backlog >= BACKLOG or host.syncookies:
        return ok(name, found)
    return warn(
        name,
        found,
        "without SYN cookies, connections beyond it are dropped while they begin: when all clients reconnect, and in "
        "every SYN flood",
        f"sysctl -w net.ipv4.tcp_max_syn_backlog={BACKLOG}",
        "sysctl -w net.ipv4.tcp_syncookies=1",
    )


def _tcp_memory(host: HostFacts, connections: int) -> Finding:
    name = "TCP memory"
    if host.tcp_mem is None:
        return skip(name, f"{NOT_TOLD} net.ipv4.tcp_mem")
    _, pressure, most = host.tcp_mem
    needed = math.ceil(connections * TCP_BYTES / host.page_size)
    found = (
        f"pressure at {size(pressure * host.page_size)}, most {size(most * host.page_size)}; "
        f"a frame each way on {connections} connections takes {size(connections * TCP_BYTES)}"
    )
    if needed <= pressure:
        return ok(name, found)
    return warn(
        name,
        found,
        "a broadcast to all clients would bring the kernel to shrink windows, and beyond the most to drop packets",
        f'sysctl -w net.ipv4.tcp_mem="{needed} {math.ceil(needed * 1.5)} {needed * 2}"',
    )


def _socket_buffers(host: HostFacts) -> Finding:
    name = "socket buffers"
    if host.tcp_rmem is None or host.tcp_wmem is None:
        return skip(name, f"{NOT_TOLD} net.ipv4.tcp_rmem and tcp_wmem")
    found = f"at most {size(host.tcp_rmem[2])} to read, {size(host.tcp_wmem[2])} to send"
    small = [
        f'sysctl -w net.ipv4.{setting}="{least} {min(first, LEAST_BUFFER)} {LEAST_BUFFER}"'
        for setting, (least, first, most) in (("tcp_rmem", host.tcp_rmem), ("tcp_wmem", host.tcp_wmem))
        if most < LEAST_BUFFER
    ]
    if not small:
        return ok(name, found)
    why = "a message of 64 KiB does not fit, so that clients far away count as slow and are closed with 3008"
    return warn(name, found, why, *small)


def _conntrack(host: HostFacts, connections: int) -> Finding:
    name = "connection tracking"
    if host.conntrack_max is None or host.conntrack_count is None:
        return ok(name, "no table on this machine")
    needed = host.conntrack_count + connections
    found = f"{host.conntrack_count} of {host.conntrack_max} entries; {needed} with the connections"
    if needed * 1.25 <= host.conntrack_max:
        return ok(name, found)
    target = rounded(needed * 1.5)
    return warn(
        name,
        found,
        "where the firewall tracks them, connections beyond the table are dropped without a word; address translation "
        "takes two entries each",
        f"sysctl -w net.netfilter.nf_conntrack_max={target}",
        f"echo {target // 4} > /sys/module/nf_conntrack/parameters/hashsize",
        f"Kubernetes: conntrack.min {target} in kube-proxy's configuration, on the nodes",
    )


def _is_reserved(host: HostFacts, port: int) -> bool:
    return any(first <= port <= last for first, last in host.reserved_ports)
