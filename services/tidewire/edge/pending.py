"""Publications on their way into a stream: what is asked of JetStream, what it may answer, and how they end. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError

if TYPE_CHECKING:
    from tidewire.edge.lane import Lane
    from tidewire.edge.ports import Span


class Result(msgspec.Struct, frozen=True):
    """How a publication ended for its client; `outcome` is a short constant for metrics and for `tw.publish`'s answer."""

    outcome: str
    error: ReplyError | None = None


def _not_stored(outcome: str, why: str) -> Result:
    return Result(outcome, errors.INTERNAL.saying(f"temporarily not possible: not stored, since {why}"))


STORED: Final = Result("stored")
DUPLICATE: Final = Result("duplicate")
"""It was stored before, under the same key of the application's."""
DROPPED: Final = Result("dropped")
"""One that is as new, or newer, is held."""
UNCERTAIN: Final = Result(
    "uncertain",
    errors.INTERNAL.saying(
        "temporarily not possible: NATS did not confirm it in time, though it may still be stored"
    ),
)
AWAY: Final = _not_stored("away", "NATS is away")
NOBODY: Final = _not_stored("nobody", "no stream takes it at this moment")
UNREAD: Final = _not_stored("unread", "what is held there cannot be read at this moment")
LATE: Final = _not_stored("late", "its turn did not come in time")
REFUSED: Final = _not_stored("refused", "JetStream refused it")
BLOCKED: Final = _not_stored(
    "blocked", "an earlier publication of this connection on the channel is unconfirmed"
)
CONTENDED: Final = _not_stored("contended", "others publish there too often for its version to be compared")
MOVING: Final = _not_stored("moving", "its namespace is being moved to another storage profile")
FULL: Final = Result(
    "full",
    errors.TOO_MANY_REQUESTS.saying(
        "too many requests: not stored, since too much waits for confirmation already"
    ),
)
TOO_LARGE: Final = Result(
    "too_large",
    errors.BAD_REQUEST.saying("bad request: larger than the NATS server takes (its max_payload)"),
)


class Verdict(enum.Enum):
    """What JetStream answered to an attempt."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """A message with this id is stored already."""
    IN_PROCESS = "in_process"
    """A message with this id is on its way, and may still fail."""
    NOBODY = "nobody"
    """No stream takes the subject, or its leader is being chosen: not stored."""
    OUTRUN = "outrun"
    """The last message of the subject is another one than was expected: not stored."""
    REFUSED = "refused"
    """Not stored, and trying again will not help."""


# Python 3.11 finds a member of an Enum by a call of a Python function; a name of the module is there at once.
ACKNOWLEDGED: Final = Verdict.STORED


class Last(msgspec.Struct, frozen=True):
    """The newest stored publication of a channel; sequence 0 when none is stored."""

    sequence: int = 0
    id: bytes = b""
    version: int = 0
    version_epoch: str = ""


class Terms(msgspec.Struct, frozen=True):
    """What a storage profile means to who publishes: how long ids are remembered, in seconds, and the least worth a batch."""

    window: float
    least_batch: int = 2


class Place(msgspec.Struct, frozen=True):
    """Where a channel's publications go; the edge tries again for less than `retry_for` seconds.

    Fewer than `least_batch` that wait go one by one.
    """

    subject: bytes
    stream: str
    namespace: str
    retry_for: float
    least_batch: int = 2


class Demands(msgspec.Struct, frozen=True):
    """What `tw.publish` may ask beyond data; "" and 0 for nothing. `ttl` in seconds."""

    idempotency_key: str = ""
    version: int = 0
    version_epoch: str = ""
    ttl: int = 0


class Pending(msgspec.Struct, eq=False, gc=False):
    """One publication of a client. `fields` are the lines of its NATS header block but those by which JetStream acts."""

    command: int
    started: float
    """When the command came, monotonic seconds; `sent_at` when it was first sent, 0.0 before."""
    method: str
    span: Span
    data: bytes
    fields: bytes
    demands: Demands | None = None
    id: bytes = b""
    """Its `Nats-Msg-Id`, the same in every attempt; the port mints it with the first."""
    apart: bool = False
    """It was part of a batch, and goes by itself now."""
    expected: int | None = None
    """The sequence of the channel's last publication, against which the version was compared."""
    setbacks: int = 0
    sent_at: float = 0.0
    doubtful: bool = False
    """An attempt went without an answer: it may be stored, or be stored yet."""
    told: bool = False
    """The client has its answer."""

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.data) + len(self.fields)

    @property
    def alone(self) -> bool:
        """Whether it may not be part of a batch."""
        return self.apart or self.demands is not None

    @property
    def keyed(self) -> bool:
        """Whether its id is made of an application's key: others may have used it rightly."""
        return self.demands is not None and bool(self.demands.idempotency_key)

    @property
    def versioned(self) -> bool:
        """Whether it is stored only where nothing as new is held."""
        return self.demands is not None and self.demands.version > 0


class Flight(msgspec.Struct, eq=False):
    """What one lane has in the air: one publication, or an atomic batch of them; or the question what is held."""

    lane: Lane
    publications: list[Pending]
    token: bytes = b""
    """The port's: what the answer is known by."""
    asks: bool = False
    """It asks for the last publication of the channel; nothing is published yet."""
    heard: bool = True
    """No attempt goes without an answer at this moment."""
    attempts: int = 0
    sent_at: float = 0.0
    due: float = 0.0
    """When to try again, monotonic seconds."""

    @property
    def first(self) -> Pending:
        """The publication at its head."""
        return self.publications[0]

    @property
    def doubtful(self) -> bool:
        """Whether it may be stored, or be stored yet."""
        return self.first.doubtful or not (self.heard or self.asks)
