"""Who is at the other end of a session, what it may do, and which replies it is owed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tidewire.edge.effects import Answer
from tidewire.edge.policies.capabilities import NONE, Capabilities
from tidewire.edge.wire.replies import ClientInfo, Reply

if TYPE_CHECKING:
    from tidewire.edge.policies.claims import ConnectionClaims
    from tidewire.edge.rules import Rules
    from tidewire.edge.waiting import Standing
    from tidewire.kernel.errors import ReplyError
    from tidewire.kernel.ids import ConnectionId


MAX_TTL = 2**31 - 1
"""Seconds that the SDKs' timers can hold."""

JAVASCRIPT = "js"
"""What the JavaScript SDK calls itself."""


class Party:
    """The client of one connection. `session`, its subscriptions and its requests all speak for it."""

    __slots__ = (
        "_sender",
        "address",
        "capabilities",
        "client",
        "detail",
        "info",
        "is_json",
        "name",
        "owed",
        "rules",
        "since",
        "standing",
        "started",
        "token_id",
        "user",
    )

    def __init__(self, client: ConnectionId, rules: Rules, *, is_json: bool) -> None:
        self.client = client
        self.rules = rules
        self.is_json = is_json
        self.user = ""
        self.address = ""
        """Its IP address, "" where only a proxy's is known."""
        self.standing: Standing | None = None
        """What rate limits remember of it; None: nothing."""
        self.name = ""
        """What the client calls itself, for the log."""
        self.token_id = ""
        """The token's `jti`, for the log."""
        self.detail = ""
        """What the log says beyond the close reason."""
        self.info = ClientInfo(user="", client=client)
        self._sender = b""
        self.capabilities: Capabilities = NONE
        self.since = 0
        """When it authenticated, Unix microseconds."""
        self.owed = 0
        """Commands whose result has not come yet."""
        self.started = 0.0
        """When the command at hand came, monotonic seconds."""

    def identify(self, claims: ConnectionClaims) -> None:
        """Take on the identity and the rights that a connection token gives."""
        self.user = claims.user
        self.token_id = claims.id
        self.info = ClientInfo(user=claims.user, client=self.client, conn_info=claims.info)
        self.capabilities = claims.capabilities
        self.since = int(self.rules.clock.wall() * 1e6)

    @property
    def sender(self) -> bytes:
        """`info` as one line of JSON, made when the client first publishes."""
        if not self._sender:
            self._sender = msgspec.json.encode(self.info)
        return self._sender

    @property
    def crowded(self) -> bool:
        """Whether as many commands wait for their result as may."""
        return self.room <= 0

    @property
    def room(self) -> int:
        """How many more commands may wait for their result."""
        return self.rules.inflight_limit - self.owed

    @property
    def takes_ids(self) -> bool:
        """Whether channel ids may be given to this client that offers to take them.

        The JavaScript SDK (5.7.4 and 5.8.0, found by test) compares 64-bit ids of Protobuf as objects and would find no
        subscription for any publication.
        """
        return self.is_json or self.name != JAVASCRIPT

    def ttl(self, expires_at: int) -> int:
        """Return the seconds until then as the SDKs take them: at least 1 while it lasts, 0 for never and for the past."""
        left = expires_at - self.rules.clock.wall()
        return min(MAX_TTL, max(1, int(left))) if expires_at and left > 0 else 0

    def is_over(self, expires_at: int) -> bool:
        """Return whether that time has passed; never it does for 0. A token may be good and give a time that is over."""
        return bool(expires_at) and not self.ttl(expires_at)

    def answer(self, method: str, reply: Reply) -> Answer:
        """Answer the command at hand."""
        return Answer(method, reply, self.started)

    def refuse(self, method: str, number: int, error: ReplyError) -> Answer:
        """Answer the command at hand with an error; if it has waited for a limit, it does no longer."""
        if self.standing is not None:
            self.standing.waits_since = 0.0
        return self.answer(method, Reply(id=number, error=error))

    def settle(self, method: str, started: float, reply: Reply) -> Answer:
        """Answer a command that waited for its result."""
        self.owed -= 1
        return Answer(method, reply, started)
