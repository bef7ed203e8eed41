from __future__ import annotations

import pytest
from google.protobuf.internal.encoder import _VarintBytes

from tidewire.edge.wire.codec import MAX_COMMANDS, Codec, MalformedFrame
from tidewire.edge.wire.json_codec import JSON
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.edge.wire.replies import PublishResult, Reply
from tidewire.kernel.errors import TidewireError
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

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
