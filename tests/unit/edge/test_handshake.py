from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers

from tests.support.protocol import protocol
from tidewire.edge.handshake import (
    MAX_QUERY_FIELDS,
    RETRY_AFTER,
    WEBSOCKET_PATH,
    Accept,
    Readiness,
    Refuse,
    decide,
    offered_subprotocols,
)
from tidewire.edge.policies.origins import OriginPolicy

READY = Readiness(connections=0, limit=10, broker=True)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


def decided(query: str = "", *fields: tuple[str, str], ready: Readiness = READY) -> Accept | Refuse:
    """The verdict on a request with this query and these fields beside Host."""
    return decide(WEBSOCKET_PATH + query, Headers([("Host", "edge"), *fields]), OriginPolicy([]), ready)


def refused(query: str = "", *fields: tuple[str, str], ready: Readiness = READY) -> tuple[int, str]:
    """Status and outcome of a refusal."""
    verdict = decided(query, *fields, ready=ready)
    assert isinstance(verdict, Refuse), verdict
    assert verdict.sentence.endswith(".")
    return verdict.status, verdict.outcome


@protocol("format.json", "format.subprotocol")
@pytest.mark.parametrize("field", [None, "", " ", ",", " , "])
def test_no_subprotocol_is_json_and_none_is_answered(field: str | None) -> None:
    """Old Python SDKs send an empty field, which counts as none."""
    fields = [] if field is None else [("Sec-WebSocket-Protocol", field)]
    assert decided("", *fields) == Accept(protobuf=False, subprotocol=None)


@protocol("format.protobuf", "format.subprotocol")
@pytest.mark.parametrize(
    ("fields", "protobuf", "answered"),
    [
        (["centrifuge-protobuf"], True, "centrifuge-protobuf"),
        (["centrifuge-json"], False, "centrifuge-json"),
        (["centrifuge-json, centrifuge-protobuf"], True, "centrifuge-protobuf"),
        (["centrifuge-json", "centrifuge-protobuf"], True, "centrifuge-protobuf"),
        (["other,centrifuge-json"], False, "centrifuge-json"),
        (["other"], False, None),
        (["Centrifuge-Protobuf"], False, None),
    ],
)
def test_offered_subprotocol_chooses_the_format(
    fields: list[str], protobuf: bool, answered: str | None
) -> None:
    """It may stand in several fields; what was not offered is never answered."""
    found = decided("", *(("Sec-WebSocket-Protocol", field) for field in fields))
    assert found == Accept(protobuf=protobuf, subprotocol=answered)


@protocol("format.protobuf", "transport.frame_ping")
@pytest.mark.parametrize(
    ("query", "protobuf"),
    [
        ("?cf_protocol=protobuf", True),
        ("?format=protobuf", True),
        ("?cf_protocol_version=v2&format=protobuf", True),
        ("?cf_protocol=json", False),
        ("?format=Protobuf", False),
        ("?cf_ws_frame_ping_pong=true", False),
        ("?", False),
        ("?x=protobuf", False),
    ],
)
def test_query_chooses_the_format_too(query: str, protobuf: bool) -> None:
    """Without a subprotocol there is none to echo; other parameters are ignored."""
    assert decided(query) == Accept(protobuf=protobuf, subprotocol=None)


@protocol("handshake.token_in_url")
@pytest.mark.parametrize(
    "query",
    [
        "?token=x",
        "?a=b&TOKEN=x",
        "?token",
        "?t%6Fken=x",
        "?access_token=x",
        "?jwt=",
        "?authorization=x",
        "?api_key=1",
        f"?anything={JWT}",
        f"?x=%65yJ{JWT[3:]}",
    ],
)
def test_token_in_the_url_is_refused(query: str) -> None:
    """By its name or by its shape, percent-encoded or not; before anything else is looked at."""
    away = Readiness(0, 0, broker=False)
    assert refused(query, ("Origin", "https://evil.example"), ready=away) == (400, "token_in_url")
    verdict = decided(query)
    assert isinstance(verdict, Refuse)
    assert JWT not in verdict.sentence


