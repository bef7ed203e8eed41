from __future__ import annotations

import base64
import json
from contextlib import suppress
from types import MappingProxyType

import msgspec
import pytest
from centrifuge.codecs import _ProtobufCodec as SdkCodec  # type: ignore[import-untyped]
from centrifuge.protocol import client_pb2 as sdk  # type: ignore[import-untyped]
from google.protobuf.descriptor import Descriptor
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from tests.support.wire import (
    Plain,
    commands,
    json_values,
    offsets,
    outgoing,
    plain,
    texts,
    with_numbers,
    without_defaults,
)
from tidewire.edge.wire import protobuf_commands, protobuf_replies
from tidewire.edge.wire.codec import MalformedFrame
from tidewire.edge.wire.commands import (
    NO_DATA,
    Command,
    HistoryRequest,
    PingRequest,
    PublishRequest,
    StreamPosition,
)
from tidewire.edge.wire.json_codec import MAX_CACHED_INFO
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.edge.wire.protobuf_fields import delimited, varint
from tidewire.edge.wire.replies import (
    ClientInfo,
    ConnectResult,
    Publication,
    PublishResult,
    Push,
    Reply,
    RpcResult,
    SubscribeResult,
    Unsubscribe,
    UnsubscribeResult,
)
from tidewire.kernel.errors import INTERNAL
from tidewire.rpc.centrifuge.v2 import client_pb2 as ours

payloads = st.binary(max_size=200).map(base64.b64encode)  # the SDK's codec wants bytes fields that way
raw_payloads = st.binary(max_size=200).map(Raw)

PUBLISH = bytes.fromhex("0807 3a06 0a0161 120131")  # id 7, publish {channel "a", data "1"}


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data)


