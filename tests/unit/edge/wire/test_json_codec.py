from __future__ import annotations

import inspect
import json
import re
import sys
from types import MappingProxyType

import msgspec
import pytest
from centrifuge.codecs import _JsonCodec as SdkCodec  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from tests.support.wire import Plain, commands, json_values, outgoing, plain, without_defaults
from tidewire.edge.wire import json_codec
from tidewire.edge.wire.codec import MalformedFrame
from tidewire.edge.wire.commands import NO_DATA, Command, PublishRequest, SendRequest
from tidewire.edge.wire.json_codec import JSON, MAX_DEPTH, MAX_DIGITS, clean_json, parse_info
from tidewire.edge.wire.replies import (
    ClientInfo,
    ConnectResult,
    Publication,
    PublishResult,
    Push,
    RefreshResult,
    Reply,
    RpcResult,
    SubscribeResult,
    Unsubscribe,
    UnsubscribeResult,
)
from tidewire.kernel.errors import BAD_REQUEST, INTERNAL

raw_values = json_values.map(lambda value: Raw(json.dumps(value).encode()))
# Pieces that put together are now and then JSON, and often nearly.
fragments = st.lists(
    st.sampled_from(
        [
            b"[",
            b"]",
            b"{",
            b"}",
            b",",
            b":",
            b'"',
            b"\\",
            b"\\u",
            b"d83d",
            b"\\ud83d",
            b"\\ude00",
            b"0",
            b"1",
            b"-",
            b".",
            b"e",
            b"E+",
            b"null",
            b"true",
            b"false",
            b"NaN",
            b" ",
            b"\t",
            b"\r",
            b"\n",
            b"\x0b",
            b"\x00",
            b"a",
            b'"a":',
            b'"id"',
            b"\xc3",
            b"\xa9",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xf0\x9f\x98\x80",
            b"\xef\xbb\xbf",
        ]
    ),
    max_size=12,
).map(b"".join)

NOT_JSON = {
    "nothing": b"",
    "space": b"  ",
    "two values": b"1 2",
    "cut off": b'{"a":',
    "comma at the end": b"[1,]",
    "comment": b"[1/**/]",
    "single quotes": b"'a'",
    "name without quotes": b"{a:1}",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "plus": b"+1",
    "leading zero": b"01",
    "no digit after the point": b"1.",
    "byte order mark": b"\xef\xbb\xbf1",
    "form feed": b"\x0c1",
    "null byte": b"1\x00",
    "control character in a text": b'"a\x01b"',
    "newline in a text": b'"a\nb"',
    "unknown escape": b'"\\x41"',
    "half an escape": b'"\\u12"',
    "backslash at the end": b'"\\',
    "byte that is never UTF-8": b'"\xff"',
    "UTF-8 cut off": b'"\xe2\x82"',
    "UTF-8 longer than needed": b'"\xc0\x80"',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "beyond Unicode": b'"\xf4\x90\x80\x80"',
    "bad UTF-8 in a name": b'{"\xff":1}',
}


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def _title(value: object) -> str | None:
    """Name a reply by its field in the ids of tests."""
    return (
        " ".join(name for name in value.__struct_fields__ if getattr(value, name))
        if isinstance(value, Reply)
        else None
    )


def _refuse(constant: str) -> None:
    """Keep NaN and the like out, which the standard library reads although no grammar has them."""
    raise ValueError(constant)


def _outcome(frame: bytes) -> list[Command] | str:
    try:
        return JSON.decode(frame)
    except MalformedFrame as error:
        return error.problem


