"""What a session asks its edge to do. Frozen values: the session decides, the dispatcher acts."""

from __future__ import annotations

import msgspec

from tidewire.edge.wire.replies import Reply
from tidewire.kernel.errors import Disconnect


class Effect(msgspec.Struct, frozen=True, gc=False):
    """Base of the effects."""


class Answer(Effect, frozen=True):
    """Write a reply. `method` and `started` (monotonic seconds) are for the metrics of the command."""

    method: str
    reply: Reply
    started: float


class Opened(Effect, frozen=True):
    """The connection is authenticated: from now on it is pinged."""


class ExpireIn(Effect, frozen=True):
    """Look at the connection's expiry in `seconds` (again, where one was set before)."""

    seconds: float


class Ping(Effect, frozen=True):
    """Write a ping and come back for the pong."""


class Join(Effect, frozen=True):
    """Make the connection a member of a channel; `Session.joined` wants the result with the same `attempt`."""

    channel: str
    attempt: int


class Leave(Effect, frozen=True):
    """End the membership, or the attempt at one."""

    channel: str


class Publish(Effect, frozen=True):
    """Publish for the client; `Session.published` wants the result. `info` is ClientInfo as one line of JSON."""

    id: int
    channel: str
    data: bytes
    info: bytes
    started: float


class Call(Effect, frozen=True):
    """Call an application method; `Session.called` wants the result."""

    id: int
    method: str
    data: bytes
    started: float


class Send(Effect, frozen=True):
    """Pass a one-way message to the application."""

    data: bytes


class Dropped(Effect, frozen=True):
    """Commands that crossed the close on the wire: not carried out, only counted."""

    commands: int


class Close(Effect, frozen=True):
    """Close the connection; nothing follows."""

    disconnect: Disconnect
