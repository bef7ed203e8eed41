from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.upgrade_requests import CLIENTS
from tidewire.edge.handshake import Refuse
from tidewire.edge.request_head import (
    HAS_BODY,
    HEAD_END,
    LINE_TOO_LONG,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_LINE,
    TOO_MANY_FIELDS,
    RequestHead,
    parse_head,
    path_of,
)

FIRST = "GET /connection/websocket HTTP/1.1"


def parsed(*lines: str, first: str = FIRST) -> RequestHead | Refuse:
    """What is made of a request of these lines."""
    return parse_head("\r\n".join([first, *lines, "", ""]).encode("latin-1"))


def fields(*lines: str) -> dict[str, list[str]]:
    """The fields of a request that is one."""
    head = parsed(*lines)
    assert isinstance(head, RequestHead), head
    return head.fields


def malformed(line: int) -> Refuse:
    """The refusal that names this line."""
    return Refuse(400, "bad_request", f"Line {line} of the request's head is malformed (RFC 9112).")


def test_request_of_a_browser() -> None:
    """Nothing of it is lost, and names are found in any case."""
    head = parse_head(CLIENTS["Firefox"])
    assert isinstance(head, RequestHead)
    assert (head.method, head.version) == ("GET", "HTTP/1.1")
    assert head.target == "/connection/websocket?cf_ws_frame_ping_pong=true"
    assert len(head.fields) == CLIENTS["Firefox"].count(b"\r\n") - 2
    assert head.get_all("SEC-websocket-Version") == ["13"]
    assert head.get_all("Connection") == ["keep-alive, Upgrade"]
    assert not head.get_all("X-Forwarded-For")


def test_values_of_one_field_stay_in_order_and_lose_the_space_around_them() -> None:
    """Space and tab (RFC 9112, section 5.1), not what else Unicode calls a space."""
    found = fields("A: 1", "b:2", "a:\t 3 \t", "A:", "c: \x85x\xa0", "d::", "e: a: b")
    assert found == {"a": ["1", "3", ""], "b": ["2"], "c": ["\x85x\xa0"], "d": [":"], "e": ["a: b"]}
    assert fields() == {}


@pytest.mark.parametrize(
    "first",
    [
        "GET  /connection/websocket HTTP/1.1",
        "GET\t/connection/websocket HTTP/1.1",
        " GET /connection/websocket HTTP/1.1",
        "GET /connection/websocket HTTP/1.1 ",
        "GET /connection/websocket",
        "GET /connection/websocket http/1.1",
        "GET /connection/websocket HTTP/1",
        "GET /connection/websocket HTTP/1.10",
        "GET /connection/websocket HTTP/1.1\r",
        "GET /connection/websocket?\x00 HTTP/1.1",
        "GET /connection/websocket?\x7f HTTP/1.1",
        "GET /connection/websocket?\xe9 HTTP/1.1",
        "GET /connection/websocket#token HTTP/1.1",
        "G:T /connection/websocket HTTP/1.1",
        "G(T /connection/websocket HTTP/1.1",
        " /connection/websocket HTTP/1.1",
    ],
    ids=ascii,
)
def test_request_line_has_one_form(first: str) -> None:
    """RFC 9112, section 3: single spaces, a token, a target of visible ASCII without fragment, a version."""
    assert parsed("Host: edge", first=first) == malformed(1)
    assert parsed("Host : edge", first=first) == malformed(1)


@pytest.mark.parametrize(
    "line",
    [
        "Host : edge",
        "Host\t: edge",
        " Host: edge",
        "\tfolded",
        "Host",
        "GET / HTTP/1.1",
        ": edge",
        "Ho st: edge",
        "H\xf6st: edge",
        "H(st: edge",
        "Host: ed\x00ge",
        "Host: ed\x1bge",
        "Host: ed\x7fge",
        "Host: ed\nge",
        "Host: edge\n",
        "Host: ed\rge",
        "Host: edge\r",
        "\nHost: edge",
        "Host: a\nTransfer-Encoding: chunked",
    ],
    ids=ascii,
)
def test_field_line_has_one_form(line: str) -> None:
    """RFC 9112, sections 2.2, 5 and 5.2: no folding, no space before the colon, no line end but CRLF, no control bytes."""
    assert parsed("X: 1", line, "Y: 2") == malformed(3)
    assert parsed("X: 1", line) == malformed(3)


