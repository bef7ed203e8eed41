"""What the edge's core asks of the world, and what it may expect in return."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from tidewire.edge.wire.commands import StreamPosition

if TYPE_CHECKING:
    from tidewire.edge.framing import Framing
    from tidewire.edge.pending import Demands, Flight, Place, Result, Verdict
    from tidewire.kernel.errors import Disconnect, ReplyError

Done = Callable[["ReplyError | None"], None]
"""Called exactly once, never from inside the call that took it: None is success."""


class Span(Protocol):
    """A traced operation, or nothing (NO_SPAN)."""

    @property
    def header(self) -> bytes:
        """The line of a NATS header block by which others continue the trace; empty where nothing is traced."""

    def end(self, code: int = 0, **attributes: int) -> None:
        """End with the code of a reply or close (0 = success) and what else was measured."""


class Tracer(Protocol):
    """What is traced of the edge's core. Whether a command is traced is decided here, before anything exists for it.

    `started` is monotonic seconds. No channel, user or token is recorded, only namespaces.
    """

    def publish(self, channel: str, started: float) -> Span:
        """A client's publication goes to the broker; end it with the broker's answer."""

    def call(self, method: str, started: float) -> Span:
        """A client's call goes to a responder; end it with the responder's answer."""

    def answered(self, method: str, started: float, code: int) -> None:
        """A command that leaves no message behind is answered now, with a reply or a close."""

    def deliver(self, channel: str, header: bytes) -> Span | None:
        """A message came with this header block. A span when it belongs to a sampled trace; end it once it is written."""


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One publication as the broker delivers it.

    `info` is ClientInfo as one line of JSON; `sent_us` Unix microseconds; `channel` is set where a pattern heard it; `key`
    is what it may be conflated by, empty for nothing; `delta` where its publisher wants it sent as a delta to who asked for
    those. With history, `offset` is its place in the channel, `previous` that of the one before it (0: none is stored), and
    `time_ns` when it was stored, in nanoseconds since 1970.
    """

    data: bytes
    info: bytes | None = None
    tags: Mapping[str, str] | None = None
    sent_us: int = 0
    channel: str = ""
    span: Span | None = None
    key: bytes = b""
    delta: bool = False
    offset: int = 0
    previous: int = 0
    time_ns: int = 0


class Sink(Protocol):
    """Who hears a channel."""

    def receive(self, publication: Publication) -> None:
        """Take a publication. Must not block and must not raise."""


class Broker(Protocol):
    """How publications cross nodes.

    Delivery is at most once to whoever is subscribed, in the order in which one publisher's publications were taken.
    """

    @property
    def available(self) -> bool:
        """Whether new subscriptions and publications have a chance at this moment."""

    def publish(
        self, channel: str, data: Sequence[bytes], info: bytes, trace: bytes = b"", key: str = ""
    ) -> ReplyError | None:
        """Publish all of `data` in order, with `Span.header` as `trace`.

        An error returned means: none of it was taken. What becomes of it `acknowledge` tells. `key` is one that
        `policies.publication_keys` passed, empty for none.
        """

    @property
    def turn(self) -> int:
        """A number for this turn of the loop; another one as soon as what was published in it is on its way."""

    def acknowledge(self, done: Done) -> None:
        """Call `done` about all that is published in this `turn`, within the publish timeout.

        Success once the broker itself has it, and own subscribers' deliveries of it come first; a temporary error when
        that could not be learned, in which case it may have been delivered all the same.
        """

    def subscribe(self, channel: str, sink: Sink, done: Done) -> int:
        """Begin to hear a channel and return a handle; `done` once nothing published from then on is missed.

        Of a channel with history it is what was stored, each with its offset.
        """

    def subscribe_pattern(self, pattern: str, sink: Sink, done: Done) -> int:
        """Begin to hear each channel that a pattern covers; publications say which, private ones are never among them."""

    def unsubscribe(self, handle: int) -> None:
        """Stop hearing a channel."""

    def order(self, node: str, order: bytes) -> bool:
        """Give an order to an edge, or to all with an empty `node`; False when it could not be handed on."""

    def call(
        self,
        method: str,
        user: str,
        client: str,
        data: bytes,
        done: Callable[[bytes | ReplyError], None],
        trace: bytes = b"",
    ) -> ReplyError | None:
        """Ask whoever answers `method`. An error returned means: not taken, `done` is never called."""

    def send(self, user: str, client: str, data: bytes) -> bool:
        """Pass a one-way message to the application; False when it could not be handed on."""


