"""Upgrade requests as clients send them: those of Firefox and Autobahn written down, all others captured from their sockets.

Host, Origin and key are ours.
"""

from __future__ import annotations

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455, section 1.3."""
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""What answers it there."""

_CHROME = """\
Host: edge.example.com
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36
Upgrade: websocket
Origin: https://edge.example.com
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
Cookie: session=4f1c2a; theme=dark
Sec-WebSocket-Key: {key}
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
Sec-WebSocket-Protocol: centrifuge-protobuf"""

_FIREFOX = """\
Host: edge.example.com
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0
Accept: */*
Accept-Language: en-US,en;q=0.5
Accept-Encoding: gzip, deflate, br, zstd
Sec-WebSocket-Version: 13
Origin: https://edge.example.com
Sec-WebSocket-Extensions: permessage-deflate
Sec-WebSocket-Key: {key}
Connection: keep-alive, Upgrade
Sec-Fetch-Dest: empty
Sec-Fetch-Mode: websocket
Sec-Fetch-Site: same-origin
Pragma: no-cache
Cache-Control: no-cache
Upgrade: websocket"""

_NODE_WS = """\
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
Host: edge.example.com"""

_PYTHON_WEBSOCKETS = """\
Host: edge.example.com
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Key: {key}
Sec-WebSocket-Version: 13
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
Sec-WebSocket-Protocol: centrifuge-json
User-Agent: Python/3.11 websockets/17.4"""

_GORILLA = """\
Host: edge.example.com
User-Agent: Go-http-client/1.1
Connection: Upgrade
Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover
Sec-WebSocket-Key: {key}
Sec-WebSocket-Version: 13
Upgrade: websocket"""

_CODER = """\
Host: edge.example.com
User-Agent: Go-http-client/1.1
Connection: Upgrade
Sec-Websocket-Extensions: permessage-deflate
Sec-Websocket-Key: {key}
Sec-Websocket-Version: 13
Upgrade: websocket
Accept-Encoding: gzip"""

_AUTOBAHN = """\
User-Agent: AutobahnTestSuite/0.8.2-0.10.9
Host: edge.example.com
Upgrade: WebSocket
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
Sec-WebSocket-Key: {key}
Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; client_max_window_bits
Sec-WebSocket-Version: 13"""


def _request(fields: str, query: str = "") -> bytes:
    return f"GET /connection/websocket{query} HTTP/1.1\n{fields.format(key=KEY)}\n\n".replace(
        "\n", "\r\n"
    ).encode()


CLIENTS = {
    "Chrome": _request(_CHROME),
    "Firefox": _request(_FIREFOX, "?cf_ws_frame_ping_pong=true"),
    "Node ws": _request(_NODE_WS),
    "Python websockets": _request(_PYTHON_WEBSOCKETS),
    "Go gorilla": _request(_GORILLA),
    "Go coder": _request(_CODER),
    "Autobahn": _request(_AUTOBAHN),
}
