from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.protocol import protocol
from tidewire.edge.policies.origins import OriginPolicy

HOST = "edge.example.com"
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)


def allows(allowed: list[str], *origins: str, host: str = HOST) -> bool:
    """The verdict of a policy on these Origin headers."""
    return OriginPolicy(allowed).allows(origins, host)


@protocol("handshake.origin")
def test_no_origin_passes_and_two_never_do() -> None:
    """A request without Origin does not come from a page; no browser sends two, whatever they say."""
    for allowed in ([], ["https://a.example"], ["*"]):
        assert allows(allowed)
        assert not allows(allowed, "https://a.example", "https://a.example")


@protocol("handshake.origin")
@pytest.mark.parametrize(
    ("origin", "host", "verdict"),
    [
        ("https://edge.example.com", "edge.example.com", True),
        ("http://edge.example.com:8000", "edge.example.com:8000", True),
        ("https://EDGE.example.com", "edge.Example.com", True),
        ("http://edge.example.com:8000", "edge.example.com", False),
        ("https://evil.example.com", "edge.example.com", False),
        ("https://edge.example.com.evil.example", "edge.example.com", False),
        ("ftp://edge.example.com", "edge.example.com", False),
        ("edge.example.com", "edge.example.com", False),
        ("null", "edge.example.com", False),
        ("null", "null", False),
        ("", "", False),
        ("https://", "", False),
        ("https://edge.example.com", "edge.example.com,edge.example.com", False),
    ],
)
def test_empty_list_admits_only_the_edges_own_pages(origin: str, host: str, verdict: bool) -> None:
    """Host and port of Origin must be those of the Host header."""
    assert allows([], origin, host=host) is verdict


@protocol("handshake.origin")
@pytest.mark.parametrize(
    ("origin", "verdict"),
    [
        ("https://app.example.com", True),
        ("HTTPS://App.Example.com", True),
        ("https://app.example.com:8443", False),
        ("http://app.example.com", False),
        ("https://app.example.com/", False),
        ("https://app.example.com.evil.example", False),
        ("https://evil.example/https://app.example.com", False),
        ("https://edge.example.com", False),
        ("null", False),
        ("", False),
    ],
)
def test_listed_origin_must_be_equal(origin: str, verdict: bool) -> None:
    """Letter case apart. With a list the edge's own host is no exception."""
    assert allows(["https://app.example.com"], origin) is verdict


@protocol("handshake.origin")
@pytest.mark.parametrize(
    ("origin", "verdict"),
    [
        ("https://a.example.com", True),
        ("https://a.b.example.com", True),
        ("https://example.com", False),
        ("https://.example.com", False),
        ("https://evilexample.com", False),
        ("https://a.example.com.evil.example", False),
        ("https://a.exampleXcom", False),
        ("https://evil.example/.example.com", False),
        ("https://evil.example#.example.com", False),
        ("https://evil.example?.example.com", False),
        ("https://user@a.example.com", False),
        ("https://evil.example:80.example.com", False),
        ("https://a.example.com\n", False),
        ("https://\na.example.com", False),
        ("http://a.example.com", False),
    ],
)
def test_star_stands_for_host_labels(origin: str, verdict: bool) -> None:
    """Never for a scheme, a path, a user or another port, and the dots of the pattern are dots."""
    assert allows(["https://*.example.com"], origin) is verdict


@protocol("handshake.origin")
def test_star_stands_for_a_port() -> None:
    """Handy for development servers."""
    assert allows(["http://localhost:*"], "http://localhost:5173")
    assert not allows(["http://localhost:*"], "http://localhost")
    assert not allows(["http://localhost:*"], "http://evil.example:5173")


@protocol("handshake.origin")
@given(st.text())
def test_lone_star_admits_every_single_origin(origin: str) -> None:
    """That is what it is for."""
    assert allows(["*"], origin)


@given(hosts, st.text(max_size=30))
def test_what_a_pattern_admits_ends_in_the_patterns_own_host(host: str, middle: str) -> None:
    """Whatever stands in place of the star, the part after it is the deployment's own domain."""
    origin = f"https://{middle}.{host}"
    if allows([f"https://*.{host}"], origin):
        authority = origin.removeprefix("https://").lower()
        assert authority.endswith("." + host)
        assert not set(authority) & set("/?#@:\\ \t\r\n")


@given(hosts, hosts)
def test_exact_entries_admit_nothing_else(mine: str, other: str) -> None:
    """Two different hosts never stand for each other."""
    assert allows([f"https://{mine}"], f"https://{other}") is (mine == other)
