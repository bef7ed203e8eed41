"""Whatever befalls messages, edges, the replica and its clock, it ends at the truth, and never answers from anything else.

The model: edges with a truth of their own, whose messages to the replica wait in a queue each (NATS keeps the order of one
connection; some rules break even that), and may be lost or come twice. Answers of a replica that says it is synced are
compared with what the edge has said up to the number that the replica stands at. A watcher hears joins and leaves, of edges
their own and of the replica those of the dead; in the end it knows of everybody who is there.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.presence import Bench
from tests.support.presence_edge import Truth
from tidewire.kernel.presence_wire import (
    HEARTBEAT,
    Bye,
    Change,
    Connected,
    Delta,
    Disconnected,
    Heartbeat,
    Joined,
    Left,
    Occupied,
    Vacated,
)
from tidewire.presence.compact import items, keys
from tidewire.presence.content import Content

PARTITIONS = 2
CHANNELS = ["a:1", "a:2", "b:1"]
CLIENTS = ["c1", "c2", "c3", "c4"]
USERS = ["u1", "u2"]


class Edge:
    """An edge of the model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.incarnation = 0
        self.alive = False
        self.begin()

    def begin(self) -> None:
        """Start a new life."""
        self.incarnation += 1
        self.alive = True
        self.forgotten = False
        """Whether the replica that took it for dead is no more, or began anew or was cut off for long before all was told
        again: nobody knows that its joins are to be."""
        self.truths = [Truth() for _ in range(PARTITIONS)]
        self.said: list[list[Change]] = [[] for _ in range(PARTITIONS)]
        self.queue: deque[tuple[str, Any]] = deque()

    def say(self, partition: int, *changes: Change) -> None:
        """Announce."""
        truth = self.truths[partition]
        delta = Delta(1, self.incarnation, truth.last + 1, changes)
        truth.take(changes)
        self.said[partition] += changes
        self.queue.append(("delta", (partition, delta)))

    def beat(self) -> None:
        """Give a sign of life."""
        states = tuple(truth.state(index) for index, truth in enumerate(self.truths) if truth.last)
        self.queue.append(("beat", Heartbeat(1, self.incarnation, states)))

    @property
    def members(self) -> set[tuple[int, str, str]]:
        """Who is there: partition, channel, client."""
        return {(number, *key) for number, truth in enumerate(self.truths) for key in truth.members}

    def at(self, partition: int, last: int) -> Truth:
        """What was there at a number."""
        truth = Truth()
        truth.take(self.said[partition][:last])
        return truth


class World:
    """Edges and one replica."""

    def __init__(self, choice: random.Random) -> None:
        self.choice = choice
        self.bench = Bench(partitions=range(PARTITIONS), started=False)
        self.edges = [Edge("e1"), Edge("e2")]
        self.up = True
        self.seen: Counter[str] = Counter()
        """What happened to replicas that are no more."""
        self.watched: set[tuple[int, str, str]] = set()
        """Who is there as a watcher has it."""

    def change(self) -> None:
        """Something happens at an edge."""
        edge = self.choice.choice(self.edges)
        if not edge.alive:
            return
        channel = self.choice.choice(CHANNELS)
        client = f"{edge.name}.{edge.incarnation}.{self.choice.choice(CLIENTS)}"
        user, info = self.choice.choice(USERS), self.choice.choice([b"", b"{}", b"1"])
        made: list[Change] = [
            Joined(channel, client, user, info, self.choice.choice([b"", b"2"])),
            Left(channel, client),
            Connected(user, client, self.choice.randrange(10**12)),
            Disconnected(user, client, self.choice.randrange(10**12)),
            Occupied(channel),
            Vacated(channel),
        ]
        before = edge.members
        edge.say(self.choice.randrange(PARTITIONS), *self.choice.choices(made, k=self.choice.randrange(1, 4)))
        self.watched = self.watched - (before - edge.members) | (edge.members - before)

    def deliver(self) -> None:
        """The replica hears one message, or twice, or not at all."""
        edge = self.choice.choice(self.edges)
        if not edge.queue:
            return
        if self.choice.random() < 0.02:
            edge.queue.rotate(self.choice.choice([1, -1]))  # out of order: NATS does not, a forger may
        kind, message = edge.queue.popleft()
        for _ in range(self.choice.choices([0, 1, 2], [1, 48, 1])[0] if self.up else 0):
            self.hear(edge, kind, message)

    def hear(self, edge: Edge, kind: str, message: Any) -> None:
        """Give it one message."""
        replica, now = self.bench.replica, self.bench.now
        if kind == "delta":
            replica.delta(edge.name, message[0], message[1], now)
        elif kind == "beat":
            replica.heartbeat(edge.name, message, now)
        else:
            replica.chunk(message[0], message[1], now)

    def tick(self) -> None:
        """Time passes, and edges that are asked answer, behind what they have said already."""
        self.bench.now += self.choice.choice([0.05, 0.3, 1.0])
        self.bench.ahead += self.choice.choice([0, 0, -5_000, 5_000])
        self.bench.tick()
        self.answer()

    def answer(self) -> None:
        """Each edge answers what it was asked since."""
        voice = self.bench.voice
        leaves, voice.leaves = voice.leaves, []
        self.watched -= {(each.partition, each.channel, each.event.client) for each in leaves}
        questions, voice.questions = voice.questions, []
        for question in questions if self.up else ():
            edge = next(each for each in self.edges if each.name == question.edge)
            for partition in question.partitions if edge.alive else ():
                if question.returned:
                    self.watched |= {each for each in edge.members if each[0] == partition}
                chunks = edge.truths[partition].chunks(edge.name, edge.incarnation, partition, 2)
                edge.queue.extend(("chunk", (question.number, chunk)) for chunk in chunks)

    def beat(self) -> None:
        """All edges give signs of life."""
        for edge in self.edges:
            if edge.alive:
                edge.beat()

    def restart_edge(self) -> None:
        """One dies and comes back, without a word or with one."""
        edge = self.choice.choice(self.edges)
        if edge.alive and self.choice.random() < 0.5:
            self.bench.replica.heartbeat(edge.name, Bye(1, edge.incarnation), self.bench.now)
            self.watched -= edge.members
        edge.begin()

    def cut(self) -> None:
        """NATS goes away, or comes back."""
        if self.up:
            self.bench.replica.link_down()
        else:
            self.bench.replica.link_up(self.bench.now)
        self.up = not self.up

    def restart_replica(self) -> None:
        """It begins with nothing."""
        now, ahead = self.bench.now, self.bench.ahead
        self.seen += self.bench.metrics.counts
        for edge in self.edges:
            life = self.bench.replica.mesh.lives.get(edge.name)
            edge.forgotten = edge.forgotten or life is None or life.returned_until > now
        self.bench = Bench(partitions=range(PARTITIONS), started=False)
        self.bench.now, self.bench.ahead, self.up = now, ahead, True
        self.bench.replica.link_up(now)

    def hush(self) -> None:
        """What one edge says is late, by longer than a lease."""
        late = self.choice.choice(self.edges)
        for _ in range(8 if self.up else 0):
            for edge in self.edges:
                if edge is not late and edge.alive:
                    edge.beat()
                    while edge.queue:
                        self.hear(edge, *edge.queue.popleft())
            self.bench.now += 1.0
            self.bench.tick()
            self.answer()

    def stall(self) -> None:
        """The replica stands still."""
        self.bench.now += self.choice.choice([3.0, 30.0])
        self.bench.tick()

    def check(self) -> None:
        """What may be answered is what each edge had said up to where the replica stands."""
        for edge in self.edges:
            life = self.bench.replica.mesh.lives.get(edge.name)
            late = life is not None and 0 < life.returned_until <= self.bench.now and not life.is_whole
            edge.forgotten = edge.forgotten or late
        for partition in range(PARTITIONS):
            if self.bench.problem(partition) is not None:
                continue
            for edge in self.edges:
                life = self.bench.replica.mesh.lives.get(edge.name)
                if life is not None and life.incarnation == edge.incarnation:
                    follower = life.followers.get(partition)
                    last = 0 if follower is None else follower.last
                    empty = Content({}, None)  # type: ignore[arg-type]
                    content = empty if follower is None else follower.content
                    assert described(content) == wanted(edge.at(partition, last))

    def settle(self) -> None:
        """Nothing goes wrong any more."""
        if not self.up:
            self.cut()
        for _ in range(80):
            if self.bench.now % HEARTBEAT < 0.25:
                self.beat()
            for edge in self.edges:
                while edge.queue:
                    self.hear(edge, *edge.queue.popleft())
            self.bench.now += 0.25
            self.bench.tick()
            self.answer()


