"""Presence on NATS: what this edge announces and tells, and what replicas and other edges have to say (`presence_wire`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.kernel.presence_wire import (
    ALL_EDGES,
    Ask,
    Bye,
    Chunk,
    Delta,
    Event,
    Heartbeat,
    encode,
    reader,
)
from tidewire.kernel.subjects import encode_token, presence_event_subject
from tidewire.platform.nats_types import LinkError

if TYPE_CHECKING:
    from tidewire.edge.announcer import Announcer
    from tidewire.edge.presence_ports import PresenceMetrics
    from tidewire.edge.snapshots import Snapshots
    from tidewire.kernel.presence_wire import Change, PartitionState
    from tidewire.platform.nats_link import NatsLink

MAX_BACKLOG: Final = 1024 * 1024
"""Bytes that may wait for the socket before a snapshot waits, too."""
SETTLE_TIMEOUT: Final = 1.0
CHUNKS: Final = b"tw.pres.c."
"""Where replicas hear snapshots. An edge may publish on subjects that are no replica's business: it answers nowhere else."""

_ASK: Final = reader(Ask)
_EVENT: Final = reader(Event)


class NatsPresence:
    """`presence_ports.PresenceWire` on a NATS link."""

    def __init__(self, link: NatsLink, node: str, partitions: int, metrics: PresenceMetrics) -> None:
        self.edge: Final = encode_token(node)
        """The edge's name in subjects."""
        self._link = link
        self.partitions: Final = partitions
        self._metrics = metrics
        self._beats: Final = f"tw.pres.h.{self.edge}".encode()

    # What this edge says.

    def delta(self, partition: int, incarnation: int, first: int, changes: Sequence[Change]) -> bool:
        """See presence_ports.PresenceWire."""
        subject = f"tw.pres.d.{partition}.{self.edge}".encode()
        return self._publish(subject, encode(Delta(1, incarnation, first, tuple(changes))))

    def heartbeat(self, incarnation: int, states: Sequence[PartitionState]) -> bool:
        """See presence_ports.PresenceWire."""
        return self._publish(self._beats, encode(Heartbeat(1, incarnation, tuple(states), self.partitions)))

    def bye(self, incarnation: int) -> bool:
        """See presence_ports.PresenceWire."""
        return self._publish(self._beats, encode(Bye(1, incarnation)))

    def chunk(self, to: Collection[bytes], chunk: Chunk) -> bool:
        """See presence_ports.PresenceWire."""
        data = encode(chunk)
        return all(self._publish(subject, data) for subject in to)

    @property
    def congested(self) -> bool:
        """See presence_ports.PresenceWire."""
        return self._link.pending_bytes > MAX_BACKLOG

    def tell(self, channel: str, event: Event) -> bool:
        """See presence_ports.PresenceWire."""
        return self._publish(presence_event_subject(channel, self.partitions), encode(event))

    def settle(self, done: Callable[[], None]) -> None:
        """See presence_ports.PresenceWire."""
        try:
            self._link.barrier(lambda _confirmed: done(), SETTLE_TIMEOUT)
        except LinkError:
            done()

    def _publish(self, subject: bytes, data: bytes) -> bool:
        try:
            self._link.publish(subject, data)
        except LinkError:
            return False
        return True

    # What it hears.

    def hear(self, channel: str, take: Callable[[Event], None]) -> int:
        """See presence_ports.PresenceWire."""

        def receive(_subject: bytes, _reply: bytes, _header: bytes, payload: bytes) -> None:
            try:
                event = _EVENT.decode(payload)
            except msgspec.MsgspecError:
                self._metrics.presence_unread("malformed")
                return
            take(event)

        return self._link.subscribe(presence_event_subject(channel, self.partitions), receive)

    def unhear(self, handle: int) -> None:
        """See presence_ports.PresenceWire."""
        self._link.unsubscribe(handle)

    def take_questions(self, announcer: Announcer, snapshots: Snapshots) -> None:
        """Hear what replicas want to know of this edge, and of all."""

        def asked(_subject: bytes, reply: bytes, _header: bytes, payload: bytes) -> None:
            try:
                ask = _ASK.decode(payload)
            except msgspec.MsgspecError:
                self._metrics.presence_unread("malformed")
                return
            if reply.startswith(CHUNKS):
                snapshots.ask(ask.replica, reply, ask.partitions, returned=ask.returned)
            else:
                self._metrics.presence_unread("reply")

        def begun(_subject: bytes, _reply: bytes, _header: bytes, _payload: bytes) -> None:
            announcer.beat_soon()

        self._link.subscribe(f"tw.pres.s.{self.edge}".encode(), asked)
        self._link.subscribe(f"tw.pres.s.{ALL_EDGES}".encode(), begun)
