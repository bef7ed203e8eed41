from __future__ import annotations

import pytest

from tests.fakes.measured import USER, MeasuredEdge
from tests.fakes.tcp import FakeTcp
from tidewire.edge.reception import Reception
from tidewire.edge.transport import WebSocketTransport
from tidewire.kernel import errors
from tidewire.platform.logs import hide_secrets


@pytest.fixture
def edge() -> MeasuredEdge:
    """A silent edge."""
    return MeasuredEdge()


def test_gauges_read_the_live_parts(edge: MeasuredEdge) -> None:
    """At the moment of the scrape."""
    assert edge.value("tidewire_connection_limit") == 7
    assert edge.value("tidewire_sockets") == 0
    tcp = FakeTcp(Reception(edge.gate))
    assert edge.value("tidewire_sockets") == 1
    tcp.buffered = b"12345"
    assert edge.value("tidewire_pending_bytes") == 5


def test_one_line_tells_the_whole_connection(edge: MeasuredEdge) -> None:
    """Who, how long, why, how much; times in seconds."""
    assert edge.ended(errors.SHUTDOWN) == {
        "client": "c1",
        "user": USER,
        "sdk": "js-sdk",
        "format": "json",
        "compression": "none",
        "peer": "192.0.2.1:40000",
        "tls": "",
        "seconds": 12.346,
        "code": 3001,
        "reason": "shutdown",
        "detail": "",
        "jti": "",
        "closed_by": "edge",
        "commands": 3,
        "throttled": 0,
        "bytes_in": 11,
        "bytes_out": 22,
    }
    assert edge.value("tidewire_connections_closed_total", code="3001") == 1


def test_peer_that_went_is_told_apart(edge: MeasuredEdge) -> None:
    """Without a close frame the code is 1006."""
    fields = edge.ended(None)
    assert (fields["closed_by"], fields["code"], fields["reason"]) == ("peer", 1006, "")
    assert edge.value("tidewire_connections_closed_total", code="1006") == 1


def test_clients_cannot_choose_label_values(edge: MeasuredEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may close with any of two thousand codes."""
    for code in (3000, 3777, 4999, 999, 1016, 1000):
        monkeypatch.setattr(WebSocketTransport, "close_code", property(lambda _self, code=code: code))
        assert edge.ended(None)["code"] == code
    closed = {
        dict(labels)["code"]: value
        for (name, labels), value in edge.samples().items()
        if name == "tidewire_connections_closed_total"
    }
    assert closed == {"other": 5, "1000": 1}


def test_refused_handshakes_are_logged_once_a_minute_for_each_kind(edge: MeasuredEdge) -> None:
    """Browsers hide the reason from the page; a flood of them must not fill the disk."""
    for _ in range(3):
        edge.sockets.refused("origin", "https://" + "a" * 1000, "192.0.2.1:4")
    edge.sockets.refused("token_in_url", "", "192.0.2.1:4")
    events = [(name, fields["outcome"], len(fields["origin"])) for _, name, fields in edge.log.lines]
    assert events == [("handshake.refused", "origin", 256), ("handshake.refused", "token_in_url", 0)]


def test_no_field_of_the_connection_line_looks_like_a_secret(edge: MeasuredEdge) -> None:
    """A name with `token` in it would be written as [hidden], as the id of a token once was."""
    fields = edge.ended(errors.SHUTDOWN)
    assert hide_secrets(None, "info", dict(fields)) == fields
