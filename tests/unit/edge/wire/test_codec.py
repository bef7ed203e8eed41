from __future__ import annotations

import pytest

from tidewire.edge.wire.codec import Codec, MalformedFrame
from tidewire.edge.wire.json_codec import JSON
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.edge.wire.replies import PublishResult, Reply
from tidewire.kernel.errors import TidewireError

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
