"""What an edge asks of a wire format: bytes of one WebSocket message to Commands, Replies to bytes.

Both formats (`json_codec.JSON`, `protobuf_codec.PROTOBUF`) read and write the same Structs. Codecs are pure and keep
nothing per connection. A *frame* is the payload of one WebSocket message; an *item* is one encoded reply, ready to be
joined with others into a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from tidewire.edge.wire.commands import Command
from tidewire.edge.wire.replies import Reply
from tidewire.kernel.errors import TidewireError

MAX_COMMANDS = 1024
"""Commands in one frame: more than any SDK sends together, and a bound on what one frame makes an edge do at once."""


class MalformedFrame(TidewireError):
    """A client's frame cannot be read as commands; `problem` says why and never repeats what the client sent."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"malformed frame: {problem}")
        self.problem = problem


class Codec(Protocol):
    """One wire format of the Centrifuge client protocol."""

    name: ClassVar[str]  # "json" or "protobuf"
    PING: ClassVar[bytes]  # the frame of a ping: one empty Reply

    def decode(self, frame: bytes) -> list[Command]:
        """Return the commands of one frame in their order, at least one.

        Raises:
            MalformedFrame: Anything else; no other error, whatever the bytes. Nothing of such a frame counts.
        """

    def burst(self, frames: Sequence[bytes]) -> list[Command] | None:
        """Return the commands of frames that came together, all at once: those that `decode` returns of one by one.

        None where that is not possible, which says nothing about any of the frames.
        """

    def encode(self, replies: Sequence[Reply]) -> bytes:
        """Return the frame that holds `replies` (at least one) in their order; it is an item, too.

        Payloads of JSON replies are embedded as they are: each must have passed `json_codec.clean_json`, and an absent
        one must be `NO_DATA` itself.
        """

    def published(self, numbers: Sequence[int]) -> bytes:
        """Return the item that tells a client that its publish commands with these ids have succeeded."""

    def publication(
        self,
        place: str | int,
        data: bytes,
        info: bytes | None,
        tags: Mapping[str, str] | None,
        channel: str = "",
        offset: int = 0,
        *,
        delta: bool | None = None,
    ) -> bytes:
        """Return the item that pushes a publication to subscribers of `place`: a channel, or the id that stands for it.

        Runs once per publication and format. `channel` is the real one where `place` is a pattern. `data` for JSON must
        have passed `json_codec.clean_json`. `delta` is None for subscriptions without deltas; else it tells whether the data
        are one, which for JSON must be valid UTF-8. `info` is a ClientInfo as JSON; one that is not a ClientInfo is left out,
        since subscribers can do without the sender but not with a frame they cannot read.
        """

    def join(self, items: Sequence[bytes]) -> bytes:
        """Return the frame that holds `items` (at least one) in their order."""