@protocol("handshake.token_in_url")
@pytest.mark.parametrize("value", ["eyJ" * 2_600, "eyJ" * 1_300 + "." + "eyJ" * 1_300])
def test_what_only_begins_like_tokens_is_looked_at_once(value: str) -> None:
    """8 KiB of it would hold the loop for 0.1 s otherwise, for each handshake of whoever likes."""
    began = time.process_time()
    assert isinstance(decided(f"?x={value}"), Accept)
    assert time.process_time() - began < 0.02
    assert refused(f"?x={value}.e30.x") == (400, "token_in_url")


@protocol("handshake.token_in_url")
@pytest.mark.parametrize("query", ["?tokens=1", "?x=eyJ", "?x=eyJ.y", "?x=a.b.c", "?mytoken=1"])
def test_what_is_no_token_passes(query: str) -> None:
    """Neither the name nor the shape."""
    assert isinstance(decided(query), Accept)


@protocol("handshake.origin")
def test_origin_is_asked_before_readiness() -> None:
    """A foreign page learns nothing about the edge."""
    away = Readiness(99, 1, broker=False)
    assert refused("", ("Origin", "https://evil.example"), ready=away) == (403, "origin")
    assert refused("", ("Origin", "https://edge"), ("Origin", "https://edge")) == (403, "origin")
    assert isinstance(decided("", ("Origin", "https://edge")), Accept)


@protocol("handshake.limit", "handshake.broker_away")
@pytest.mark.parametrize(
    ("ready", "outcome"),
    [
        (Readiness(9, 10, broker=True), None),
        (Readiness(10, 10, broker=True), "connection_limit"),
        (Readiness(11, 10, broker=True), "connection_limit"),
        (Readiness(0, 10, broker=False), "broker_away"),
    ],
)
def test_edge_that_cannot_serve_says_when_to_come_back(ready: Readiness, outcome: str | None) -> None:
    """503 with Retry-After, so that balancers and clients try another edge."""
    verdict = decided(ready=ready)
    if outcome is None:
        assert isinstance(verdict, Accept)
    else:
        assert isinstance(verdict, Refuse)
        assert (verdict.status, verdict.outcome, verdict.retry_after) == (503, outcome, RETRY_AFTER)


def test_query_without_end_is_refused() -> None:
    """The number of fields is bounded."""
    assert refused("?" + "&".join(["a=1"] * (MAX_QUERY_FIELDS + 1))) == (400, "bad_request")
    assert isinstance(decided("?" + "&".join(["a=1"] * MAX_QUERY_FIELDS)), Accept)


@given(
    st.text(st.characters(max_codepoint=255)),
    st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]))),
)
def test_every_target_and_field_gets_a_verdict(query: str, fields: list[str]) -> None:
    """Never an error inside; a subprotocol that is answered was offered."""
    headers = Headers([("Sec-WebSocket-Protocol", field) for field in fields])
    verdict = decide(WEBSOCKET_PATH + "?" + query, headers, OriginPolicy([]), READY)
    if isinstance(verdict, Accept):
        assert verdict.subprotocol is None or verdict.subprotocol in offered_subprotocols(headers)


@given(st.text(max_size=20), st.text(max_size=20), st.booleans())
def test_no_jwt_passes_in_a_query_value(before: str, after: str, plus: bool) -> None:
    """Whatever stands around its parameter."""
    separator = "&" if plus else "&&"
    query = f"?a={_quoted(before)}{separator}b={JWT}&c={_quoted(after)}"
    assert refused(query) == (400, "token_in_url")


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode(errors="replace"))


@pytest.mark.parametrize("hosts", [[], ["a.example", "b.example"]])
def test_a_request_has_exactly_one_host(hosts: list[str]) -> None:
    """RFC 9112, section 3.2."""
    headers = Headers([("Host", host) for host in hosts])
    verdict = decide(WEBSOCKET_PATH, headers, OriginPolicy([]), READY)
    assert isinstance(verdict, Refuse)
    assert verdict.status == 400


@protocol("handshake.token_in_url")
@pytest.mark.parametrize(
    "query", ["x=Bearer%20eyJhbGciOiJIUzI1NiJ9.e30.x", "cf_connect=%7B%22token%22%3A%22eyJhbGci.e30.x%22%7D"]
)
def test_a_token_is_found_anywhere_in_a_value(query: str) -> None:
    """Not only at its start."""
    headers = Headers([("Host", "a.example")])
    verdict = decide(f"{WEBSOCKET_PATH}?{query}", headers, OriginPolicy([]), READY)
    assert isinstance(verdict, Refuse)
    assert verdict.outcome == "token_in_url"


