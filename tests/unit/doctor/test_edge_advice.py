from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.fakes.doctor import DAY, EDGE, NOW, named
from tidewire.doctor.edge_advice import advise_edge
from tidewire.doctor.facts import FileFacts, FileKind, KeySetFacts, ListenerFacts, PublicTlsFacts
from tidewire.doctor.findings import Finding, Level

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL
URL = "https://issuer.example/jwks.json"


def advised(check: str, connections: int = 15_000, **changes: Any) -> Finding:
    """The finding on an edge that is good but for some facts."""
    return named(list(advise_edge(replace(EDGE, **changes), connections, NOW)), check)


def file(kind: FileKind = FileKind.SECRET, **changes: Any) -> dict[str, Any]:
    """Facts of an edge with one file, called `file`."""
    facts = FileFacts(name="file", path="/etc/tidewire/f", kind=kind, mode=0o600)
    return {"files": (replace(facts, **changes),)}


def port(**changes: Any) -> dict[str, Any]:
    """Facts of an edge with one listener."""
    return {"listeners": (replace(ListenerFacts(setting="http.port", port=8000), **changes),)}


def test_a_good_edge_has_nothing_to_be_mended() -> None:
    """And says of each check what was found."""
    findings = list(advise_edge(EDGE, 50_000, NOW))
    assert all(finding.level is OK and finding.found and not finding.do for finding in findings)


@pytest.mark.parametrize(
    ("check", "changes", "level"),
    [
        ("connection limit", {"connection_limit": 15_000}, OK),
        ("connection limit", {"connection_limit": 14_999}, FAIL),
        ("http.port", port(port=0), OK),
        ("http.port", port(problem="is taken"), FAIL),
        ("http.port", port(problem="is taken", edge_runs=True), OK),
        ("public certificate", {"tls": PublicTlsFacts(names=("edge.example",))}, OK),
        ("public certificate", {"tls": PublicTlsFacts(names=("edge.example",), in_force=True)}, OK),
        ("public certificate", {"tls": PublicTlsFacts(names=("edge.example",), in_force=False)}, WARN),
        ("public certificate", {"tls": PublicTlsFacts()}, FAIL),
        ("public certificate", {"tls": PublicTlsFacts(problem="key_file k has a password")}, FAIL),
        ("key set", {"key_sets": (KeySetFacts(url=URL, keys=2),)}, OK),
        ("key set", {"key_sets": (KeySetFacts(url=URL, keys=2, ignored=("no object",)),)}, OK),
        ("key set", {"key_sets": (KeySetFacts(url=URL),)}, FAIL),
        ("key set", {"key_sets": (KeySetFacts(url=URL, problem="HTTP 500"),)}, FAIL),
        ("file", file(), OK),
        ("file", file(mode=0o640), OK),
        ("file", file(mode=0o644), WARN),
        ("file", file(FileKind.PUBLIC, mode=0o644), OK),
        ("file", file(FileKind.PUBLIC, mode=0o646), FAIL),
        ("file", file(mode=0o602), FAIL),
        ("file", file(problem="is no regular file"), FAIL),
        ("certificate file", file(FileKind.CERTIFICATE, certificate_end=NOW + 15 * DAY), OK),
        ("certificate file", file(FileKind.CERTIFICATE, certificate_end=NOW + 3 * DAY), WARN),
        ("certificate file", file(FileKind.AUTHORITIES, certificate_end=NOW - 1), FAIL),
        ("node name", {"node_name": "edge-1"}, OK),
        ("pages", {"pages": "web"}, OK),
        ("pages", {"pages": "web", "pages_problem": "has no index.html"}, WARN),
    ],
)
def test_each_check_at_its_bound(check: str, changes: dict[str, Any], level: Level) -> None:
    """Whoever is told that something is wrong is told why, and what to do."""
    finding = advised(check, **changes)
    assert finding.level is level
    assert bool(finding.why and finding.do) == (level in {WARN, FAIL})


def test_fewer_connections_allowed_than_wanted() -> None:
    """Raise the limit, or run more edges."""
    finding = advised("connection limit", 50_000, connection_limit=15_000)
    assert "TIDEWIRE_CLIENT_CONNECTION_LIMIT=50000" in finding.do[0]
    assert finding.do[1] == "or 4 edges behind a balancer"


def test_commands_are_ready_to_be_copied() -> None:
    """With the file and the port that they are about."""
    assert advised("file", **file(mode=0o644)).do[0] == "chmod o-rwx /etc/tidewire/f"
    assert "ss -ltnp 'sport = :8000'" in advised("http.port", **port(problem="is taken")).do[0]


def test_keys_are_counted() -> None:
    """Where they come from, and who needs none."""
    assert advised("token keys", key_sets=(KeySetFacts(url=URL, keys=1),)).found == (
        "1 in the configuration, 1 key sets to fetch, every client needs a token"
    )
    assert "without a token are let in" in advised("token keys", anonymous=True).found


def test_unusable_keys_of_a_set_are_told_once_for_each_reason() -> None:
    """They may be meant for others."""
    ignored = ("use is not sig", "no object", "use is not sig")
    finding = advised("key set", key_sets=(KeySetFacts(url=URL, keys=1, ignored=ignored),))
    assert finding.found == f"{URL}: 1 usable keys, 3 not usable (no object; use is not sig)"
