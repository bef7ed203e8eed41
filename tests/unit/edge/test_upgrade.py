from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from tests.support.protocol import protocol
from tests.support.upgrade_requests import ACCEPT, CLIENTS
from tidewire.edge.handshake import Accept, Refuse
from tidewire.edge.request_head import HEAD_END, RequestHead
from tidewire.edge.upgrade import (
    NO_UPGRADE,
    WRONG_EXTENSIONS,
    WRONG_HTTP,
    WRONG_KEY,
    WRONG_METHOD,
    WRONG_VERSION,
    Answer,
    answer_to,
    refusal,
    tokens_of,
)

NODE = CLIENTS["Node ws"]
FINE = Accept(protobuf=False, subprotocol=None)


def answered(head: bytes, verdict: Accept | Refuse = FINE, *, compress: bool = False) -> Answer:
    """The answer, where the edge's own verdict is this."""
    return answer_to(head, lambda _: verdict, compress=compress)


def told(answer: Answer) -> tuple[int, dict[str, str], str]:
    """Status, fields and body of a response."""
    head, _, body = answer.response.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body


@protocol("transport.websocket")
@pytest.mark.parametrize("client", CLIENTS)
def test_upgrade_of_each_client(client: str) -> None:
    """The response of RFC 6455, section 4.2.2."""
    answer = answered(CLIENTS[client])
    assert (answer.outcome, answer.accept, answer.window_bits) == ("accepted", FINE, 0)
    assert answer.response == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + HEAD_END
    )


@protocol("transport.deflate", "format.subprotocol")
def test_upgrade_names_what_was_agreed_on() -> None:
    """Only what the client offered; compression only where the edge has it."""
    spoken = Accept(protobuf=False, subprotocol="centrifuge-json")
    answer = answered(NODE, spoken, compress=True)
    assert (answer.window_bits, answer.accept) == (15, spoken)
    fields = told(answer)[1]
    assert fields["Sec-WebSocket-Protocol"] == "centrifuge-json"
    assert fields["Sec-WebSocket-Extensions"].startswith("permessage-deflate; ")
    fields = told(answered(NODE.replace(b"Extensions: per", b"Extensions: x-per"), compress=True))[1]
    assert "Sec-WebSocket-Extensions" not in fields
    assert "Sec-WebSocket-Protocol" not in fields


@protocol("transport.deflate")
def test_window_is_the_one_that_the_client_takes() -> None:
    """RFC 7692, section 7.1.2.1."""
    answer = answered(changed("client_max_window_bits", "server_max_window_bits=10"), compress=True)
    assert (answer.outcome, answer.window_bits) == ("accepted", 10)


def changed(old: str, new: str) -> bytes:
    """The request of Node with one text in it replaced."""
    assert old.encode() in NODE
    return NODE.replace(old.encode(), new.encode("latin-1"), 1)


