"""A presence replica without NATS: what it says is kept, and the clock is the test's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tidewire.kernel.presence_wire import Heartbeat, Occupancy, ReplicaBeat
from tidewire.presence.asks import Question
from tidewire.presence.compact import keys
from tidewire.presence.leaves import Leave
from tidewire.presence.occupancy import Turn
from tidewire.presence.ports import Settings
from tidewire.presence.replica import Replica

LISTENING = 4.5


class RecordingVoice:
    """Keeps what is said, unless it is mute."""

    def __init__(self) -> None:
        self.hellos = 0
        self.questions: list[Question] = []
        self.leaves: list[Leave] = []
        self.turns: list[Turn] = []
        self.beats: list[ReplicaBeat] = []
        self.mute = False

    def hello(self) -> bool:
        self.hellos += 1
        return not self.mute

    def ask(self, question: Question) -> bool:
        self.questions.append(question)
        return not self.mute

    def leave(self, leave: Leave) -> bool:
        if not self.mute:
            self.leaves.append(leave)
        return not self.mute

    def occupancy(self, turn: Turn) -> bool:
        if not self.mute:
            self.turns.append(turn)
        return not self.mute

    def beat(self, beat: ReplicaBeat) -> bool:
        self.beats.append(beat)
        return not self.mute

    @property
    def gone(self) -> list[tuple[str, str]]:
        """(channel, client) of the leaves."""
        return [(leave.channel, leave.event.client) for leave in self.leaves]


class CountingMetrics:
    """Counts what happens."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wholes: list[float] = []

    def lacking(self, reason: str) -> None:
        self.counts[reason] += 1

    def ended(self, cause: str) -> None:
        self.counts[cause] += 1

    def collided(self, edge: str) -> None:
        self.counts[f"collided {edge}"] += 1

    def asked(self, snapshots: int) -> None:
        self.counts["asked"] += snapshots

    def left(self, count: int) -> None:
        self.counts["left"] += count

    def turned(self, count: int) -> None:
        self.counts["turned"] += count

    def leaves_lost(self, count: int) -> None:
        self.counts["leaves_lost"] += count

    def whole(self, seconds: float) -> None:
        self.wholes.append(seconds)


class Bench:
    """One replica and its clock: Unix time is the monotonic one and a day or more."""

    def __init__(
        self,
        own: str = "r1",
        *,
        partitions: Iterable[int] = (0,),
        most_entries: int = 1_000_000,
        most_seen: int = 1_000,
        silent: Iterable[str] = (),
        started: bool = True,
    ) -> None:
        """Namespaces in `silent` (channels before their `:`) have no joins and leaves. `started`: it listens no more."""
        self.now = 1_000.0
        self.ahead = 1_000_000.0
        self.silent = False
        self.voice = RecordingVoice()
        self.metrics = CountingMetrics()
        quiet = frozenset(silent)
        self.replica = Replica(
            Settings(own, tuple(partitions), (), most_entries, most_seen, LISTENING),
            lambda channel: channel.partition(":")[0] not in quiet,
            self.voice,
            self.metrics,
            self.now,
            self.now_ms,
        )
        self.replica.link_up(self.now)
        if started:
            self.pass_time(LISTENING + 0.1)

    @property
    def now_ms(self) -> int:
        """Unix time."""
        return int((self.now + self.ahead) * 1000)

    def tick(self) -> None:
        """Do what is due now. A replica hears its own signs of life, unless the way from NATS is `silent`."""
        said = len(self.voice.beats)
        self.replica.tick(self.now, self.now_ms)
        for beat in self.voice.beats[said:]:
            if not self.silent:
                self.replica.peer(beat, self.now)

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, in steps."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            self.tick()

    def beat(self, edge: str = "e1", incarnation: int = 1, *states: object) -> None:
        """An edge gives a sign of life."""
        self.replica.heartbeat(edge, Heartbeat(1, incarnation, states), self.now)  # type: ignore[arg-type]

    def problem(self, partition: int = 0) -> str | None:
        """Why there is no answer."""
        return self.replica.problem(partition, self.now)

    def hear_turn(self, channel: str, *, occupied: bool) -> None:
        """Another replica tells a change of occupancy."""
        self.replica.turned(0, channel, Occupancy(1, occupied, self.now_ms))

    def clients(self, channel: str, partition: int = 0) -> set[str]:
        """Who is in a channel."""
        return {
            client
            for _, content in self.replica.mesh.contents(partition)
            for client in keys(content.members_of(channel))
        }