def _title(value: object) -> str | None:
    """Name a reply by its field in the ids of tests."""
    return (
        " ".join(name for name in value.__struct_fields__ if getattr(value, name))
        if isinstance(value, Reply)
        else None
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class TestDecode:
    def test_commands_come_in_their_order(self) -> None:
        """Messages stand behind their lengths; payloads are the client's bytes."""
        frame = bytes([len(PUBLISH)]) + PUBLISH + b"\x00" + bytes.fromhex("04 0808 5a00")
        assert PROTOBUF.decode(frame) == [
            Command(id=7, publish=PublishRequest(channel="a", data=Raw(b"1"))),
            Command(),
            Command(id=8, ping=PingRequest()),
        ]

    def test_an_absent_payload_is_no_data(self) -> None:
        """Protobuf does not tell an empty payload from none."""
        (command,) = PROTOBUF.decode(bytes.fromhex("07 0807 3a03 0a0161"))
        assert command.publish == PublishRequest(channel="a", data=NO_DATA)

    @given(st.lists(commands(payloads), min_size=1, max_size=4))
    def test_what_the_sdk_writes_is_read(self, sent: list[Plain]) -> None:
        """Any fields of any commands arrive as the official SDK sent them, several in one frame."""
        assert [plain(command, _base64) for command in PROTOBUF.decode(SdkCodec.encode_commands(sent))] == [
            without_defaults(command) for command in sent
        ]

    def test_of_several_methods_the_first_counts(self) -> None:
        """There is no oneof: of two methods in a command the one with the lower number is meant."""
        message = sdk.Command(id=1, ping=sdk.PingRequest(), history=sdk.HistoryRequest(since={"offset": 5}))
        wire = message.SerializeToString()
        assert PROTOBUF.decode(bytes([len(wire)]) + wire) == [
            Command(id=1, history=HistoryRequest(since=StreamPosition(offset=5)))
        ]

    @pytest.mark.parametrize(
        "unknown",
        [
            "a00101",
            "a20103616263",
            "a10100000000 00000000",
            "a501 00000000",
            "a301 0801 a401",
            "1001",
            "0a0161",
        ],
        ids=[
            "varint",
            "bytes",
            "fixed64",
            "fixed32",
            "group",
            "reserved number",
            "known number of another type",
        ],
    )
    def test_unknown_fields_are_skipped(self, unknown: str) -> None:
        """A newer client may send what this server does not know, of every wire type."""
        message = PUBLISH + bytes.fromhex(unknown)
        assert PROTOBUF.decode(bytes([len(message)]) + message) == PROTOBUF.decode(
            bytes([len(PUBLISH)]) + PUBLISH
        )

    @pytest.mark.parametrize(
        "frame",
        [
            "80",
            "8080",
            "ffffffffff",
            "ffffffff7f",
            "05 0807",
            "ffffff7f 0807",
            "8000",
            "828000 0807",
            "00 01",
            "7f 0807",
            "808080808080808080 01",
        ],
    )
    def test_a_length_prefix_must_be_whole_short_and_true(self, frame: str) -> None:
        """Cut off, longer than needed, or beyond the end of the frame: malformed before anything is allocated."""
        with pytest.raises(MalformedFrame, match="length prefix"):
            PROTOBUF.decode(bytes.fromhex(frame))

    @pytest.mark.parametrize(
        "message",
        [
            "08",
            "0807 3a06 0a0161",
            "0807 3a05 0a01ff 1200",
            "0807 2a04 0a02c080",
            "0c",
            "a301 0801",
            "00",
            "0f",
            "08ffffffffffffffffffffff01",
        ],
        ids=[
            "field cut off",
            "message cut off",
            "not UTF-8",
            "overlong UTF-8",
            "stray end of group",
            "open group",
            "field number 0",
            "unknown wire type",
            "varint of 12 bytes",
        ],
    )
    def test_what_is_not_a_command_is_malformed(self, message: str) -> None:
        """Texts must be UTF-8 and every field whole; one such message spoils the frame."""
        data = bytes.fromhex(message)
        with pytest.raises(MalformedFrame, match="Command"):
            PROTOBUF.decode(b"\x00" + bytes([len(data)]) + data)

    def test_nesting_is_bounded(self) -> None:
        """Filters hold filters, but not without end."""
        node = b""
        for _ in range(300):
            node = b"\x32" + delimited(node)
        message = b"\x2a" + delimited(b"\x6a" + delimited(node))
        with pytest.raises(MalformedFrame):
            PROTOBUF.decode(delimited(message))

    def test_an_id_is_cut_to_its_bits(self) -> None:
        """Protobuf parsers keep the low 32 bits of a longer varint; an id is never out of range."""
        assert PROTOBUF.decode(bytes.fromhex("06 088580808010")) == [Command(id=5)]

    @given(st.binary(max_size=200), st.binary(max_size=20))
    @example(b"\xff" * 100_000, b"")
    @example(b"\x00" * 65_536, b"")
    def test_any_bytes_are_commands_or_malformed(self, frame: bytes, tail: bytes) -> None:
        """No other error leaves the decoder, whatever a client sends; framed rightly or not."""
        for data in (
            frame,
            delimited(frame) + tail,
            delimited(PUBLISH + tail),
        ):
            with suppress(MalformedFrame):
                assert all(isinstance(command, Command) for command in PROTOBUF.decode(data))


class TestEncode:
    @pytest.mark.parametrize(
        ("reply", "frame"),
        [
            (Reply(), "00"),
            (Reply(id=1, publish=PublishResult()), "04 0801 4200"),
            (Reply(id=2, subscribe=SubscribeResult()), "04 0802 3200"),
            (Reply(id=300, unsubscribe=UnsubscribeResult()), "05 08ac02 3a00"),
            (
                Reply(id=4, error=INTERNAL),
                "1f 0804 121b 0864 1215" + b"internal server error".hex() + "1801",
            ),
            (
                Reply(id=1, connect=ConnectResult(client="c", version="1", ping=25, pong=True)),
                "0e 0801 2a0a 0a0163 120131 3819 4001",
            ),
            (Reply(id=6, rpc=RpcResult(data=NO_DATA)), "04 0806 6a00"),
            (
                Reply(push=Push(channel="a", pub=Publication(data=Raw(b"1"), offset=3))),
                "0c 220a 120161 2205 220131 3003",
            ),
            (
                Reply(push=Push(channel="a", unsubscribe=Unsubscribe(code=0, reason=""))),
                "07 2205 120161 3a00",
            ),
        ],
        ids=_title,
    )
    def test_the_bytes_of_each_reply(self, reply: Reply, frame: str) -> None:
        """An empty result is there all the same, by its key and a length of 0."""
        assert PROTOBUF.encode([reply]) == bytes.fromhex(frame)

    @given(st.lists(outgoing(raw_payloads), min_size=1, max_size=4))
    def test_the_sdk_reads_what_is_written(self, replies: list[Reply]) -> None:
        """The official SDK gets every reply of a frame with every field."""
        received = with_numbers(SdkCodec.decode_replies(PROTOBUF.encode(replies)))
        assert received == [plain(reply, _text) for reply in replies]


class TestPublication:
    def test_the_bytes_of_a_publication(self) -> None:
        """The sender, JSON in our header, becomes a message; its payloads stay bytes."""
        info = b'{"user":"42","client":"c","conn_info":[1]}'
        item = PROTOBUF.publication("a", b"\x00\xff", info, MappingProxyType({"k": "v"}))
        assert item == bytes.fromhex(
            "21 221f 120161 221a 220200ff" + "2a0c 0a023432 120163 1a035b315d" + "3a06 0a016b 120176"
        )

    @given(
        texts.filter(bool),
        st.binary(max_size=300),
        st.none()
        | st.builds(
            ClientInfo,
            user=texts,
            client=texts,
            conn_info=json_values.map(lambda v: Raw(json.dumps(v).encode())),
        ),
        st.dictionaries(texts, texts, max_size=1),
    )
    @example("é" * 127, b"x" * 20_000, None, {})
    def test_the_fast_path_says_the_same_as_a_reply(
        self, channel: str, data: bytes, info: ClientInfo | None, tags: dict[str, str]
    ) -> None:
        """A publication and the reply that holds it are the same message, at every length of its parts."""
        sender = None if info is None else msgspec.json.encode(info)
        push = Reply(push=Push(channel=channel, pub=Publication(data=Raw(data), info=info, tags=tags)))
        item = PROTOBUF.publication(channel, data, sender, tags)
        assert SdkCodec.decode_replies(item) == SdkCodec.decode_replies(PROTOBUF.encode([push]))

    @pytest.mark.parametrize("info", [b"", b"x", b"[]", b'{"user":"42"}', b'{"user":"\xff","client":"c"}'])
    def test_a_sender_that_is_no_client_info_is_left_out(self, info: bytes) -> None:
        """What stands in a header of a message need not be a ClientInfo."""
        assert PROTOBUF.publication("a", b"1", info, None) == PROTOBUF.publication("a", b"1", None, {})

    def test_large_senders_are_written_without_being_cached(self) -> None:
        """The cache holds small ones only, so that its size in bytes is bounded."""
        info = json.dumps({"user": "42", "client": "x" * MAX_CACHED_INFO}).encode()
        before = protobuf_replies.known_info.cache_info().currsize
        assert b"x" * MAX_CACHED_INFO in PROTOBUF.publication("a", b"1", info, None)
        assert protobuf_replies.known_info.cache_info().currsize == before


class TestDefinition:
    """Our definition of the messages against the one that the official SDK carries."""

    @pytest.mark.parametrize("name", sorted(sdk.DESCRIPTOR.message_types_by_name))
    def test_every_field_of_the_sdk_is_ours_too(self, name: str) -> None:
        """Name, number, type and label of each field agree, also of map entries; ours may have newer ones."""
        mine: Descriptor = ours.DESCRIPTOR.message_types_by_name[name]
        theirs: Descriptor = sdk.DESCRIPTOR.message_types_by_name[name]
        for path, facts in _fields(theirs).items():
            assert _fields(mine).get(path) == facts, path

    def test_the_package_is_our_own(self) -> None:
        """Both definitions live in one process, as they do here."""
        assert ours.DESCRIPTOR.package == "tidewire.rpc.centrifuge.v2"
        assert ours.Command.DESCRIPTOR.full_name != sdk.Command.DESCRIPTOR.full_name

    def test_every_method_of_a_command_is_read_in_the_order_of_numbers(self) -> None:
        """The table of readers holds each method once, the lowest number first."""
        by_number = ours.Command.DESCRIPTOR.fields_by_number
        names = [by_number[number].name for number in sorted(by_number)]
        assert names == ["id", *(method for method, _ in protobuf_commands._READERS)]
        assert names == list(Command.__struct_fields__)

    def test_every_field_of_a_reply_is_written(self) -> None:
        """The table of writers holds each field of Reply but its id."""
        assert {field for field, _, _ in protobuf_replies._WRITERS} == set(Reply.__struct_fields__) - {"id"}

    @given(offsets)
    def test_lengths_are_written_as_the_protobuf_library_does(self, number: int) -> None:
        """The varints written by hand are those of the library."""
        message = ours.Publication(offset=number).SerializeToString()
        assert message == (b"\x30" + varint(number) if number else b"")


def _fields(message: Descriptor) -> dict[str, tuple[object, ...]]:
    """Return what the wire depends on, for each field of a message and of its map entries."""
    found: dict[str, tuple[object, ...]] = {}
    for owner in (message, *message.nested_types):
        for field in owner.fields:
            kind = None if field.message_type is None else field.message_type.name
            found[f"{owner.name}.{field.name}"] = (
                field.number,
                field.type,
                field.is_repeated,
                field.has_presence,
                kind,
            )
    return found
