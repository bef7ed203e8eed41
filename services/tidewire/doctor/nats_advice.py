"""Is this NATS the one that the edges need? Judges each server of the configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tidewire.doctor.facts import EdgeFacts, NatsFacts
from tidewire.doctor.findings import Finding, certificate, fail, ok, skip, warn

LARGEST_SKEW: Final = 1.0
"""Seconds: half of what separates a token's `exp` from being noticed, and far more than synchronised clocks differ."""


def advise_nats(servers: tuple[NatsFacts, ...], edge: EdgeFacts, now: float) -> Iterator[Finding]:
    """Yield the findings of each server; one that cannot be used has only one."""
    for server in servers:
        if server.problem:
            yield _away(server, servers)
            continue
        version = (
            f"nats-server {server.version}, JetStream {'on' if server.jetstream else 'off (not needed)'}"
        )
        yield ok("NATS", f"{server.server}: {version}")
        yield _max_payload(server, edge)
        yield _mapping(server, edge)
        yield _rights(server, edge)
        yield _forging(server)
        yield _skew(server)
        if server.certificate_end is not None:
            yield certificate("NATS certificate", server.server, server.certificate_end, now)


def _away(server: NatsFacts, servers: tuple[NatsFacts, ...]) -> Finding:
    found = server.problem if server.server in server.problem else f"{server.server}: {server.problem}"
    if all(other.problem for other in servers):
        return fail(
            "NATS", found, "an edge does not start without NATS", "check nats.urls, and nats.user or TLS"
        )
    why = "edges use the other servers, and have one less to go to when one of them fails"
    return warn("NATS", found, why, "start it, or take it out of nats.urls")


def _max_payload(server: NatsFacts, edge: EdgeFacts) -> Finding:
    found = f"{server.server}: {server.max_payload} bytes, {edge.needed_payload} needed"
    if server.max_payload >= edge.needed_payload:
        return ok("max_payload", found)
    return fail(
        "max_payload",
        found,
        "a client's largest message would not fit, so an edge refuses to start",
        f"nats-server: max_payload: {edge.needed_payload}",
        "or a smaller websocket.message_size_limit",
    )


def _mapping(server: NatsFacts, edge: EdgeFacts) -> Finding:
    name, where = "mapping", server.server
    if server.mapped is None:
        return skip(name, f"{where}: it did not take the probe (see the rights of this user)")
    if server.mapped == edge.partitions:
        return ok(name, f"{where}: tw.pub.> to {edge.partitions} partitions")
    if server.mapped:
        return fail(
            name,
            f"{where}: tw.pub.> to {server.mapped} partitions, and nats.partitions is {edge.partitions}",
            "an edge refuses to start: native publications would reach nobody",
            f"nats.partitions: {server.mapped}, if that is the number of this deployment (it is fixed for its life)",
            f"otherwise nats-server's mapping as printed by: tidewire nats-config --partitions {edge.partitions}",
        )
    return fail(
        name,
        f"{where}: tw.pub.> is not mapped to partitions",
        "an edge refuses to start: native publications would be lost without a word",
        f'nats-server: mappings {{ "tw.pub.>": "tw.in.{{{{partition({edge.partitions})}}}}.>" }} in the edges\' account, '
        "on every server and leaf node",
        f"or its whole configuration: tidewire nats-config --partitions {edge.partitions}",
    )


def _rights(server: NatsFacts, edge: EdgeFacts) -> Finding:
    name, where = f"rights of {edge.nats_user}", server.server
    untried = ", ".join(f"{right.verb} {right.subject}" for right in server.untried)
    if server.missing:
        named = "; ".join(f"{right.verb} {right.subject} ({right.purpose})" for right in server.missing)
        return fail(
            name,
            f"{where}: missing {named}" + (f"; not tried: {untried}" if untried else ""),
            "what needs the right fails with error 100 for every client",
            *(f"nats-server: permissions {right.verb} allow {right.subject}" for right in server.missing),
            "all of them together: tidewire nats-config",
        )
    if untried:
        why = "they cannot be tried without a backend hearing of it (nats-server before 2.11), or it did not answer"
        return skip(name, f"{where}: not tried: {untried}; {why}")
    return ok(name, f"{where}: all that an edge needs")


def _forging(server: NatsFacts) -> Finding:
    name, where = "right to forge", server.server
    if server.may_forge is None:
        return skip(name, f"{where}: it did not answer")
    if not server.may_forge:
        return ok(name, f"{where}: this user may not publish on tw.out.>")
    return warn(
        name,
        f"{where}: this user may publish on tw.out.>, and probably everybody may do everything",
        "what is there counts as stored by JetStream",
        "nats-server: users with the least rights, as printed by: tidewire nats-config",
    )


def _skew(server: NatsFacts) -> Finding:
    name, where = "clock of NATS", server.server
    if server.skew is None:
        return skip(name, f"{where}: this user may not ask for it ($SYS.REQ.USER.INFO)")
    found = f"{where}: {server.skew:+.3f} s, give or take {server.skew_error:.3f} s"
    if abs(server.skew) - server.skew_error <= LARGEST_SKEW:
        return ok(name, found)
    why = "one of the two clocks is wrong: tokens expire early or late, and delays are measured wrongly"
    return warn(name, found, why, "synchronise both machines (systemd-timesyncd or chrony)")
