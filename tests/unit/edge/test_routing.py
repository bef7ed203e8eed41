from __future__ import annotations

import pytest

from tests.fakes.sessions import Client
from tests.support.protocol import protocol
from tidewire.edge.routing import method_of
from tidewire.edge.wire.json_codec import JSON


@pytest.mark.parametrize(
    ("command", "method"),
    [
        (b"{}", ""),
        (b'{"id":1}', ""),
        (b'{"id":1,"send":{}}', "send"),
        (b'{"id":1,"rpc":{},"publish":{},"subscribe":{}}', "subscribe"),
    ],
)
def test_first_method_that_is_present_counts(command: bytes, method: str) -> None:
    """In the order of the protocol's fields, not in that of the message."""
    assert method_of(JSON.decode(command)[0]) == method


@protocol("channel.empty")
@pytest.mark.parametrize(
    "method", ["subscribe", "unsubscribe", "publish", "history", "presence", "presence_stats"]
)
def test_empty_channel_closes(method: str) -> None:
    """Not an error reply: no SDK sends it."""
    assert Client().connect().close_code({"id": 2, method: {"channel": ""}}) == 3501


@protocol("command.presence", "command.presence_stats", "command.history", "command.ping")
@pytest.mark.parametrize("method", ["presence", "presence_stats", "history", "ping"])
def test_commands_that_are_not_there_yet(method: str) -> None:
    """108, never an empty result."""
    fields = {} if method == "ping" else {"channel": "chat:a"}
    assert Client().connect().error({"id": 2, method: fields}) == 108
