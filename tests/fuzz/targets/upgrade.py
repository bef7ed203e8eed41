"""Upgrade requests beside websockets' `ServerProtocol`. Input: a byte of flags, then the head of a request."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode

from tests.support.compared_upgrades import compare
from tests.support.upgrade_requests import CLIENTS
from tidewire.edge.handshake import WEBSOCKET_PATH
from tidewire.edge.request_head import HEAD_END, path_of
from tidewire.edge.upgrade import Answer

LONGEST = 420
COMPRESS = 1
RESPONSE = re.compile(rb"HTTP/1\.1 [1-5]\d\d [A-Za-z ]+\r\n(?:[A-Za-z-]+: [!-~][ -~]*\r\n)+\r\n")
"""A head that says what its writer meant: no line or field of it came from outside."""
KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)


def check(data: bytes) -> None:
    """Demand that nothing is accepted that the reference refuses, and that the answer is one of ours in form."""
    flags = data[0] if data else 0
    head = (data[1:] + HEAD_END).partition(HEAD_END)[0] + HEAD_END
    if path_of(head) != WEBSOCKET_PATH:
        return
    answer = compare(head, compress=bool(flags & COMPRESS))
    found = RESPONSE.match(answer.response)
    assert found is not None
    assert (answer.accept is not None) == answer.response.startswith(b"HTTP/1.1 101 ")
    if answer.accept is not None:
        _check_accepted(answer, head, found[0])


def _check_accepted(answer: Answer, head: bytes, response: bytes) -> None:
    """RFC 6455, section 4.2, read without a parser."""
    assert response == answer.response
    assert head.startswith(b"GET ")
    assert head.lower().count(b"\r\nhost:") == 1
    (key,) = KEY.findall(head)
    assert len(b64decode(key, validate=True)) == 16
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    assert b"Sec-WebSocket-Accept: " + b64encode(digest) + b"\r\n" in response


_SHORT = (
    b"GET /connection/websocket%b HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b"
)
SEEDS = (
    [bytes((COMPRESS,)) + head.removesuffix(HEAD_END)[: LONGEST - 1] for head in CLIENTS.values()]
    + [
        bytes((COMPRESS,)) + (_SHORT % (query, fields)).removesuffix(b"\r\n")
        for query, fields in (
            (b"", b""),
            (b"?format=protobuf", b"Sec-WebSocket-Protocol: centrifuge-json, centrifuge-protobuf\r\n"),
            (
                b"?cf_protocol=json&x=%E2",
                b"Sec-WebSocket-Protocol: other\r\nSec-WebSocket-Protocol: centrifuge-json\r\n",
            ),
            (b"?token=x", b""),
            (b"?x=\x80", b""),
            (b"?x=\x7f", b""),
            (b"", b"Origin: https://e\r\nAuthorization: Bearer abc\r\nCookie: a=b; token=c\r\n"),
            (b"", b"Origin: null\r\n"),
            (b"", b"Host: e\r\n"),
            (b"", b"Content-Length: 0\r\n"),
            (b"", b"Transfer-Encoding: chunked\r\n"),
            (b"", b"X: y\r\n z\r\n"),
            (b"#", b"X : y\r\n"),
            (b"", b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n"),
            (
                b"",
                b'Sec-WebSocket-Extensions: x;y="a\\"b", permessage-deflate;client_max_window_bits="10"\r\n',
            ),
            (
                b"",
                b"Sec-WebSocket-Extensions: permessage-deflate;server_max_window_bits=8,permessage-deflate\r\n",
            ),
        )
    ]
    + [
        b"\0" + (_SHORT % (b"", b"")).replace(old, new)
        for old, new in (
            (b"13", b"8"),
            (b"HTTP/1.1", b"HTTP/1.0"),
            (b"HTTP/1.1", b"HTTP/2.0"),
            (b"GET", b"POST"),
            (b"websocket\r", b"h2c, websocket\r"),
            (b"Q==", b"R=="),
            (b" /", b" http://e/"),
        )
    ]
)