class Outcome(enum.Enum):
    """What a page of history is, for a recovery: all of it, or none and why. See history.proto."""

    COMPLETE = "complete"
    MORE = "more"
    TRIMMED = "trimmed"
    OTHER_EPOCH = "other_epoch"
    TOO_MANY = "too_many"


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a channel's history: publications behind `since` (before it, when `reverse`); `limit` 0: none.

    `recover`: all of them, or none. `at_least`: the greatest offset of the channel that is known here.
    """

    channel: str
    since: StreamPosition | None = None
    limit: int = 0
    max_bytes: int = 0
    reverse: bool = False
    recover: bool = False
    at_least: int = 0


class Page(msgspec.Struct, frozen=True):
    """What history answers: the channel's position at that moment, and publications in the order asked for."""

    top: StreamPosition
    publications: Sequence[Publication] = ()
    outcome: Outcome = Outcome.COMPLETE


class History(Protocol):
    """What channels have kept, and where they stand. Each `done` comes exactly once, never from inside the call."""

    def read(self, query: Query, done: Callable[[Page | ReplyError], None]) -> None:
        """Read a channel's history; the error is one for clients."""

    def positions(
        self,
        since: Mapping[str, StreamPosition],
        done: Callable[[Sequence[StreamPosition | None] | ReplyError], None],
    ) -> None:
        """Ask where channels stand, at most 1,000, and say where they stand here; None where that cannot be said now.

        Where it is proven that nothing was stored behind where a channel stands here, it stands there.
        """


class KeyFetcher(Protocol):
    """Who brings the keys that a token's verifier wants (policies.tokens.KeyWanted)."""

    def fetch(self, source: str, done: Callable[[], None]) -> None:
        """Try to bring the keys of `source`; `done` comes exactly once, never from inside this call, within a timeout.

        Whether keys came is the verifier's to say.
        """


class KeyMetrics(Protocol):
    """What happens with issuers' keys, for whoever counts."""

    def keys_fetched(self, url: str, outcome: str, seconds: float) -> None:
        """A fetch ended after this time; `outcome` is "ok" or a short constant, `url` goes without its query."""


class Transport(Protocol):
    """One connection's way out. It knows bytes and back-pressure, nothing of channels."""

    framing: Framing

    def send(self, frame: bytes) -> bool:
        """Write a whole frame, or keep it while the peer is slow; False when its bound is exceeded (then close it)."""

    @property
    def congested(self) -> bool:
        """Whether the socket is full, and frames wait until it takes bytes again."""

    def authenticated(self) -> None:
        """The client has shown who it is; called once."""

    def close(self, disconnect: Disconnect) -> None:
        """Say goodbye with the code and reason, then end; what was accepted by `send` goes out first, except on SLOW."""


