"""Is everything there that the configuration names? Files, keys, ports and pages of an edge. Pure."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator

from tidewire.doctor.facts import EdgeFacts, FileFacts, FileKind, KeySetFacts, ListenerFacts, PublicTlsFacts
from tidewire.doctor.findings import Finding, certificate, fail, ok, warn


def advise_edge(edge: EdgeFacts, connections: int, now: float) -> Iterator[Finding]:
    """Yield a finding for each check of the configuration, for so many connections."""
    yield _connection_limit(edge, connections)
    for listener in edge.listeners:
        yield _listener(listener)
    if edge.tls is not None:
        yield _public_tls(edge.tls)
    yield _keys(edge)
    for key_set in edge.key_sets:
        yield _key_set(key_set)
    for file in edge.files:
        yield _file(file, now)
    yield _node_name(edge.node_name)
    if edge.pages:
        yield _pages(edge)


def _connection_limit(edge: EdgeFacts, connections: int) -> Finding:
    name, found = "connection limit", f"client.connection_limit is {edge.connection_limit}"
    if edge.connection_limit >= connections:
        return ok(name, found)
    return fail(
        name,
        f"{found} of {connections} wanted",
        "the edge answers further handshakes with 503",
        f"client.connection_limit: {connections}   (or TIDEWIRE_CLIENT_CONNECTION_LIMIT={connections})",
        f"or {math.ceil(connections / edge.connection_limit)} edges behind a balancer",
    )


def _listener(listener: ListenerFacts) -> Finding:
    name = listener.setting
    if not listener.port:
        return ok(name, "any free port")
    if not listener.problem:
        return ok(name, f"port {listener.port} is free")
    if listener.edge_runs:
        return ok(name, f"port {listener.port} {listener.problem}, by an edge that runs")
    return fail(
        name,
        f"port {listener.port} {listener.problem}",
        "an edge would end at its start",
        f"free it (ss -ltnp 'sport = :{listener.port}' shows who has it), or another {listener.setting}",
    )


def _public_tls(tls: PublicTlsFacts) -> Finding:
    name = "public certificate"
    if tls.problem:
        why = "an edge would end at its start, one that runs refuses to reload"
        return fail(name, tls.problem, why, "mend the file or the setting")
    if not tls.names:
        why = "clients look at its subjectAltName only, and would refuse it for every host"
        return fail(name, "it names no host", why, "have it issued for the host that clients connect to")
    found = f"for {', '.join(tls.names)}"
    if tls.in_force is False:
        why = "the edge that runs still shows another one to clients"
        return warn(name, found, why, "have it read its files again: kill -HUP its process")
    shown = ", which the edge that runs shows" if tls.in_force else ""
    return ok(name, f"{found}, with its key{shown}")


def _keys(edge: EdgeFacts) -> Finding:
    parts = [
        f"{edge.own_keys} in the configuration",
        f"{len(edge.key_sets)} key sets to fetch",
        "clients without a token are let in" if edge.anonymous else "every client needs a token",
    ]
    return ok("token keys", ", ".join(parts))


def _key_set(key_set: KeySetFacts) -> Finding:
    name = "key set"
    if key_set.problem:
        why = "clients whose tokens are signed with its keys get the temporary error 100 until it is there"
        do = "make the URL reachable from here (proxies of the environment are not used), see also ca_file"
        return fail(name, f"{key_set.url}: {key_set.problem}", why, do)
    found = f"{key_set.url}: {key_set.keys} usable keys"
    if key_set.ignored:
        found += f", {len(key_set.ignored)} not usable ({'; '.join(sorted(set(key_set.ignored)))})"
    if not key_set.keys:
        return fail(
            name, found, "no token of this issuer can be checked", "publish a key of a usable kind there"
        )
    return ok(name, found)


def _file(file: FileFacts, now: float) -> Finding:
    where = f"{file.name} {file.path}"
    if file.problem:
        return fail(
            file.name,
            f"{file.path} {file.problem}",
            "an edge would end at its start",
            "mend the path or file",
        )
    if file.certificate_end is not None:
        return certificate("certificate file", where, file.certificate_end, now)
    return _permissions(file)


def _permissions(file: FileFacts) -> Finding:
    """A mounted Kubernetes secret is 0644 unless it is told otherwise, so that reading is a warning."""
    found = f"{file.path} has mode {file.mode:04o}"
    close = f"chmod o-rwx {file.path}"
    if file.mode & stat.S_IWOTH:
        return fail(file.name, found, "everybody on this machine can put a key of his own there", close)
    if file.kind is FileKind.SECRET and file.mode & stat.S_IROTH:
        why = "everybody on this machine can read the secret, and act with it"
        return warn(file.name, found, why, close, "Kubernetes: defaultMode 0440 of the volume, with fsGroup")
    return ok(file.name, found)


def _node_name(name: str) -> Finding:
    if not name:
        return ok("node name", "none set: the host name and a random suffix, different for every edge")
    return ok("node name", f"{name}, which no other edge may have (TIDEWIRE_NODE_NAME sets it for each)")


def _pages(edge: EdgeFacts) -> Finding:
    if edge.pages_problem:
        why = "browsers get 404 from the public port"
        return warn("pages", f"{edge.pages} {edge.pages_problem}", why, "mend http.pages, or leave it empty")
    return ok("pages", edge.pages)
