"""The opening handshake's answer: a correct upgrade, or why not (RFC 6455, section 4.2). Pure, and keeps nothing."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from hashlib import sha1
from http import HTTPStatus

import msgspec

from tidewire.edge.extensions import Agreement, agree_on_deflate
from tidewire.edge.handshake import WEBSOCKET_PATH, Accept, Refuse
from tidewire.edge.request_head import RequestHead, parse_head
from tidewire.kernel.http_grammar import TOKEN, list_of

NOT_HERE = Refuse(404, "not_found", f"Tidewire edge: WebSocket clients connect at {WEBSOCKET_PATH}.")
"""For any other path, where there are no pages."""
NO_REQUEST = Refuse(400, "bad_request", "This is no HTTP request (RFC 9112, section 3).")
WRONG_METHOD = Refuse(405, "bad_upgrade", "An upgrade is a GET (RFC 6455, section 4.2.1).")
WRONG_HTTP = Refuse(505, "bad_upgrade", "An upgrade needs version 1.1 of HTTP (RFC 6455, section 4.2.1).")
NO_UPGRADE = Refuse(426, "bad_upgrade", "Only WebSockets are served here: no upgrade was asked for.")
WRONG_KEY = Refuse(
    400, "bad_upgrade", "An upgrade has one Sec-WebSocket-Key, 16 bytes in base64 (RFC 6455, section 4.2.1)."
)
WRONG_VERSION = Refuse(426, "bad_upgrade", "Sec-WebSocket-Version is 13 here (RFC 6455, section 4.4).")
WRONG_EXTENSIONS = Refuse(
    400, "bad_upgrade", "Sec-WebSocket-Extensions is no list of extensions (RFC 6455, section 9.1)."
)

_TOKEN = re.compile(TOKEN)
_TOKENS = re.compile(list_of(TOKEN))
_KEY = re.compile(r"[0-9A-Za-z+/]{22}==")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_OBLIGATIONS = {
    405: "Allow: GET\r\n",
    426: "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
}
"""Fields that a status brings with it (RFC 9110, sections 7.8, 15.5.6 and 15.5.22; RFC 6455, section 4.4)."""


class Answer(msgspec.Struct, frozen=True):
    """What the socket is sent. `accept` is None for a refusal; `outcome` and the request's `origin` are for the log.

    `window_bits` is the window to compress with, 0 where that was not agreed on.
    """

    response: bytes
    outcome: str
    origin: str = ""
    accept: Accept | None = None
    window_bits: int = 0


def answer_to(head: bytes, judge: Callable[[RequestHead], Accept | Refuse], *, compress: bool) -> Answer:
    """Answer the request whose head this is; `judge` says whether it may become a connection, if it is an upgrade."""
    request = parse_head(head)
    if isinstance(request, Refuse):
        return refusal(request)
    verdict = judge(request)
    if isinstance(verdict, Refuse):
        return refusal(verdict, request)
    return _upgrade(request, verdict, compress=compress)


def refusal(refuse: Refuse, request: RequestHead | None = None) -> Answer:
    """Answer with a status and one sentence, behind which the connection closes."""
    body = f"{refuse.sentence}\n".encode()
    retry = f"Retry-After: {refuse.retry_after}\r\n" if refuse.retry_after else ""
    response = (
        f"HTTP/1.1 {refuse.status} {HTTPStatus(refuse.status).phrase}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\n"
        "Connection: close\r\n"
        f"{retry}{_OBLIGATIONS.get(refuse.status, '')}"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    origin = ", ".join(request.get_all("Origin")) if request is not None else ""
    return Answer(response.encode() + body, refuse.outcome, origin)


def _upgrade(request: RequestHead, accept: Accept, *, compress: bool) -> Answer:
    fault = _fault(request)
    if fault is not None:
        return refusal(fault, request)
    try:
        agreement = agree_on_deflate(request.get_all("Sec-WebSocket-Extensions")) if compress else None
    except ValueError:
        return refusal(WRONG_EXTENSIONS, request)
    response = _switching(request.get_all("Sec-WebSocket-Key")[0], accept.subprotocol, agreement)
    return Answer(response, "accepted", accept=accept, window_bits=agreement.window_bits if agreement else 0)


def _fault(request: RequestHead) -> Refuse | None:
    """Return what makes this no correct upgrade (section 4.2.1)."""
    if request.method != "GET":
        return WRONG_METHOD
    if request.version != "HTTP/1.1":
        return WRONG_HTTP
    if "upgrade" not in _tokens(request, "Connection") or _tokens(request, "Upgrade") != ("websocket",):
        return NO_UPGRADE
    keys = request.get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        return WRONG_KEY
    if request.get_all("Sec-WebSocket-Version") != ["13"]:
        return WRONG_VERSION
    return None


def _tokens(request: RequestHead, name: str) -> tuple[str, ...]:
    """Return the tokens that a field lists, in lower case; none where a value of it is no list of tokens."""
    return tokens_of(tuple(request.get_all(name)))


@lru_cache(maxsize=64)  # a request's head, which these are of, has a bound; nearly all clients send the same
def tokens_of(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tokens of a field's values, in lower case; none where one of them is no list of tokens."""
    if not all(map(_TOKENS.fullmatch, values)):
        return ()
    return tuple(_TOKEN.findall(",".join(values).lower()))


def _switching(key: str, subprotocol: str | None, agreement: Agreement | None) -> bytes:
    """Return the response that ends HTTP on this connection (section 4.2.2)."""
    accept = b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    response = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n"
    )
    if agreement is not None:
        response += f"Sec-WebSocket-Extensions: {agreement.answer}\r\n"
    if subprotocol is not None:
        response += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    return (response + "\r\n").encode()