def described(content: Content) -> tuple[Any, Any, Any]:
    """Members, connections and occupied channels."""
    members = {
        (channel, client): (found.person.user, found.person.info or b"", found.chan_info)
        for channel, room in content.rooms.items()
        for client in keys(room.members)
        if (found := dict(items(room.members))[client])
    }
    users = {(user, client): since for user, held in content.users.items() for client, since in items(held)}
    channels = {channel for channel, room in content.rooms.items() if room.occupied}
    return members, users, channels


def wanted(truth: Truth) -> tuple[Any, Any, Any]:
    """The same of the truth."""
    return (
        {key: (each.user, each.conn_info, each.chan_info) for key, each in truth.members.items()},
        {key: each.since_ms for key, each in truth.users.items()},
        set(truth.channels),
    )


FAULTS = ["restart_edge", "cut", "restart_replica", "stall", "hush"]
STEPS = [*["change"] * 100, *["deliver"] * 300, *["tick"] * 50, *["beat"] * 20, *FAULTS]
LENGTH = 600
HAPPENS = ("gap", "chunk", "silence", "successor", "bye", "lease")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(min_value=0, max_value=2**32))
def test_it_ends_at_the_truth_and_answers_from_nothing_else(seed: int) -> None:
    """Any order of deltas, losses, repetitions, snapshots, restarts of edges and replica, outages and clock jumps."""
    choice = random.Random(seed)
    world = World(choice)
    for step in choice.choices(STEPS, k=LENGTH):
        getattr(world, step)()
        world.check()
    world.settle()
    for partition in range(PARTITIONS):
        assert world.bench.problem(partition) is None
    for edge in world.edges:
        life = world.bench.replica.mesh.lives[edge.name]
        assert life.incarnation == edge.incarnation
        for partition, truth in enumerate(edge.truths):
            if truth.last:
                assert described(life.followers[partition].content) == wanted(truth)
        assert edge.forgotten or edge.members <= world.watched
    occupied = {channel for edge in world.edges for truth in edge.truths for channel in truth.channels}
    assert set(world.bench.replica.occupancy.edges) == occupied


def test_the_model_is_answered_often() -> None:
    """Otherwise it would show nothing."""
    world = World(random.Random(1))
    world.restart_replica()
    answered = 0
    for step in world.choice.choices(STEPS, k=10 * LENGTH):
        getattr(world, step)()
        answered += world.bench.problem(0) is None
    assert answered > LENGTH
    world.restart_replica()
    assert {reason for reason in HAPPENS if not world.seen[reason]} == set()