class TestDecode:
    def test_commands_come_in_the_order_of_their_lines(self) -> None:
        """One line is one command; payloads are the bytes as the client wrote them."""
        frame = b'{"id":1,"publish":{"channel":"a","data":{"x": [1, 2]}}}\n{"id":2,"send":{"data":null}}'
        assert JSON.decode(frame) == [
            Command(id=1, publish=PublishRequest(channel="a", data=Raw(b'{"x": [1, 2]}'))),
            Command(id=2, send=SendRequest(data=Raw(b"null"))),
        ]

    def test_an_absent_payload_is_told_from_null(self) -> None:
        """`data` left out is NO_DATA, which no JSON value equals."""
        (command,) = JSON.decode(b'{"id":1,"publish":{"channel":"a"}}')
        assert command.publish == PublishRequest(channel="a", data=NO_DATA)

    @given(st.lists(commands(json_values), min_size=1, max_size=4))
    def test_what_the_sdk_writes_is_read(self, sent: list[Plain]) -> None:
        """Any fields of any commands arrive as the official SDK sent them, several in one frame."""
        frame = SdkCodec.encode_commands(sent).encode()
        assert [plain(command) for command in JSON.decode(frame)] == [
            without_defaults(command, keep=("data",)) for command in sent
        ]

    @given(commands(json_values))
    def test_text_beyond_ascii_may_stand_as_it_is(self, sent: Plain) -> None:
        """The JavaScript SDK does not escape: the same commands arrive in plain UTF-8."""
        (command,) = JSON.decode(json.dumps(sent, ensure_ascii=False).encode())
        assert plain(command) == without_defaults(sent, keep=("data",))

    @pytest.mark.parametrize("frame", [b"{}\n", b" {}", b"\r\n{}\r\n\n", b"\t{} "])
    def test_space_around_the_frame_is_allowed(self, frame: bytes) -> None:
        """A trailing newline and other white space around the commands mean nothing."""
        assert JSON.decode(frame) == [Command()]

    def test_lines_may_end_in_carriage_return_and_newline(self) -> None:
        """A carriage return before the newline is white space."""
        assert len(JSON.decode(b'{"id":1}\r\n{"id":2}')) == 2

    @pytest.mark.parametrize("frame", [b"", b"\n", b" \t\r\n", b"{}\n\n{}", b"{}\n \n{}"])
    def test_no_command_and_blank_lines_between_commands_are_malformed(self, frame: bytes) -> None:
        """Each line must be a command, and there must be one."""
        with pytest.raises(MalformedFrame):
            JSON.decode(frame)

    @pytest.mark.parametrize(
        "line", [b"null", b"[]", b"1", b'"x"', b'{"id":1}{"id":2}', b'{"id":1} x', b"{}\x00"]
    )
    def test_a_line_is_exactly_one_object(self, line: bytes) -> None:
        """Other values and anything after the object are malformed, and spoil the whole frame."""
        with pytest.raises(MalformedFrame):
            JSON.decode(b"{}\n" + line)

    @pytest.mark.parametrize(
        "line",
        [
            b'{"id":-1}',
            b'{"id":4294967296}',
            b'{"id":"1"}',
            b'{"id":1.5}',
            b'{"id":null}',
            b'{"id":1e99}',
            b'{"id":"1","id":1}',
            b'{"id":1,"publish":[]}',
            b'{"id":1,"publish":{"channel":5}}',
            b'{"id":1,"history":{"since":1}}',
            b'{"id":1,"subscribe":{"offset":-1}}',
            b'{"id":1,"subscribe":{"offset":18446744073709551616}}',
        ],
    )
    def test_a_field_of_the_wrong_type_or_range_is_malformed(self, line: bytes) -> None:
        """Types are those of the protocol: an id has 32 bits, no number is text."""
        with pytest.raises(MalformedFrame):
            JSON.decode(line)

    def test_the_last_of_several_members_of_one_name_counts(self) -> None:
        """RFC 8259, section 4, leaves it open; whichever readers stand before us, all must be of the right type."""
        assert JSON.decode(b'{"id":1,"id":2}') == [Command(id=2)]

    def test_the_largest_id_is_read(self) -> None:
        """An id may use all of its 32 bits."""
        assert JSON.decode(b'{"id":4294967295}') == [Command(id=2**32 - 1)]

    def test_unknown_fields_are_skipped(self) -> None:
        """A newer client may send what this server does not know."""
        assert JSON.decode(b'{"id":1,"later":{"x":[1,{"y":null}]},"ping":{"z":1}}') == JSON.decode(
            b'{"id":1,"ping":{}}'
        )

    @pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON.keys())
    @pytest.mark.parametrize(
        "field", [b'"publish":{"channel":"a","data":%b}', b'"later":%b'], ids=["data", "unknown"]
    )
    def test_what_is_not_json_is_malformed_wherever_it_stands(self, field: bytes, value: bytes) -> None:
        """Payloads and skipped fields are checked as strictly as known fields."""
        with pytest.raises(MalformedFrame):
            JSON.decode(b'{"id":1,' + field % value + b"}")

    @pytest.mark.parametrize(
        "field", [b'"publish":{"channel":"a","data":%b}', b'"later":%b'], ids=["data", "unknown"]
    )
    @pytest.mark.parametrize("depth", [MAX_DEPTH, 1_000, 30_000])
    def test_nesting_is_bounded_wherever_it_stands(self, field: bytes, depth: int) -> None:
        """A depth bomb is malformed, far from the end of the stack and beyond it."""
        with pytest.raises(MalformedFrame, match="nested"):
            JSON.decode(b'{"id":1,' + field % _nested(depth) + b"}")

    def test_nesting_of_known_fields_is_bounded(self) -> None:
        """Filters hold filters, to the same depth."""
        filters = b'{"op":"not","nodes":[' * 500 + b"{}" + b"]}" * 500
        with pytest.raises(MalformedFrame, match="nested"):
            JSON.decode(b'{"id":1,"subscribe":{"channel":"a","tf":' + filters + b"}}")

    def test_a_text_cut_inside_an_emoji_does_not_end_the_connection(self) -> None:
        """`JSON.stringify` escapes a lone surrogate; it becomes U+FFFD, in payloads and in known fields."""
        frame = rb'{"id":1,"publish":{"channel":"\udc00","data":"cut \ud83d"}}'
        (command,) = JSON.decode(frame)
        assert command.publish == PublishRequest(channel="\ufffd", data=Raw(rb'"cut \ufffd"'))

    @given(
        st.binary(max_size=200)
        | fragments
        | fragments.map(lambda value: b'{"id":1,"publish":{"data":%b}}' % value)
    )
    @example(b"[" * 100_000)
    @example(b'{"id":' * 50_000)
    def test_any_bytes_are_commands_or_malformed(self, frame: bytes) -> None:
        """No other error leaves the decoder, whatever a client sends."""
        outcome = _outcome(frame)
        assert isinstance(outcome, str) or all(isinstance(command, Command) for command in outcome)

    def test_the_stack_may_end_before_the_bound_is_reached(self) -> None:
        """Deep inside other calls there is less stack than MAX_DEPTH needs: malformed, not a crash of the session."""

        def call(depth: int) -> list[Command] | str:
            return call(depth - 1) if depth else _outcome(b'{"a":' + _nested(MAX_DEPTH - 1) + b"}")

        used = len(inspect.stack(context=0))
        assert call(sys.getrecursionlimit() - used - 60) == "nested too deep"

    @pytest.mark.parametrize(
        "frame",
        [
            b'{"id":"secret"}',
            b'{"secret"',
            b'{"connect":{"token":"secret\xff"}}',
            b'{"subscribe":{"tf":{"nodes":["secret"]}}}',
        ],
    )
    def test_the_problem_never_repeats_what_the_client_sent(self, frame: bytes) -> None:
        """Frames hold tokens, and problems are logged: the error and what caused it name places only."""
        with pytest.raises(MalformedFrame) as caught:
            JSON.decode(frame)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


