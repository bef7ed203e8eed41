"""The replica's ears and voice on NATS: subjects and bytes on one side, messages of `kernel.presence_wire` on the other."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from tidewire.kernel.presence_wire import (
    ALL_EDGES,
    Ask,
    Bye,
    Chunk,
    Delta,
    Heartbeat,
    Occupancy,
    ReplicaBeat,
    encode,
    reader,
)
from tidewire.kernel.subjects import InvalidChannelError, decode_channel, encode_channel, partition_of
from tidewire.platform.nats_types import NO_RESPONDERS, LinkError
from tidewire.presence.asks import Question

if TYPE_CHECKING:
    from tidewire.platform.nats_link import NatsLink
    from tidewire.platform.nats_types import MessageCallback
    from tidewire.presence.leaves import Leave
    from tidewire.presence.occupancy import Turn
    from tidewire.presence.replica import Replica

LONGEST_EDGE: Final = 255


class Metrics(Protocol):
    """Hears what happens."""

    def dropped(self, reason: str) -> None:
        """A message was not understood, or speaks of what its subject does not."""


class Ears:
    """Gives a replica what it hears. A message that cannot be understood is dropped: the sequence will show what it held."""

    def __init__(self, partitions: int, replica: Replica, metrics: Metrics, now: Callable[[], float]) -> None:
        self._partitions = partitions
        self._replica = replica
        self._metrics = metrics
        self._now = now
        self._delta = reader(Delta)
        self._sign = msgspec.msgpack.Decoder(Heartbeat | Bye)
        self._chunk = reader(Chunk)
        self._beat = reader(ReplicaBeat)
        self._occupancy = reader(Occupancy)

    def subscribe(self, link: NatsLink, served: Collection[int]) -> None:
        """Listen, for these partitions (none: all), also after reconnects."""
        for partition in served or ("*",):
            link.subscribe(f"tw.pres.d.{partition}.*".encode(), self._guarded(self._on_delta))
            link.subscribe(f"tw.pres.o.{partition}.>".encode(), self._guarded(self._on_occupancy))
        link.subscribe(b"tw.pres.h.*", self._guarded(self._on_heartbeat))
        link.subscribe(b"tw.pres.r.*", self._guarded(self._on_beat))
        link.subscribe(f"tw.pres.c.{self._replica.peers.own}.*".encode(), self._guarded(self._on_chunk))

    def _guarded(self, take: Callable[[list[str], bytes], None]) -> MessageCallback:
        def receive(subject: bytes, _reply: bytes, header: bytes, payload: bytes) -> None:
            if header.startswith(NO_RESPONDERS) and not payload:
                return  # a question to edges that are not there
            try:
                take(subject.decode().split(".", 4), payload)
            except (msgspec.MsgspecError, InvalidChannelError, ValueError):
                self._metrics.dropped("malformed")

        return receive

    def _on_delta(self, tokens: list[str], payload: bytes) -> None:
        delta, edge = self._delta.decode(payload), _edge(tokens[4])
        if delta.first < 1 or delta.incarnation < 0:
            raise ValueError("numbers begin at 1")
        self._replica.delta(edge, int(tokens[3]), delta, self._now())

    def _on_heartbeat(self, tokens: list[str], payload: bytes) -> None:
        edge, sign = _edge(tokens[3]), self._sign.decode(payload)
        if isinstance(sign, Heartbeat) and sign.count not in {0, self._partitions}:
            self._metrics.dropped("partitions")
            self._replica.disagreed(edge, sign.incarnation, self._now())
        else:
            self._replica.heartbeat(edge, sign, self._now())

    def _on_chunk(self, tokens: list[str], payload: bytes) -> None:
        self._replica.chunk(int(tokens[4]), self._chunk.decode(payload), self._now())

    def _on_beat(self, tokens: list[str], payload: bytes) -> None:
        beat = self._beat.decode(payload)
        if beat.replica == tokens[3]:
            self._replica.peer(beat, self._now())
        else:
            self._metrics.dropped("other_name")

    def _on_occupancy(self, tokens: list[str], payload: bytes) -> None:
        channel, message = decode_channel(tokens[4]), self._occupancy.decode(payload)
        self._replica.turned(int(tokens[3]), channel, message)


class NatsVoice:
    """Implements `ports.Voice`."""

    def __init__(
        self, link: NatsLink, own: str, partitions: int, metrics: Metrics, wall: Callable[[], float]
    ) -> None:
        self._link = link
        self._own = own
        self._partitions = partitions
        self._metrics = metrics
        self._wall = wall

    def hello(self) -> bool:
        """See Voice."""
        return self._ask(Question(ALL_EDGES, 0, ()))

    def ask(self, question: Question) -> bool:
        """See Voice."""
        return self._ask(question)

    def leave(self, leave: Leave) -> bool:
        """See Voice. One of a channel that is not its partition's is dropped: nobody listens for it."""
        return self._tell(b"j", leave.partition, leave.channel, encode(leave.event))

    def occupancy(self, turn: Turn) -> bool:
        """See Voice."""
        message = Occupancy(1, turn.occupied, int(self._wall() * 1000))
        return self._tell(b"o", turn.partition, turn.channel, encode(message))

    def beat(self, beat: ReplicaBeat) -> bool:
        """See Voice."""
        return self._publish(f"tw.pres.r.{self._own}".encode(), encode(beat))

    def _ask(self, question: Question) -> bool:
        reply = f"tw.pres.c.{self._own}.{question.number}".encode()
        ask = Ask(1, self._own, question.partitions, question.returned)
        return self._publish(f"tw.pres.s.{question.edge}".encode(), encode(ask), reply)

    def _tell(self, kind: bytes, partition: int, channel: str, payload: bytes) -> bool:
        try:
            tokens = encode_channel(channel)
        except InvalidChannelError:
            tokens = ""
        if not tokens or partition_of(tokens, self._partitions) != partition:
            self._metrics.dropped("no_channel")
            return True
        return self._publish(b"tw.pres.%b.%d.%b" % (kind, partition, tokens.encode()), payload)

    def _publish(self, subject: bytes, payload: bytes, reply: bytes = b"") -> bool:
        try:
            self._link.publish(subject, payload, b"", reply)
        except LinkError:
            return False
        return True


def _edge(token: str) -> str:
    """Return an edge's name as it stands in its subjects. Raises ValueError for one that no edge can have."""
    if len(token) > LONGEST_EDGE or token == ALL_EDGES or "*" in token or ">" in token:
        raise ValueError("no edge has this name")
    return token