def test_refusal_tells_nothing_of_the_request() -> None:
    """It goes into a response, and its sentence is one of ours."""
    refuse = parsed("Authorization: Bearer secret\x00")
    assert refuse == malformed(2)


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: chunked"],
        ["transfer-encoding:"],
        ["Content-Length: 1"],
        ["Content-Length: 00"],
        ["Content-Length: 0", "content-length: 5"],
        ["Content-Length: 0, 0"],
        ["Content-Length:"],
        ["Content-Length: +0"],
    ],
)
def test_body_is_refused(lines: list[str]) -> None:
    """What came behind the head would be a body to the one, frames to the other (RFC 9112, section 11.2)."""
    assert parsed("Host: edge", *lines) == HAS_BODY


def test_empty_body_may_be_announced() -> None:
    """Some devices do."""
    assert fields("Content-Length: 0", "Content-Length: 0") == {"content-length": ["0", "0"]}


def test_number_of_fields_is_bounded() -> None:
    """Also where all have one name."""
    assert len(fields(*(f"X{n}: 1" for n in range(MAX_FIELDS)))) == MAX_FIELDS
    assert parsed(*(f"X{n}: 1" for n in range(MAX_FIELDS + 1))) == TOO_MANY_FIELDS
    assert parsed(*["X: 1"] * (MAX_FIELDS + 1)) == TOO_MANY_FIELDS


def test_length_of_a_line_is_bounded() -> None:
    """Its CRLF counts; several long lines that keep the bound are fine."""
    longest = "X: " + "x" * (MAX_LINE - 5)
    assert len(fields(longest, longest)["x"]) == 2
    assert parsed(longest + "x") == LINE_TOO_LONG
    target = "/connection/websocket?" + "x" * (MAX_LINE - 37)
    assert isinstance(parsed(first=f"GET {target} HTTP/1.1"), RequestHead)
    assert parsed(first=f"GET {target}x HTTP/1.1") == LINE_TOO_LONG


@pytest.mark.parametrize("piece", ["a", ":", " ", "a:\r\n", "a: b\r\n", "\t", "\x80", "\r\n "], ids=ascii)
@pytest.mark.parametrize("first", ["", "GET ", FIRST + "\r\n", FIRST + "\r\na:"])
def test_time_grows_with_the_size_only(first: str, piece: str) -> None:
    """Anyone may send 16 KiB that fail in their last byte."""
    head = (first + piece * (MAX_HEAD // len(piece)) + "\x00").encode("latin-1") + HEAD_END
    began = time.process_time()
    assert isinstance(parse_head(head), Refuse)
    path_of(head)
    assert time.process_time() - began < 0.1


@given(st.binary(max_size=80), st.booleans())
def test_every_head_gets_a_verdict(data: bytes, begun: bool) -> None:
    """Never an error inside."""
    head = (FIRST.encode() + b"\r\n" if begun else b"") + data.partition(HEAD_END)[0] + HEAD_END
    path_of(head)
    found = parse_head(head)
    assert isinstance(found, RequestHead) or found.outcome == "bad_request"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("GET /connection/websocket HTTP/1.1", "/connection/websocket"),
        ("GET /a?b=/c?d HTTP/1.1", "/a"),
        ("POST http://edge.example/a?b HTTP/1.1", "/a"),
        ("GET https://edge.example:8000/a HTTP/1.1", "/a"),
        ("GET http://edge.example HTTP/1.1", "/"),
        ("GET http://edge.example?/a HTTP/1.1", "/"),
        ("GET * HTTP/1.1", "*"),
        ("GET /a", ""),
        ("GET /a b HTTP/1.1", ""),
        ("", ""),
    ],
)
def test_path(line: str, path: str) -> None:
    """RFC 9112, section 3.2."""
    assert path_of(line.encode() + HEAD_END) == path