# Tokens in header fields.


def bearer(*fields: tuple[str, str], cookie: str = "") -> str:
    """The token that a request with these fields brings."""
    headers = Headers([("Host", "edge"), *fields])
    verdict = decide(WEBSOCKET_PATH, headers, OriginPolicy([]), READY, cookie)
    assert isinstance(verdict, Accept), verdict
    return verdict.bearer


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer abc.def", "abc.def"),
        ("bearer abc", "abc"),
        ("BEARER  abc ", "abc"),
        (" Bearer abc", "abc"),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("Basic YTpi", ""),
        ("abc", ""),
        ("", ""),
        ("Bearerabc", ""),
        ("Token Bearer abc", ""),
    ],
)
def test_bearer_token_of_the_authorization_field(value: str, token: str) -> None:
    """RFC 6750, section 2.1; the scheme's case does not matter, other schemes are not ours."""
    assert bearer(("Authorization", value)) == token
    assert bearer(("authorization", value)) == token


@pytest.mark.parametrize("values", [["Bearer a", "Bearer a"], ["Bearer a", "Basic x"], ["", ""]])
def test_two_authorization_fields_are_ambiguous(values: list[str]) -> None:
    """Whoever stands between us and the client may have read the other one."""
    fields = [("Authorization", value) for value in values]
    assert refused("", *fields) == (400, "bad_request")


@pytest.mark.parametrize(
    ("fields", "token"),
    [
        ([], ""),
        (["tw=abc"], "abc"),
        (["a=1; tw=abc; b=2"], "abc"),
        (["a=1;tw=abc"], "abc"),
        (["a=1", "tw=abc"], "abc"),
        (["tw=first; tw=second"], "first"),
        (['tw="abc"'], "abc"),
        (["tw=a=b"], "a=b"),
        (["tw="], ""),
        (["tw"], ""),
        (["TW=abc"], ""),
        (["xtw=abc; tw2=abc"], ""),
        (["a=tw=abc"], ""),
        (["=x; ;; tw=abc"], "abc"),
    ],
)
def test_token_of_the_configured_cookie(fields: list[str], token: str) -> None:
    """The first of that very name; without a configured name no cookie is looked at."""
    cookies = [("Cookie", field) for field in fields]
    assert bearer(*cookies, cookie="tw") == token
    assert bearer(*cookies) == ""


def test_authorization_field_beats_the_cookie() -> None:
    """Where it holds a bearer token; a proxy's own credentials do not hide the cookie."""
    cookie = ("Cookie", "tw=c")
    assert bearer(("Authorization", "Bearer b"), cookie, cookie="tw") == "b"
    assert bearer(("Authorization", "Basic b"), cookie, cookie="tw") == "c"
    assert bearer(("Authorization", "Bearer "), cookie, cookie="tw") == ""


def test_token_comes_along_in_every_format() -> None:
    """By subprotocol, by query and without both."""
    field = ("Authorization", "Bearer b")
    for query, fields in (
        ("", []),
        ("?format=protobuf", []),
        ("", [("Sec-WebSocket-Protocol", "centrifuge-protobuf")]),
        ("", [("Sec-WebSocket-Protocol", "centrifuge-json")]),
    ):
        verdict = decided(query, field, *fields)
        assert isinstance(verdict, Accept)
        assert verdict.bearer == "b"


def test_page_of_another_origin_cannot_use_a_cookie() -> None:
    """Browsers send cookies with the handshakes of every page, and the Origin too."""
    headers = Headers([("Host", "edge"), ("Origin", "https://evil.example"), ("Cookie", "tw=c")])
    verdict = decide(WEBSOCKET_PATH, headers, OriginPolicy([]), READY, "tw")
    assert isinstance(verdict, Refuse)
    assert verdict.outcome == "origin"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Authorization", "Cookie"]),
            st.text(st.characters(codec="ascii", exclude_categories=["Cc"])),
        )
    )
)
def test_every_credential_field_gets_a_verdict(fields: list[tuple[str, str]]) -> None:
    """Never an error inside."""
    headers = Headers([("Host", "edge"), *fields])
    verdict = decide(WEBSOCKET_PATH, headers, OriginPolicy([]), READY, "tw")
    assert isinstance(verdict, Accept) or verdict.outcome == "bad_request"
