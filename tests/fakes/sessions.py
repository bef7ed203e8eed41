"""Sessions without an edge: commands go in as dictionaries, effects come out."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.clock import ManualClock
from tests.fakes.edge import believing, rules, token
from tidewire.edge.effects import (
    Answer,
    Close,
    Effect,
    Join,
)
from tidewire.edge.policies.claims import ConnectionClaims, ServerSubscription
from tidewire.edge.session import Session
from tidewire.edge.session_state import SessionState
from tidewire.edge.users import Users
from tidewire.edge.wire.json_codec import JSON
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.ids import ConnectionId


class Client:
    """A session, talked to in JSON; replies come back as dictionaries, in order."""

    def __init__(
        self,
        *,
        json_format: bool = True,
        bearer: str = "",
        tokens: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        """`tokens` says what each token is worth, instead of a signature."""
        self.clock = ManualClock()
        self.users = Users()
        self.rules = rules(self.clock, **config)
        self.tokens = believing(self.rules, **tokens) if tokens is not None else None
        self.session = Session(ConnectionId("c1"), self.rules, self.users, json=json_format, bearer=bearer)
        self.effects: list[Effect] = []

    def frame(self, *commands: dict[str, Any]) -> list[Effect]:
        """Send commands in one frame; return the effects."""
        payload = "\n".join(map(json.dumps, commands)).encode()
        self.effects = self.session.receive(JSON.decode(payload), len(payload))
        return self.effects

    def joined(self, channel: str, outcome: int | ReplyError = 7) -> list[Effect]:
        """Let the broker answer the attempt that waits."""
        self.effects = self.session.joined(channel, self.session.subscriptions[channel].attempt, outcome)
        return self.effects

    def go_on(self) -> list[Effect]:
        """Let a key be fetched, or not."""
        self.effects = self.session.go_on()
        return self.effects

    def connect(self, user: str = "alice", **claims: Any) -> Client:
        """Authenticate."""
        self.frame({"id": 1, "connect": {"token": token(user, **claims)}})
        assert self.session.state is SessionState.CONNECTED
        return self

    def subscribe(self, channel: str, number: int = 2, **fields: Any) -> Client:
        """Subscribe, and let the broker confirm."""
        effects = self.frame({"id": number, "subscribe": {"channel": channel, **fields}})
        assert isinstance(effects[0], Join), effects
        self.session.joined(channel, effects[0].attempt, 7)
        return self

    def replies(self, effects: list[Effect] | None = None) -> list[dict[str, Any]]:
        """Replies among the effects."""
        found = [
            effect.reply
            for effect in (self.effects if effects is None else effects)
            if isinstance(effect, Answer)
        ]
        return [json.loads(JSON.encode([reply])) for reply in found]

    def error(self, *commands: dict[str, Any]) -> int:
        """Send commands; return the code of the one error reply."""
        self.frame(*commands)
        (reply,) = self.replies()
        assert reply["error"]["message"], "an error without a message breaks the Python SDK"
        return int(reply["error"]["code"])

    def close_code(self, *commands: dict[str, Any]) -> int:
        """Send commands; return the code that the connection is closed with."""
        effects = self.frame(*commands)
        assert self.session.state is SessionState.CLOSED
        (close,) = (effect for effect in effects if isinstance(effect, Close))
        return close.disconnect.code


CONNECT = {"id": 1, "connect": {"token": "t"}}


PUBLISH = {"id": 5, "publish": {"channel": "chat:a", "data": 1}}


def owner(*channels: str, user: str = "alice", **fields: Any) -> ConnectionClaims:
    """The claims of a user whom the server subscribes to these channels."""
    subs = {channel: ServerSubscription() for channel in channels}
    return ConnectionClaims(user, subs=subs, **fields)


def kinds(effects: list[Effect]) -> list[type]:
    """What is to be done, in order."""
    return [type(effect) for effect in effects]