@protocol("transport.websocket")
@protocol("handshake.upgrade")
@pytest.mark.parametrize(
    ("old", "new", "refuse"),
    [
        ("GET ", "POST ", WRONG_METHOD),
        ("GET ", "get ", WRONG_METHOD),
        ("HTTP/1.1", "HTTP/1.0", WRONG_HTTP),
        ("HTTP/1.1", "HTTP/2.0", WRONG_HTTP),
        ("Connection: Upgrade\r\n", "", NO_UPGRADE),
        ("Connection: Upgrade", "Connection: keep-alive", NO_UPGRADE),
        ("Connection: Upgrade", "Connection: Upgrades", NO_UPGRADE),
        ("Connection: Upgrade", 'Connection: "Upgrade"', NO_UPGRADE),
        ("Connection: Upgrade", "Connection: Upgrade, a b", NO_UPGRADE),
        ("Connection: Upgrade", "Connection: Upgrade\r\nConnection:", NO_UPGRADE),
        ("Upgrade: websocket\r\n", "", NO_UPGRADE),
        ("Upgrade: websocket", "Upgrade: h2c", NO_UPGRADE),
        ("Upgrade: websocket", "Upgrade: websocket, h2c", NO_UPGRADE),
        ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: websocket", NO_UPGRADE),
        ("Upgrade: websocket", "Upgrade: websocket/13", NO_UPGRADE),
        ("Sec-WebSocket-Key", "X-Key", WRONG_KEY),
        ("Sec-WebSocket-Key: ", f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Key: ", WRONG_KEY),
        ("jZQ==", "jZQ=", WRONG_KEY),
        ("jZQ==", "jZQxx", WRONG_KEY),
        ("jZQ==", "jZQ===", WRONG_KEY),
        ("jZQ==", "jZQx=", WRONG_KEY),
        ("dGhl", "dG-l", WRONG_KEY),
        ("dGhl", "dG\xb2l", WRONG_KEY),
        ("dGhl", "", WRONG_KEY),
        ("Sec-WebSocket-Version: 13\r\n", "", WRONG_VERSION),
        ("Version: 13", "Version: 8", WRONG_VERSION),
        ("Version: 13", "Version: 13, 8", WRONG_VERSION),
        ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", WRONG_VERSION),
        ("; client_max_window_bits", ";", WRONG_EXTENSIONS),
    ],
)  # fmt: skip
def test_what_is_no_upgrade(old: str, new: str, refuse: Refuse) -> None:
    """RFC 6455, section 4.2.1."""
    answer = answered(changed(old, new), compress=True)
    assert (answer.accept, answer.window_bits, answer.outcome) == (None, 0, "bad_upgrade")
    status, fields, body = told(answer)
    assert (status, body) == (refuse.status, refuse.sentence + "\n")
    assert fields.get("Allow") == ("GET" if status == 405 else None)
    assert fields.get("Upgrade") == ("websocket" if status == 426 else None)
    assert answer.response.count(b"Connection: close\r\n") == 1
    assert answer.response.count(b"Connection: Upgrade\r\n") == (status == 426)
    assert fields.get("Sec-WebSocket-Version") == ("13" if status == 426 else None)


@protocol("transport.websocket")
@pytest.mark.parametrize(
    "head",
    [
        changed("Connection: Upgrade", "Connection: keep-alive, upGRADE"),
        changed("Connection: Upgrade", "Connection: keep-alive\r\nConnection: , upgrade ,"),
        changed("Upgrade: websocket", "upgrade: WEBSOCKET"),
        changed("Upgrade: websocket", "Upgrade: ,websocket"),
        changed("Sec-WebSocket-Version: 13", "SEC-WEBSOCKET-VERSION:13"),
    ],
)
def test_names_and_tokens_have_no_case(head: bytes) -> None:
    """RFC 9110, sections 5.1 and 7.6.1."""
    assert answered(head).outcome == "accepted"


def test_offers_are_not_looked_at_where_compression_is_off() -> None:
    """As if the extension were unknown."""
    assert answered(changed("; client_max_window_bits", ";")).outcome == "accepted"


def test_verdict_of_the_edge_comes_before_faults_of_the_upgrade() -> None:
    """A page of a foreign origin learns nothing else, and the log names that origin."""
    refuse = Refuse(403, "origin", "No.")
    head = NODE.replace(b"GET", b"PUT").replace(b"Host:", b"Origin: https://a\r\nOrigin: https://b\r\nHost:")
    answer = answered(head, refuse)
    assert (answer.outcome, answer.origin, answer.accept) == ("origin", "https://a, https://b", None)
    assert told(answer)[0] == 403
    assert answered(head).origin == "https://a, https://b"


def test_judge_is_asked_about_requests_only() -> None:
    """And is given what came."""
    asked: list[RequestHead] = []

    def judge(request: RequestHead) -> Accept:
        asked.append(request)
        return FINE

    answer = answer_to(NODE.replace(b"Host:", b"Host :"), judge, compress=False)
    assert (answer.outcome, asked) == ("bad_request", [])
    answer_to(CLIENTS["Firefox"], judge, compress=False)
    assert asked[0].target.endswith("?cf_ws_frame_ping_pong=true")
    assert list(asked[0].get_all("Host")) == ["edge.example.com"]


@pytest.mark.parametrize("retry_after", [0, 7])
def test_refusal_is_a_whole_response(retry_after: int) -> None:
    """With its date (RFC 9110, section 6.6.1), its length and its end."""
    answer = refusal(Refuse(503, "connection_limit", "Full: «really».", retry_after))
    assert answer.response.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    status, fields, body = told(answer)
    assert (status, body, fields["Connection"]) == (503, "Full: «really».\n", "close")
    assert int(fields["Content-Length"]) == len(body.encode())
    assert parsedate_to_datetime(fields["Date"]).tzinfo is not None
    assert fields.get("Retry-After") == ("7" if retry_after else None)


def test_tokens_that_are_kept_for_others_cannot_be_changed() -> None:
    """All requests with the same fields share them."""
    kept = tokens_of(("keep-alive, Upgrade",))
    assert kept == ("keep-alive", "upgrade")
    assert tokens_of(("keep-alive, Upgrade",)) is kept
    assert tokens_of(("a b",)) == ()