class TestEncode:
    @pytest.mark.parametrize(
        ("reply", "line"),
        [
            (Reply(), b"{}"),
            (Reply(id=1, publish=PublishResult()), b'{"id":1,"publish":{}}'),
            (Reply(id=2, subscribe=SubscribeResult()), b'{"id":2,"subscribe":{}}'),
            (Reply(id=3, unsubscribe=UnsubscribeResult()), b'{"id":3,"unsubscribe":{}}'),
            (Reply(id=4, error=BAD_REQUEST), b'{"id":4,"error":{"code":107,"message":"bad request"}}'),
            (
                Reply(id=5, error=INTERNAL),
                b'{"id":5,"error":{"code":100,"message":"internal server error","temporary":true}}',
            ),
            (
                Reply(id=1, connect=ConnectResult(client="c", version="1", ping=25, pong=True)),
                b'{"id":1,"connect":{"client":"c","version":"1","ping":25,"pong":true}}',
            ),
            (
                Reply(
                    id=1,
                    connect=ConnectResult(client="c", version="1", expires=True, ttl=60, data=Raw(b"[]")),
                ),
                b'{"id":1,"connect":{"client":"c","version":"1","expires":true,"ttl":60,"data":[]}}',
            ),
            (Reply(id=6, rpc=RpcResult(data=Raw(b"null"))), b'{"id":6,"rpc":{"data":null}}'),
            (
                Reply(id=7, refresh=RefreshResult(client="", version="")),
                b'{"id":7,"refresh":{"client":"","version":""}}',
            ),
            (
                Reply(
                    push=Push(
                        channel="a", pub=Publication(data=Raw(b"1"), info=ClientInfo(user="", client=""))
                    )
                ),
                b'{"push":{"channel":"a","pub":{"data":1,"info":{"user":"","client":""}}}}',
            ),
            (
                Reply(push=Push(channel="a", unsubscribe=Unsubscribe(code=0, reason=""))),
                b'{"push":{"channel":"a","unsubscribe":{"code":0,"reason":""}}}',
            ),
        ],
        ids=_title,
    )
    def test_the_bytes_of_each_reply(self, reply: Reply, line: bytes) -> None:
        """Defaults are left out; what clients read unchecked is always there."""
        assert JSON.encode([reply]) == line

    @given(st.lists(outgoing(raw_values), min_size=1, max_size=4))
    def test_the_sdk_reads_what_is_written(self, replies: list[Reply]) -> None:
        """The official SDK gets every reply of a frame with every field."""
        frame = JSON.encode(replies)
        assert b"" not in frame.split(b"\n")
        keep = ("data", "conn_info", "chan_info")
        received = [without_defaults(reply, keep=keep) for reply in SdkCodec.decode_replies(frame.decode())]
        assert received == [plain(reply) for reply in replies]


