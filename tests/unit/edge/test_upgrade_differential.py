from __future__ import annotations

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from tests.support.compared_upgrades import compare
from tests.support.protocol import protocol
from tests.support.upgrade_requests import CLIENTS, KEY
from tidewire.edge.handshake import WEBSOCKET_PATH
from tidewire.edge.request_head import HEAD_END, path_of


@protocol("transport.websocket", "transport.deflate")
def test_clients_get_what_websockets_would_answer() -> None:
    """Each of them, with compression and without."""
    for head in CLIENTS.values():
        for compress in (False, True):
            answer = compare(head, compress=compress)
            assert answer.outcome == "accepted"
            assert answer.window_bits == (15 if compress and b"permessage-deflate" in head else 0)


pieces = st.sampled_from(
    [
        *(bytes((byte,)) for byte in b'\r\n\t\x00\x7f\x80 :,;="\\#?/@x1'),
        *(b"\r\n", b"\r\n ", b"websocket", b"upgrade", b"Upgrade, ", b", ", b"; ", b"GET ", b"HTTP/1.0", b"HTTP/2.0"),
        *(b"permessage-deflate", b"server_max_window_bits=9", b"client_max_window_bits", b'="10"'),
    ]
)  # fmt: skip
lines = st.builds(
    lambda name, colon, value: name + colon + value,
    st.sampled_from(
        [
            *(b"Host", b"Connection", b"Upgrade", b"Sec-WebSocket-Key", b"sec-websocket-version", b"Origin"),
            *(b"Sec-WebSocket-Extensions", b"SEC-WEBSOCKET-PROTOCOL", b"Content-Length", b"Transfer-Encoding"),
            *(b"Authorization", b"X", b"", b" X", b"X Y", b"X\xff"),
        ]
    ),
    st.sampled_from([b": ", b":", b" :", b":\t ", b"", b"::"]),
    st.one_of(
        st.sampled_from(
            [
                *(b"", b"0", b"13", b"websocket", b"Upgrade", b"keep-alive", b",", b", upgrade ,", b"edge.example.com"),
                *(b"chunked", b"00", b"0, 0", b"https://edge.example.com", KEY.encode(), KEY[:-1].encode(), b"a b"),
                *(b"permessage-deflate; server_max_window_bits=9", b'permessage-deflate;client_max_window_bits="9"'),
                *(b"x;y=z , permessage-deflate", b"permessage-deflate;", b'permessage-deflate; x="\\a"', b'a;b="c d"'),
            ]
        ),
        st.binary(max_size=4),
    ),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A client's request, with a few of its lines moved, doubled, lost or changed, and bytes anywhere."""
    head = draw(st.sampled_from(list(CLIENTS.values())))
    first, *fields = head.removesuffix(HEAD_END).split(b"\r\n")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(fields)))
        match draw(st.sampled_from(["add", "drop", "double", "move", "replace"])):
            case "add":
                fields.insert(at, draw(lines))
            case "drop":
                del fields[at : at + 1]
            case "double":
                fields.extend(fields[at : at + 1])
            case "move":
                fields.extend([fields.pop(at)] if at < len(fields) else [])
            case _:
                fields[at : at + 1] = [draw(lines)]
    whole = b"\r\n".join([first, *fields])
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(whole)))
        whole = whole[:at] + draw(pieces) + whole[at + draw(st.integers(0, 2)) :]
    return (whole + HEAD_END).partition(HEAD_END)[0] + HEAD_END


@protocol("transport.websocket", "transport.deflate")
@given(mutated(), st.booleans())
@settings(max_examples=500)
def test_nothing_is_accepted_that_websockets_refuses(head: bytes, compress: bool) -> None:
    """And nearly nothing is refused that it accepts."""
    assume(path_of(head) == WEBSOCKET_PATH)
    answer = compare(head, compress=compress)
    event(answer.response.split(b"\r\n")[0].decode())


windows = st.builds(
    lambda name, bits: name + bits,
    st.sampled_from(["server_max_window_bits", "client_max_window_bits"]),
    st.sampled_from(
        ["=9", "=10", "=11", "=14", "=15"] * 5
        + ["", "=8", "=16", "=7", "=09", '="10"', '="1\\1"', " = 12", "=", '=""', '="a b"']
    ),
)
takeovers = st.sampled_from(["server_no_context_takeover", "client_no_context_takeover"])
odd = st.sampled_from(["unknown", "", "server_no_context_takeover=1"])
offers = st.builds(
    lambda name, asked, mark: mark.join([name, *asked]),
    st.sampled_from(["permessage-deflate"] * 6 + ["x-webkit-deflate-frame", "a b", ""]),
    st.lists(st.one_of(windows, windows, takeovers, odd), max_size=2),
    st.sampled_from([";", "; ", " ;\t"]),
)
values = st.builds(
    lambda mark, offered: mark.join(offered),
    st.sampled_from([",", ", ", " , ,"]),
    st.lists(offers, min_size=1, max_size=3),
)


@protocol("transport.deflate")
@given(st.lists(values, max_size=2))
@settings(max_examples=500)
def test_offers_of_compression_get_the_answer_of_websockets(fields: list[str]) -> None:
    """In any number of fields; RFC 7692, section 7.1."""
    bare = CLIENTS["Autobahn"].split(HEAD_END)[0].replace(b"Sec-WebSocket-Extensions", b"X-Other")
    more = [f"Sec-WebSocket-Extensions: {value}" for value in fields]
    answer = compare("\r\n".join([bare.decode(), *more, "", ""]).encode(), compress=True)
    event(f"{answer.outcome}, window {answer.window_bits}")