class Metrics(Protocol):
    """What happens in the edge's core, for whoever counts."""

    def command(self, method: str, code: int, seconds: float, count: int = 1) -> None:
        """A command was answered, or so many that took equally long; code 0 is success."""

    def order_taken(self, kind: str, outcome: str) -> None:
        """A control order arrived: what became of it (a short constant)."""

    def order_malformed(self, why: str) -> None:
        """An order could not be understood; `why` repeats no value of it."""

    def order_lost(self) -> None:
        """An order to other edges could not be handed on."""

    def commands_dropped(self, count: int) -> None:
        """Commands were neither carried out nor answered."""

    def commands_throttled(self, outcome: str, count: int) -> None:
        """Commands came faster than their connection may send them; `outcome` is `refused` or `closed`."""

    def publication_received(self) -> None:
        """The broker delivered a publication."""

    def publication_dropped(self, reason: str) -> None:
        """A publication cannot be delivered (reason: a short constant)."""

    def fanned_out(self, deliveries: int, size: int, seconds: float) -> None:
        """Publications of one channel were written: deliveries, bytes over all connections, time it took."""

    def delta_made(self) -> None:
        """A delta was computed."""

    def delta_delivered(self, outcome: str, deliveries: int, saved: int) -> None:
        """Members that asked for deltas were sent one, or the whole publication, as `outcome` says; bytes saved over all."""

    def latency(self, seconds: float) -> None:
        """The time from a publisher's edge to the write on this one."""

    def batched(self, publications: int, seconds: float) -> None:
        """A batch of a channel goes out so long after its first publication came."""

    def conflated(self, count: int) -> None:
        """Publications were replaced by newer ones of their key before anybody was sent them."""

    def withheld(self, count: int) -> None:
        """Deliveries were not made, since the connection is behind: it gets the latest of each key when it can."""

    def unkept(self, count: int) -> None:
        """Publications could not be kept for connections that are behind, which are written to as usual."""

    def caught_up(self, deliveries: int, size: int) -> None:
        """A connection that was behind was sent this, in publications and bytes."""

    def recovery(self, outcome: str) -> None:
        """A client that asked for what it had missed was answered; the outcome is a short constant."""

    def gap(self, outcome: str) -> None:
        """A channel's publications were not proven to follow each other: `found`, `filled`, `lost`."""

    def duplicate_dropped(self) -> None:
        """A publication came that had been delivered already."""

    def page_reused(self) -> None:
        """A client recovered with what history had just shown another one."""

    def positions_checked(self, count: int, behind: int) -> None:
        """So many channels were compared with history; so many had not heard all of it yet."""

    def key_ignored(self) -> None:
        """A publication came with a key that is none: it is delivered as one without."""

    def connection_opened(self, format_name: str, compression: str) -> None:
        """A client is authenticated; `compression` is `deflate` or `none`."""

    def slow_consumer(self) -> None:
        """A connection exceeded its pending bytes."""

    def messages_unsent(self, count: int) -> None:
        """One-way messages that could not be handed on."""


class StreamPort(Protocol):
    """Who brings flights to JetStream; what it answers comes to `Lanes.answered` and `Lanes.found`, never from inside."""

    def place(self, channel: str, profile: str) -> Place:
        """Return where the channel's publications go."""

    def fields(self, info: bytes, key: str, trace: bytes, demands: Demands | None) -> bytes:
        """Return the lines of a header block for publications that come at this moment."""

    def send(self, flight: Flight) -> Result | None:
        """Publish; a result says that nothing went out, and why."""

    def send_all(self, flights: Sequence[Flight]) -> bool:
        """Publish flights of one publication each, as `send`; False: none of them went out."""

    def ask(self, flight: Flight) -> Result | None:
        """Ask for the channel's last stored publication; a result says that nothing went out, and why."""

    def forget(self, flight: Flight) -> None:
        """Hear no more answers to it."""


class AnswerMetrics(Protocol):
    """What JetStream answers that is no acknowledgement, for whoever counts."""

    def ignored(self, reason: str) -> None:
        """An answer is not believed; a short constant says why."""

    def refused(self, verdict: Verdict, why: str) -> None:
        """An attempt was not stored; `why` are JetStream's words."""


class StreamMetrics(Protocol):
    """What happens in the lanes, for whoever counts."""

    def acknowledged(self, seconds: float, flights: int = 1) -> None:
        """JetStream has answered so many flights, so long after they were sent last."""

    def stored(self, publications: int) -> None:
        """With those it has stored so many."""

    def batch_stored(self) -> None:
        """One of them was a batch."""

    def ended(self, outcome: str, publications: int) -> None:
        """So many clients' publications ended like this."""

    def ended_late(self, outcome: str, publications: int) -> None:
        """So many ended like this after their clients had been told that nobody knows."""

    def repeated(self) -> None:
        """A flight is tried again."""

    def split(self) -> None:
        """The publications of a batch go one by one."""

    def id_taken(self) -> None:
        """Somebody else's message has the id of a publication that was sent for the first time."""