class TestPublication:
    def test_the_bytes_of_a_publication(self) -> None:
        """Payload and sender are embedded as they are, the channel is escaped."""
        item = JSON.publication(
            'a"b', b'{"x": 1}', b'{"user":"42","client":"c"}', MappingProxyType({"k": "v"})
        )
        assert item == (
            b'{"push":{"channel":"a\\"b","pub":{"data":{"x": 1},"info":{"user":"42","client":"c"},"tags":{"k":"v"}}}}'
        )

    def test_no_sender_and_no_tags_leave_no_trace(self) -> None:
        """An empty map of tags is as good as none."""
        assert JSON.publication("a", b"1", None, {}) == b'{"push":{"channel":"a","pub":{"data":1}}}'

    @given(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        json_values,
        st.none() | st.builds(ClientInfo, user=st.just("42"), client=st.just("c"), conn_info=raw_values),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.just("v"), max_size=2),
    )
    def test_the_fast_path_says_the_same_as_a_reply(
        self, channel: str, value: object, info: ClientInfo | None, tags: dict[str, str]
    ) -> None:
        """A publication and the reply that holds it are the same message."""
        data = json.dumps(value).encode()
        sender = None if info is None else msgspec.json.encode(info)
        item = JSON.publication(channel, data, sender, tags)
        push = Reply(push=Push(channel=channel, pub=Publication(data=Raw(data), info=info, tags=tags)))
        assert json.loads(item) == json.loads(JSON.encode([push]))

    @pytest.mark.parametrize(
        "info",
        [
            b"",
            b"x",
            b"[]",
            b"null",
            b'{"user":"42"}',
            b'{"user":42,"client":"c"}',
            b'{"user":"\xff","client":"c"}',
            b'{"user":"42","client":"c"}}',
            b'{"user":"42","client":"c","conn_info":%b}' % _nested(2_000),
        ],
    )
    def test_a_sender_that_no_client_could_read_is_left_out(self, info: bytes) -> None:
        """What stands in a header of a message need not be a ClientInfo."""
        assert JSON.publication("a", b"1", info, None) == b'{"push":{"channel":"a","pub":{"data":1}}}'

    def test_large_senders_are_embedded_without_being_cached(self) -> None:
        """The cache holds small ones only, so that its size in bytes is bounded."""
        info = json.dumps(
            {"user": "42", "client": "c", "conn_info": "x" * json_codec.MAX_CACHED_INFO}
        ).encode()
        before = json_codec.known_info.cache_info().currsize
        assert info in JSON.publication("a", b"1", info, None)
        assert json_codec.known_info.cache_info().currsize == before


