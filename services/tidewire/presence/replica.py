"""One replica: what it hears becomes state, and time becomes questions, leaves, occupancy and signs of life. Pure.

It answers for a partition when it has listened for long enough to know every living edge, and holds all that they announced.
While NATS is away or silent nothing ends and nothing is answered; afterwards leases begin anew, and each edge is doubted until its
heartbeat shows that nothing was missed.
"""

from __future__ import annotations

from typing import Final

from tidewire.kernel.presence_wire import (
    HEARTBEAT,
    LEASE,
    Bye,
    Chunk,
    Delta,
    Heartbeat,
    ReplicaBeat,
)
from tidewire.kernel.presence_wire import Occupancy as OccupancyMessage
from tidewire.presence.asks import Asks
from tidewire.presence.leaves import Leaves, Told
from tidewire.presence.life import Life
from tidewire.presence.mesh import Mesh
from tidewire.presence.occupancy import Occupancy, Turn
from tidewire.presence.peers import Peers
from tidewire.presence.ports import Metrics, Settings, Voice
from tidewire.presence.seen import Seen

LISTENING_AGAIN: Final = HEARTBEAT + 0.5
"""Seconds for which it listens when NATS is back, at most: the edges that were known must be heard of anyway."""
RETURN: Final = 4.0
"""Seconds more than a lease that edges have when NATS is back: they may be later to find it."""
DEAF: Final = HEARTBEAT + 1.0
"""Seconds without a word, its own included, after which it is the way from NATS that is silent, not the edges. The first of the
leases that would end by it does so LEASE - HEARTBEAT after the last word at the earliest, and the others up to HEARTBEAT later."""
STALL: Final = 2.0
"""Seconds between two looks at the clock after which it is this process that stood still, not the edges."""
MOST_AT_ONCE: Final = 2_000
"""Leaves, and changes of occupancy, that are published in one step."""
SHOWN: Final = 3
"""Edges that are named when it says whom it waits for."""
MEASURED: Final = 1.0
"""Seconds between two counts of all entries."""


