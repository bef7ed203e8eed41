"""The head of an HTTP/1.1 request, read strictly (RFC 9112, sections 2 to 6). Pure: bytes in, a request or a refusal out.

What RFC 9112 leaves to a server's tolerance is refused, since whoever stands in front may have read it otherwise: folded
lines, a line end that is not CRLF, whitespace before a colon, control bytes, and a body, which an upgrade never has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from tidewire.edge.handshake import Refuse
from tidewire.kernel.http_grammar import TOKEN

MAX_HEAD = 16 * 1024
"""Bytes of a request's head; browsers with many cookies stay below it."""
MAX_LINE = 8 * 1024
"""Bytes of one line of it, with its CRLF."""
MAX_FIELDS = 128
HEAD_END = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rf'({TOKEN}) ([!-"$-~]++) (HTTP/[0-9]\.[0-9])')
_FIELD_LINE = re.compile(rf"{TOKEN}:[\t -~\x80-\xff]*+")
_HEAD = re.compile(rf"{_REQUEST_LINE.pattern}\r\n((?:{_FIELD_LINE.pattern}\r\n)*)\r\n")

HEAD_TOO_LARGE = Refuse(431, "head_too_large", "The request's head is over 16 KiB.")
LINE_TOO_LONG = Refuse(400, "bad_request", "A line of the request's head is over 8 KiB.")
TOO_MANY_FIELDS = Refuse(400, "bad_request", "The request's head has more than 128 fields.")
HAS_BODY = Refuse(
    400, "bad_request", "An upgrade has no body: no Transfer-Encoding, and no Content-Length but 0."
)


class RequestHead(msgspec.Struct, frozen=True):
    """One request. `target` is its path and query as they came, `fields` are values by lower-case name, in order."""

    method: str
    target: str
    version: str
    fields: dict[str, list[str]]

    def get_all(self, key: str) -> Sequence[str]:
        """Return every value of a field, without whitespace around it; names are case-insensitive."""
        return self.fields.get(key.lower(), ())


def path_of(head: bytes) -> str:
    """Return the path of the request line, without query; "" when there is none."""
    words = head[: head.find(b"\r\n")].split(b" ")
    if len(words) != 3:
        return ""
    path = words[1].partition(b"?")[0]
    if path.startswith((b"http://", b"https://")):  # the absolute form, which servers must take (3.2.2)
        path = b"/" + path.split(b"://", 1)[1].partition(b"/")[2]
    return path.decode("latin-1")


def parse_head(head: bytes) -> RequestHead | Refuse:
    """Read a head, which ends with the first HEAD_END in it."""
    text = head.decode("latin-1")
    found = _HEAD.fullmatch(text)
    if found is None:
        return _malformed(text)
    if len(text) > MAX_LINE and max(map(len, text.split("\r\n"))) > MAX_LINE - 2:
        return LINE_TOO_LONG
    method, target, version, lines = found.groups()
    if lines.count("\r\n") > MAX_FIELDS:
        return TOO_MANY_FIELDS
    fields: dict[str, list[str]] = {}
    for line in lines.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        fields.setdefault(name.lower(), []).append(value.strip(" \t"))
    if "transfer-encoding" in fields or not {"0"}.issuperset(fields.get("content-length", ())):
        return HAS_BODY
    return RequestHead(method, target, version, fields)


def _malformed(text: str) -> Refuse:
    """Say which line it is; nothing of what it holds goes back."""
    first, *fields = text.removesuffix("\r\n\r\n").split("\r\n")
    wrong = (number for number, line in enumerate(fields, 2) if not _FIELD_LINE.fullmatch(line))
    number = next(wrong) if _REQUEST_LINE.fullmatch(first) else 1
    return Refuse(400, "bad_request", f"Line {number} of the request's head is malformed (RFC 9112).")
