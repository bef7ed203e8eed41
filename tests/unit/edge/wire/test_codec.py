from __future__ import annotations

import pytest
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.wire.codec import MAX_COMMANDS, Codec, MalformedFrame
from tidewire.edge.wire.json_codec import JSON
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.edge.wire.replies import PublishResult, Reply
from tidewire.kernel.errors import TidewireError
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

JSON_PIECES = [
    b'{"id":7,"publish":{"channel":"a:b","data":{"text":"\xc3\xa9"}}}',
    b'{"id":8,"rpc":{"method":"m","data":[]}}',
    b"{}",
    b"\n",
    b"{",
    b"}",
    b'"',
    b'{"x":"',
    b'{"x":[{}',
    b"]}",
    b",",
    b" ",
    b"\r",
    b"\\",
    b"\xff",
    b'"\\ud800"',
    b'{"id":1,"publish":{"data":"',
    b"[" * 200,
    b"1" * 5000,
]
"""The first two are whole commands; the others can be put together to frames that mean another thing together than alone."""
PROTOBUF_PIECES = [
    b"\x04\x08\x01\x2a\x00",
    b"\x04\x08\x01\x5a\x00",
    b"\x00",
    b"\x04",
    b"\x08\x01",
    b"\xff",
    b"\x80\x01",
]

CODECS: list[Codec] = [JSON, PROTOBUF]  # mypy checks here that both keep the contract


def test_a_malformed_frame_is_an_error_of_ours_with_its_problem_as_data() -> None:
    """What is wrong with a frame is a field and part of the sentence."""
    error = MalformedFrame("no command")
    assert isinstance(error, TidewireError)
    assert error.problem == "no command"
    assert str(error) == "malformed frame: no command"


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
class TestEveryCodec:
    def test_a_ping_is_one_empty_reply(self, codec: Codec) -> None:
        """The ready-made ping is what the codec makes of an empty reply."""
        assert codec.encode([Reply()]) == codec.PING

    def test_the_frame_of_a_pong_is_an_empty_command(self, codec: Codec) -> None:
        """A client answers a ping with the same bytes: no id, no method."""
        (command,) = codec.decode(codec.PING)
        assert command.id == 0
        assert not any(getattr(command, name) for name in command.__struct_fields__)

    def test_joined_items_are_the_frame_of_their_replies(self, codec: Codec) -> None:
        """Joining single encoded replies gives the same bytes as encoding them together."""
        replies = [Reply(id=number, publish=PublishResult()) for number in (1, 2, 300)]
        assert codec.join([codec.encode([reply]) for reply in replies]) == codec.encode(replies)

    def test_answers_to_publish_commands_are_those_replies(self, codec: Codec) -> None:
        """Byte for byte, for any ids."""
        numbers = [1, 300, 2**32 - 1]
        replies = [Reply(id=number, publish=PublishResult()) for number in numbers]
        assert codec.published(numbers) == codec.encode(replies)
        assert codec.published(numbers[:1]) == codec.encode(replies[:1])

    @given(st.data())
    def test_frames_that_come_together_hold_the_commands_that_they_hold_one_by_one(
        self, codec: Codec, data: st.DataObject
    ) -> None:
        """Or it is not said what they hold: never where one of them is malformed, always where all are a plain command."""
        pieces = JSON_PIECES if codec is JSON else PROTOBUF_PIECES
        frame = st.lists(st.sampled_from(pieces), max_size=4).map(b"".join)
        frames = data.draw(st.lists(st.one_of(st.sampled_from(pieces[:2]), frame), min_size=1, max_size=4))
        found = codec.burst(frames)
        if found is not None:
            assert found == [command for frame in frames for command in codec.decode(frame)]
        else:
            assert not set(frames) <= set(pieces[:2])

    def test_a_frame_without_commands_is_malformed(self, codec: Codec) -> None:
        """The protocol calls for at least one command per frame."""
        with pytest.raises(MalformedFrame):
            codec.decode(b"")


@pytest.mark.parametrize(
    ("codec", "one"), [(JSON, b'{"id":1,"ping":{}}\n'), (PROTOBUF, b"\x04\x08\x01\x5a\x00")]
)
def test_commands_of_one_frame_are_bounded(codec: Codec, one: bytes) -> None:
    """One frame must not keep an edge busy for a tenth of a second."""
    assert len(codec.decode(one * MAX_COMMANDS)) == MAX_COMMANDS
    with pytest.raises(MalformedFrame):
        codec.decode(one * (MAX_COMMANDS + 1))


def test_what_one_protobuf_command_unfolds_is_bounded() -> None:
    """Nodes of a filter are made in Python: few bytes each, many of them."""
    nodes = pb.FilterNode(op="or", nodes=[pb.FilterNode()] * 20_000)
    message = pb.Command(id=1, subscribe=pb.SubscribeRequest(channel="a", tf=nodes)).SerializeToString()
    with pytest.raises(MalformedFrame):
        PROTOBUF.decode(_VarintBytes(len(message)) + message)