class TestCleanJson:
    @pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON.keys())
    def test_what_is_not_one_json_value_is_refused(self, value: bytes) -> None:
        """Exactly one value in valid UTF-8, by the grammar of RFC 8259."""
        assert clean_json(value) is None

    @pytest.mark.parametrize(
        "value", [b"1e999", b"-0", b'{"a":1,"a":2}', b'"\x7f"', b" [ 1 ] ", b"9" * 100, b'"\\/"']
    )
    def test_what_the_grammar_allows_passes_unchanged(self, value: bytes) -> None:
        """Large numbers, repeated names and white space are the application's business."""
        assert clean_json(value) == value

    def test_line_breaks_are_taken_out(self) -> None:
        """A value printed on several lines fits on one; escaped line breaks stay."""
        assert clean_json(b'{\r\n "a": [1,\n\r2],\n "b": "x\\ny"\n}\n') == b'{ "a": [1,2], "b": "x\\ny"}'

    @given(fragments)
    @example(b"[1e999]")
    def test_it_agrees_with_the_parser_of_the_python_sdk(self, data: bytes) -> None:
        """What passes is the same value for a subscriber; what the standard library reads passes."""
        clean = clean_json(data)
        if clean is None:
            with pytest.raises(ValueError):
                json.loads(data.decode(), parse_constant=_refuse)
        else:
            assert not set(clean) & set(b"\r\n")
            text = json.dumps(json.loads(data.decode()), ensure_ascii=False)
            assert json.loads(clean) == json.loads(re.sub("[\ud800-\udfff]", "\ufffd", text))

    @pytest.mark.parametrize("opening", [b"[", b'{"a":'])
    def test_nesting_is_bounded(self, opening: bytes) -> None:
        """One level more than MAX_DEPTH is refused, wherever the stack ends."""
        closing = b"]" if opening == b"[" else b"}"
        deepest = opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH
        assert clean_json(deepest) == deepest
        assert clean_json(opening + deepest + closing) is None

    @pytest.mark.parametrize(
        "text", [b'"' + b"[" * 500 + b'"', b'"' + b'\\"[{' * 200 + b'"', b'"' + b"\\\\" * 500 + b'"']
    )
    def test_brackets_in_texts_do_not_count(self, text: bytes) -> None:
        """Brackets, quotes and backslashes inside texts neither hide nor feign depth."""
        wide = b"[" + b",".join([text, b'"]"', b'"["'] * 50) + b"]"
        assert clean_json(wide) == wide
        for noise in (b'"]"', text, b'"\\\\"', b'"\\"]"'):
            assert clean_json((b"[" + noise + b",") * 200 + b"1" + b"]" * 200) is None

    def test_a_wide_value_is_not_a_deep_one(self) -> None:
        """Thousands of arrays beside each other are fine."""
        wide = b"[" + b",".join([b'{"a":[[[[[{"b":[]}]]]]]}'] * 2_000) + b"]"
        assert clean_json(wide) == wide

    def test_numbers_that_python_refuses_are_refused(self) -> None:
        """One publication with such a number would end every Python subscriber; digits in texts do no harm."""
        longest = b"[" + b"7" * MAX_DIGITS + b"," + b"7" * MAX_DIGITS + b"]"
        assert clean_json(longest) == longest
        assert clean_json(b"[" + b"7" * (MAX_DIGITS + 1) + b"]") is None
        text = b'"\\"' + b"7" * (MAX_DIGITS + 1) + b'"'
        assert clean_json(text) == text

    def test_lone_surrogates_become_replacement_characters(self) -> None:
        """Pairs stay, and so does what only looks like an escape."""
        assert clean_json(
            rb'["\ud83d","\ud83d\ude00","\\ud83d","\\\ud83d","\ud83d\ud83d\ude00","\udE00"]'
        ) == (rb'["\ufffd","\ud83d\ude00","\\ud83d","\\\ufffd","\ufffd\ud83d\ude00","\ufffd"]')

    @pytest.mark.parametrize("start", [b'"', b"[" * 200 + b'"'])
    @pytest.mark.parametrize("piece", [b'\\"', b"\\", b'"', b'"\\', b"\\ud83d", b"[{", b"7", b'"["'])
    @pytest.mark.timeout(5)
    def test_hostile_texts_take_linear_time(self, start: bytes, piece: bytes) -> None:
        """No pattern is tried over and over: 200 KB of the worst text are done in milliseconds."""
        data = start + piece * (200_000 // len(piece))
        assert clean_json(data) is None or clean_json(data) == data


def test_a_client_info_is_cleaned_and_parsed() -> None:
    """The bytes for JSON and the Struct for Protobuf come from one check."""
    info = b'{"user":"42",\n"client":"c","conn_info":{"a": 1}}'
    clean = info.replace(b"\n", b"")
    assert parse_info(info) == (clean, ClientInfo(user="42", client="c", conn_info=Raw(b'{"a": 1}')))
