"""Three replicas without a leader, of which one at a time fails: each leave is told once, and each turn of a channel is told."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable
from random import Random

import pytest

from tests.fakes.presence import Bench
from tests.support.presence_edge import Truth
from tidewire.kernel.presence_wire import (
    HEARTBEAT,
    LEASE,
    Change,
    Delta,
    Heartbeat,
    Joined,
    Left,
    Occupancy,
    Occupied,
    ReplicaBeat,
    Vacated,
)
from tidewire.presence.occupancy import SETTLE

CHANNELS = [f"room:{name}" for name in "abcd"]
STEP = 0.25
QUIET = 2 * LEASE + 4
"""Seconds after which everybody agrees again: an edge's lease, a replica's, and what edges have when NATS is back."""
ROUNDS = 8

Word = Callable[[Bench], None]


class Edge:
    """An edge of the model, whose words reach all replicas that hear."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.truth, self.alive = world, name, Truth(), True
        self.incarnation = 1
        self.clients = 0

    def say(self, *changes: Change) -> None:
        """Announce."""
        delta = Delta(1, self.incarnation, self.truth.last + 1, changes)
        self.truth.take(changes)
        self.world.tell(lambda bench: bench.replica.delta(self.name, 0, delta, bench.now))

    def come(self, channel: str) -> None:
        """A client joins."""
        self.clients += 1
        first = [] if channel in self.truth.channels else [Occupied(channel)]
        self.say(*first, Joined(channel, f"{self.name}.{self.incarnation}.{self.clients}", "u"))

    def go(self, channel: str) -> None:
        """One leaves."""
        there = [client for name, client in self.truth.members if name == channel]
        if there:
            last = [Vacated(channel)] if len(there) == 1 else []
            self.say(Left(channel, there[0]), *last)

    def beat(self) -> None:
        """Give a sign of life."""
        states = (self.truth.state(0),) if self.truth.last else ()
        beat = Heartbeat(1, self.incarnation, states)
        self.world.tell(lambda bench: bench.replica.heartbeat(self.name, beat, bench.now))


class World:
    """Edges and replicas, and what replicas have told."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.now = 1000.0
        self.benches = {name: Bench(name) for name in ("r1", "r2", "r3")}
        self.queues: dict[str, deque[Word]] = {name: deque() for name in self.benches}
        """What a replica has not heard yet."""
        self.frozen: set[str] = set()
        self.cut: set[str] = set()
        self.edges = [Edge(self, f"e{number}") for number in range(3)]
        self.leaves: Counter[tuple[str, str]] = Counter()
        self.turns: list[tuple[str, bool]] = []
        self.dead: set[tuple[str, str]] = set()

    def tell(self, word: Word) -> None:
        """Let all hear it whom NATS reaches."""
        for name, queue in self.queues.items():
            if name not in self.cut:
                queue.append(word)

    def step(self) -> None:
        """Let a moment pass."""
        self.now += STEP
        if self.now % HEARTBEAT < STEP:
            for edge in self.edges:
                if edge.alive:
                    edge.beat()
        for name, bench in self.benches.items():
            bench.now = self.now
            if name not in self.frozen:
                while self.queues[name]:
                    self.queues[name].popleft()(bench)
                said = len(bench.voice.beats)
                bench.replica.tick(bench.now, bench.now_ms)
                self._say(name, bench, said)

    def _say(self, name: str, bench: Bench, said: int) -> None:
        voice = bench.voice
        leaves, turns, questions = voice.leaves, voice.turns, voice.questions
        voice.leaves, voice.turns, voice.questions = [], [], []
        if name in self.cut:
            return
        for leave in leaves:
            self.leaves[leave.channel, leave.event.client] += 1
        for turn in turns:
            self.turns.append((turn.channel, turn.occupied))
            message = Occupancy(1, turn.occupied, 0)
            self.tell(lambda b, t=turn, m=message: b.replica.turned(t.partition, t.channel, m))  # type: ignore[misc]
        for beat in voice.beats[said:]:
            self.tell(lambda b, beat=beat: self._peer(b, beat))  # type: ignore[misc]
        for question in questions:
            edge = next(each for each in self.edges if each.name == question.edge)
            if edge.alive:
                for chunk in edge.truth.chunks(edge.name, edge.incarnation, 0, 3):
                    self.queues[name].append(
                        lambda b, q=question, c=chunk: b.replica.chunk(q.number, c, b.now)
                    )  # type: ignore[misc]

    @staticmethod
    def _peer(bench: Bench, beat: ReplicaBeat) -> None:
        bench.replica.peer(beat, bench.now)

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / STEP)):
            self.step()

    # What happens.

    def live(self) -> None:
        """Clients come and go."""
        for _ in range(6):
            edge = self.dice.choice([edge for edge in self.edges if edge.alive])
            channel = self.dice.choice(CHANNELS)
            (edge.come if self.dice.random() < 0.6 else edge.go)(channel)
            self.passes(STEP * self.dice.randrange(3))

    def fail(self) -> Callable[[float], None]:
        """One replica fails; return what ends that."""
        name = self.dice.choice(list(self.benches))
        kind = self.dice.choice(["freeze", "cut", "kill"])
        if kind != "cut":
            self.frozen.add(name)
        if kind != "freeze":
            self.cut.add(name)
            self.benches[name].replica.link_down()
        return lambda _seconds: {"freeze": self.frozen.discard, "cut": self._mend, "kill": self._begin}[kind](
            name
        )

    def _mend(self, name: str) -> None:
        self.cut.discard(name)
        self.queues[name].clear()
        self.benches[name].replica.link_up(self.now)

    def _begin(self, name: str) -> None:
        self.cut.discard(name)
        self.frozen.discard(name)
        self.queues[name].clear()
        made = self.benches[name] = Bench(name, started=False)
        made.now = self.now
        made.replica.tick(made.now, made.now_ms)
        made.replica.link_up(self.now)

    def die(self) -> None:
        """An edge ends without a word; another one begins in its place, now or later."""
        edge = self.dice.choice(self.edges)
        self.dead |= set(edge.truth.members)
        edge.alive = False
        if self.dice.random() < 0.5:
            self.passes(QUIET)
        edge.truth, edge.alive = Truth(), True
        edge.incarnation += 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("failing", [False, True])
def test_each_leave_is_told_once_and_each_turn_is_told(seed: int, failing: bool) -> None:
    """Whatever one replica does meanwhile; of those who are there none is told, and all replicas end at the same."""
    world = World(seed)
    world.passes(QUIET)
    for _ in range(ROUNDS):
        world.live()
        world.passes(SETTLE + 2 * STEP)
        mend = world.fail() if failing else world.passes
        world.passes(world.dice.choice([0, 1, 3, 8]))
        (world.die if world.dice.random() < 0.7 else world.live)()
        world.passes(world.dice.choice([0, 1, 3, 8]))
        mend(0)
        world.passes(QUIET + LEASE)
    assert world.leaves == Counter(dict.fromkeys(world.dead, 1))
    there = {channel for edge in world.edges for channel in edge.truth.channels}
    assert {channel for channel, occupied in dict(world.turns).items() if occupied} == there
    for channel in CHANNELS:
        told = [occupied for name, occupied in world.turns if name == channel]
        assert failing or not any(one is other for one, other in itertools.pairwise(told)), (channel, told)
    for bench in world.benches.values():
        assert bench.problem() is None
        assert set(bench.replica.occupancy.edges) == there