class Replica:
    """The state and its clockwork. Times are monotonic seconds, and Unix milliseconds where they are named so."""

    def __init__(
        self,
        settings: Settings,
        told: Told,
        voice: Voice,
        metrics: Metrics,
        now: float,
        now_ms: int,
    ) -> None:
        self.mesh = Mesh(settings.partitions, self, metrics, settings.most_entries)
        self.seen = Seen(settings.most_seen, now_ms)
        self.occupancy = Occupancy()
        self.peers = Peers(settings.own)
        self.leaves = Leaves(told, self.mesh.has, self.mesh.is_returning)
        self.asks = Asks(metrics)
        self.begun = False
        """Whether it ever held all."""
        self._shared = tuple(settings.share)
        self._voice = voice
        self._metrics = metrics
        self._listening = settings.listening
        self._heard_of_nats = False
        self._is_away = True
        self._listening_until: float | None = None
        self._began: float | None = now
        """Since when it is not whole."""
        self._lease_floor = now
        """Until when no lease ends."""
        self._now = self._heard = self._ticked = self._beat_at = self._measure_at = now
        self._now_ms = now_ms

    # answering

    def problem(self, partition: int, now: float) -> str | None:
        """Return why there is no answer in a partition now: elsewhere, unavailable or not_synced.

        A replica that hears no edge at all knows nothing: whoever asks is served by one.
        """
        if partition not in self.mesh.partitions:
            return "elsewhere"
        if self._is_away:
            return "unavailable"
        if self._listening_until is not None or now - self._ticked > STALL or not self.mesh.lives:
            return "not_synced"
        if self._is_deaf(now):
            return "not_synced"
        return None if self.mesh.is_whole(partition) else "not_synced"

    @property
    def why_unready(self) -> str | None:
        """Return why it cannot serve at all."""
        if self._is_away:
            return "NATS is away"
        if self._listening_until is not None:
            return "listening for edges"
        return None if self.begun else self._lacking()

    def _lacking(self) -> str:
        lacking = sorted(life.edge for life in self.mesh.lives.values() if not life.is_whole)
        more = "" if len(lacking) <= SHOWN else f" and {len(lacking) - SHOWN} more"
        return f"waiting for snapshots of {', '.join(lacking[:SHOWN])}{more}"

    # hearing

    def delta(self, edge: str, partition: int, delta: Delta, now: float) -> None:
        """Take changes of an edge."""
        self._hear(now)
        self.mesh.delta(edge, partition, delta, now)

    def heartbeat(self, edge: str, heartbeat: Heartbeat | Bye, now: float) -> None:
        """Take an edge's sign of life, or its end."""
        self._hear(now)
        if isinstance(heartbeat, Bye):
            self.mesh.bye(edge, heartbeat, now)
        else:
            self.mesh.heartbeat(edge, heartbeat, now)

    def disagreed(self, edge: str, incarnation: int, now: float) -> None:
        """Hear of an edge that divides channels into other partitions: what it has is looked for where it is not.

        As long as it lives there are no answers, since they would lack it.
        """
        self._hear(now)
        self.mesh.disagreed(edge, incarnation, now)

    def chunk(self, number: int, chunk: Chunk, now: float) -> None:
        """Take a part of an answer to the question of this number."""
        self._hear(now)
        life = self.asks.find(number, chunk, now)
        if life is not None and self.mesh.chunk(life, chunk, now):
            self.asks.over(number, chunk.partition)

    def peer(self, beat: ReplicaBeat, now: float) -> None:
        """Hear of another replica. It may have taken for dead whom this one was only away from."""
        self._hear(now)
        if beat.replica == self.peers.own:
            return
        self.peers.beat(beat, now)
        for edge, incarnation, partition in beat.swept:
            self.leaves.swept((edge, incarnation, partition))
            life = self.mesh.lives.get(edge)
            if life is not None and life.incarnation == incarnation and now - life.heard > HEARTBEAT:
                life.swept.add(partition)

    def turned(self, partition: int, channel: str, message: OccupancyMessage) -> None:
        """Hear a change of occupancy, which may be this replica's own."""
        self.occupancy.told(Turn(partition, channel, message.occupied))

    def _hear(self, now: float) -> None:
        """A word has come. After a silence others may have been lost, and leases begin anew."""
        self._now = now
        if self._is_deaf(now) and not self._is_away:
            self.mesh.doubt()
            self._start_anew(now)
        self._heard = now

    def _is_deaf(self, now: float) -> bool:
        return bool(self.mesh.lives) and now - self._heard > DEAF

    # mesh.Listener

    def ended(self, life: Life, cause: str) -> None:
        """See mesh.Listener. An edge that says Bye has published its leaves itself."""
        self._metrics.ended(cause)
        if cause == "bye":
            return
        if lost := self.leaves.add(life, self._now, has_successor=cause == "successor"):
            self._metrics.leaves_lost(lost)

    def returned(self, life: Life) -> None:
        """See mesh.Listener. When it ends once more, its leaves are not told yet."""
        self.peers.unsweep(life.edge, life.incarnation)

    def occupied(self, partition: int, channel: str) -> None:
        """See mesh.Listener."""
        self.occupancy.change(partition, channel, 1, self._now, tell=self.begun)

    def vacated(self, partition: int, channel: str) -> None:
        """See mesh.Listener."""
        self.occupancy.change(partition, channel, -1, self._now, tell=self.begun)

    def user_gone(self, user: str, at_ms: int) -> None:
        """See mesh.Listener."""
        self.seen.gone(user, at_ms or self._now_ms, self._now_ms)

    def collided(self, edge: str) -> None:
        """See mesh.Listener."""
        self._metrics.collided(edge)

    # NATS and time

    def link_up(self, now: float) -> None:
        """NATS is there, for the first time or again."""
        self._is_away = False
        if not self._heard_of_nats:
            self._heard_of_nats, self._began, self._heard = True, now, now
            self._listening_until = now + self._listening
            self._voice.hello()
        else:
            self._start_anew(now)

    def link_down(self) -> None:
        """NATS is away: nothing ends, and what was known is doubted."""
        self._is_away = True
        self.mesh.doubt()
        self.asks.forget()

    def tick(self, now: float, now_ms: int) -> None:
        """Do what is due; to be called every 50 ms or so."""
        stood_still = now - self._ticked > STALL
        self._now, self._now_ms, self._ticked = now, now_ms, now
        if self._is_away:
            return
        if stood_still:
            self.mesh.doubt()
            self._start_anew(now)
        self._listen(now)
        if not self._is_deaf(now):
            self._expire(now)
            self._publish(now)
        self._ask(now)
        if now >= self._beat_at:
            self._beat(now)

    def _expire(self, now: float) -> None:
        if now >= self._lease_floor:
            self.mesh.expire(now)
        self.peers.expire(now)
        self.seen.expire(self._now_ms)

    def _start_anew(self, now: float) -> None:
        """Nothing was heard for a while, because nothing could be."""
        self._heard = now
        self._listening_until = now + min(LISTENING_AGAIN, self._listening)
        self._began = now
        self._lease_floor = now + LEASE + RETURN
        self.peers.renew(now)
        self._voice.hello()

    def _listen(self, now: float) -> None:
        if self._listening_until is not None and now >= self._listening_until:
            self._listening_until = None
        if self._began is None or self._listening_until is not None:
            return
        if all(life.is_whole for life in self.mesh.lives.values()):
            self._metrics.whole(now - self._began)
            self.begun, self._began, self._beat_at = True, None, now

    def _ask(self, now: float) -> None:
        if now >= self._measure_at:
            self._measure_at = now + MEASURED
            self.mesh.measure()
        self.asks.give_up(now)
        if self.mesh.full:
            return
        for question in self.asks.due(self.mesh.lives.values(), now):
            self._metrics.asked(len(question.partitions))
            self._voice.ask(question)  # one that cannot be sent now is not answered, and asked again

    def _publish(self, now: float) -> None:
        sent, done = self.leaves.publish(now, self._rank, MOST_AT_ONCE, self._voice.leave)
        self._metrics.left(sent)
        for swept in done:
            self.peers.sweep(swept, now)
        self._metrics.turned(self.occupancy.publish(now, self._rank, MOST_AT_ONCE, self._voice.occupancy))
        if done:
            self._beat_at = now

    def _rank(self, partition: int) -> int:
        return self.peers.rank(partition, begun=self._speaks)

    @property
    def _speaks(self) -> bool:
        """Whether it has a say among replicas: who is about to learn what there is has none."""
        return self.begun and self._began is None

    def end(self) -> None:
        """Have no say any more: the others need not wait for a word of this one that does not come."""
        self._voice.beat(ReplicaBeat(1, self.peers.own, self._shared, self.peers.swept, speaks=False))

    def _beat(self, now: float) -> None:
        """Tell the others that it lives; while it has nothing to tell, hear at least itself, and so that NATS is not silent."""
        self._beat_at = now + HEARTBEAT
        swept = self.peers.swept if self._speaks else ()
        self._voice.beat(ReplicaBeat(1, self.peers.own, self._shared, swept, self._speaks))
