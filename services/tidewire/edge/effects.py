"""What a session asks its edge to do. Frozen values: the session decides, the dispatcher acts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tidewire.edge.attendance import NOBODY, Attendance
from tidewire.edge.pending import Demands
from tidewire.edge.policies.filters import TagsFilter
from tidewire.edge.ports import Query
from tidewire.edge.presence_ports import PresenceQuery
from tidewire.edge.waiting import TokensWanted
from tidewire.edge.wire.commands import StreamPosition
from tidewire.edge.wire.replies import Reply
from tidewire.kernel.errors import Disconnect


class Traits(msgspec.Struct, frozen=True):
    """How a membership wants its publications: by channel id or name, which of them, and whether as deltas.

    A `positioned` one is ended where it cannot be proven that it misses nothing.
    """

    compact: bool = False
    wanted: TagsFilter | None = None
    delta: bool = False
    positioned: bool = False


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription to a channel with history is granted beyond publications.

    `positioned`, `recoverable`: what the reply says. `since`: recover from there, at most `limit` publications, or the
    `latest` one only; `strict`: an error where that fails. `proven`: its profile can prove that nothing is missing.
    """

    positioned: bool = False
    recoverable: bool = False
    since: StreamPosition | None = None
    latest: bool = False
    strict: bool = False
    limit: int = 0
    proven: bool = True


class Effect(msgspec.Struct, frozen=True, gc=False):
    """Base of the effects."""


class Answer(Effect, frozen=True):
    """Write a reply. `method` and `started` (monotonic seconds) are for the metrics of the command."""

    method: str
    reply: Reply
    started: float


class Published(Effect, frozen=True):
    """Tell the client that its publish commands with these ids, which came at the same time, have succeeded."""

    ids: Sequence[int]
    started: float


class Push(Effect, frozen=True):
    """Write a message that answers no command."""

    reply: Reply


class FetchKeys(Effect, frozen=True):
    """Fetch the keys of `source`; `Session.go_on` wants to know when that is over, however it ended."""

    source: str


class AwaitTokens(Effect, frozen=True):
    """Wait until rate limits know more; `Session.go_on` wants to know when they do, or the time is over."""

    wanted: TokensWanted


class Yield(Effect, frozen=True):
    """Serve other connections for a moment; `Session.go_on` wants to know when it is this one's turn again."""


class Identified(Effect, frozen=True):
    """The connection speaks for a user from now on."""

    user: str


class Opened(Effect, frozen=True):
    """The connection is authenticated: from now on it is pinged.

    It `replaces` others of its user, by its `since`, or `yields` to them.
    """

    replaces: bool = False
    yields: bool = False


class AskOthers(Effect, frozen=True):
    """Find out whether the user is connected anywhere; `Session.vouched` wants to know, within a bounded time."""


class ExpireIn(Effect, frozen=True):
    """Look at the connection's expiry in `seconds` (again, where one was set before)."""

    seconds: float


class SubscriptionsExpireIn(Effect, frozen=True):
    """Look at the subscriptions' expiries in `seconds` (again, where that was set before)."""

    seconds: float


class Ping(Effect, frozen=True):
    """Write a ping and come back for the pong."""


class Join(Effect, frozen=True):
    """Hear a channel for the connection; `Session.joined` wants the result with the same `attempt`.

    Nothing is delivered before `Enter`, which the session asks for together with the reply that begins a subscription.
    """

    channel: str
    attempt: int
    wish: Wish | None = None


class Enter(Effect, frozen=True):
    """Make the connection a member of a channel that it has joined: publications are delivered from now on.

    `base`: the last publication that it was sent with the reply, for deltas; None for nothing. `info` is the subscription's,
    for presence.
    """

    channel: str
    traits: Traits
    base: bytes | None = None
    attendance: Attendance = NOBODY
    info: bytes = b""


class Renew(Effect, frozen=True):
    """Let presence know the new `info` of a membership."""

    channel: str
    attendance: Attendance
    info: bytes


class Attend(Effect, frozen=True):
    """Let presence know that a membership means something else to it from now on. `info` is as in `Enter`."""

    channel: str
    before: Attendance
    after: Attendance
    info: bytes


class Leave(Effect, frozen=True):
    """End the membership, or the attempt at one, of which presence has heard nothing. `info` is as in `Enter`."""

    channel: str
    traits: Traits
    attendance: Attendance = NOBODY
    info: bytes = b""


class Publish(Effect, frozen=True):
    """Publish for the client, in order; `Session.published` wants the result.

    Each of `data` belongs to the command of `ids` in the same place. `info` is ClientInfo as one line of JSON. `method` is
    that of the commands: `publish`, or `rpc` for `tw.publish`, which may give a `key` and make `demands`. `profile` is the
    storage profile, empty where there is no history.
    """

    ids: Sequence[int]
    channel: str
    data: Sequence[bytes]
    info: bytes
    started: float
    key: str = ""
    method: str = "publish"
    profile: str = ""
    demands: Demands | None = None

    def one_by_one(self) -> list[Publish]:
        """Return the same, each publication by itself."""
        return [
            msgspec.structs.replace(self, ids=(number,), data=(data,))
            for number, data in zip(self.ids, self.data, strict=True)
        ]


class ReadHistory(Effect, frozen=True):
    """Read a channel's history; `Session.history_read` wants the result."""

    id: int
    query: Query
    started: float


class AskPresence(Effect, frozen=True):
    """Ask the presence service; `Session.presence_told` wants the result. `method` is the command's."""

    id: int
    method: str
    query: PresenceQuery
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
    """Commands that crossed the close on the wire, or can neither wait nor be answered: not carried out, only counted."""

    commands: int


class Throttled(Effect, frozen=True):
    """Commands over the connection's rate, for the metrics: `refused`, or not looked at since it was `closed` for them."""

    outcome: str
    commands: int


class Close(Effect, frozen=True):
    """Close the connection; nothing follows."""

    disconnect: Disconnect
