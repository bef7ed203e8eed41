"""May this HTTP request become a connection, and in which wire format? Pure: a request in, a verdict out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

import msgspec

if TYPE_CHECKING:
    from tidewire.edge.policies.origins import OriginPolicy

WEBSOCKET_PATH = "/connection/websocket"
PROTOBUF_SUBPROTOCOL = "centrifuge-protobuf"
JSON_SUBPROTOCOL = "centrifuge-json"
MAX_QUERY_FIELDS = 64

_TOKEN_NAMES = frozenset(
    {"token", "access_token", "id_token", "jwt", "auth", "authorization", "api_key", "apikey"}
)
# Looks at a run of these characters once, from its beginning: a try at each `eyJ` in it would take time with its square.
_TOKEN_SHAPE = re.compile(r"(?<![\w-])(?>[\w-]*?eyJ)[\w-]*+\.[\w-]*+\.", re.ASCII)


class HeaderFields(Protocol):
    """The header fields of a request."""

    def get_all(self, key: str) -> Sequence[str]:
        """Return every value of a field, in order; names are case-insensitive."""


class Accept(msgspec.Struct, frozen=True):
    """The request may be upgraded. `subprotocol` is echoed; None where none was offered that we speak.

    `bearer` is a token that came in a header field, "" where there was none.
    """

    protobuf: bool
    subprotocol: str | None
    bearer: str = ""


class Refuse(msgspec.Struct, frozen=True):
    """The request is answered with `status` and one sentence; `outcome` names it in the metrics."""

    status: int
    outcome: str
    sentence: str
    retry_after: int = 0


class Readiness(msgspec.Struct, frozen=True):
    """What the edge itself has to say before any request is looked at."""

    connections: int
    limit: int
    broker: bool


RETRY_AFTER = 2
"""Seconds that a client is told to stay away while the edge cannot take it; the SDKs add their own jitter."""


def offered_subprotocols(headers: HeaderFields) -> list[str]:
    """Return the offered subprotocols. An empty field counts as none: old Python SDKs send one."""
    fields = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
    return [name.strip() for name in fields.split(",") if name.strip()]


def decide(
    target: str, headers: HeaderFields, origins: OriginPolicy, ready: Readiness, cookie: str = ""
) -> Accept | Refuse:
    """Judge a request for the WebSocket path. Whether it is a correct upgrade is `upgrade`'s question.

    `cookie` names the cookie that may hold a token, "" for none.
    """
    query = _query(target)
    if query is None:
        return Refuse(400, "bad_request", "The query string cannot be read.")
    if any(name.lower() in _TOKEN_NAMES or _TOKEN_SHAPE.search(value) for name, value in query):
        return Refuse(
            400, "token_in_url", "A token in the URL is refused, since URLs are logged: send it in connect."
        )
    hosts = headers.get_all("Host")
    if len(hosts) != 1:
        return Refuse(400, "bad_request", "A request has exactly one Host (RFC 9112, section 3.2).")
    if not origins.allows(headers.get_all("Origin"), hosts[0]):
        return Refuse(403, "origin", "This origin is not in the edge's client.allowed_origins.")
    if not ready.broker:
        return Refuse(503, "broker_away", "The broker is away; try again.", RETRY_AFTER)
    if ready.connections >= ready.limit:
        return Refuse(503, "connection_limit", "This edge has all the connections it may have.", RETRY_AFTER)
    bearer = _bearer(headers, cookie)
    if bearer is None:
        return Refuse(400, "bad_request", "A request has at most one Authorization field.")
    return _negotiate(dict(query), offered_subprotocols(headers), bearer)


def _negotiate(query: dict[str, str], offered: Sequence[str], bearer: str) -> Accept:
    by_query = "protobuf" in {query.get("cf_protocol"), query.get("format")}
    if PROTOBUF_SUBPROTOCOL in offered:
        return Accept(protobuf=True, subprotocol=PROTOBUF_SUBPROTOCOL, bearer=bearer)
    subprotocol = JSON_SUBPROTOCOL if JSON_SUBPROTOCOL in offered else None
    return Accept(protobuf=by_query, subprotocol=subprotocol, bearer=bearer)


def _bearer(headers: HeaderFields, cookie: str) -> str | None:
    """Return the token of `Authorization: Bearer` (RFC 6750, section 2.1), else that of the cookie; None: ambiguous."""
    fields = headers.get_all("Authorization")
    if len(fields) > 1:
        return None
    scheme, _, token = fields[0].strip().partition(" ") if fields else ("", "", "")
    if scheme.lower() == "bearer":
        return token.strip()
    return _cookie(headers, cookie) if cookie else ""


def _cookie(headers: HeaderFields, wanted: str) -> str:
    """Return the value of the first cookie of that name (RFC 6265, section 4.2), "" for none."""
    for pair in ";".join(headers.get_all("Cookie")).split(";"):
        name, _, value = pair.strip().partition("=")
        if name == wanted:
            return value.strip().strip('"')
    return ""


def _query(target: str) -> list[tuple[str, str]] | None:
    query = target.partition("?")[2]
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        return None
