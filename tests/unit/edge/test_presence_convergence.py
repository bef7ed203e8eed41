"""What an edge's own code announces, and a replica makes of it: whatever is lost on the way, in the end the truth."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.fakes.attendance import PARTITIONS, PresentCore
from tests.fakes.core import Client
from tests.fakes.edge import OPEN, edge_config
from tests.fakes.presence import Bench
from tidewire.edge import roll
from tidewire.edge.subscription import SubscriptionState
from tidewire.edge.timers import Timing
from tidewire.kernel.presence_wire import Delta, Heartbeat
from tidewire.kernel.subjects import channel_partition
from tidewire.presence.compact import keys

CHANNELS = ["plain:a", "plain:b", "plain:c", "plain:d"]
LOST = 0.15
"""Of all messages, while it rains."""
STEPS = 200


class Wire:
    """Brings what the edge says to the replica, in its order, and the replica's questions to the edge."""

    def __init__(self, core: PresentCore, random: Random) -> None:
        self.core, self.random = core, random
        self.raining = True
        self.replica = Bench("r1", partitions=range(PARTITIONS))
        self.deltas = self.beats = self.chunks = self.logged = self.asked = 0

    def carry(self) -> None:
        """Let everything arrive that is not lost."""
        replica, wire, incarnation = self.replica.replica, self.core.wire, self.core.announcer.incarnation
        now = self.replica.now
        for kind in wire.log[self.logged :]:
            if kind == "delta":
                number, first, changes = wire.deltas[self.deltas]
                self.deltas += 1
                self._bring(replica.delta, "e1", number, Delta(1, incarnation, first, changes), now)
            elif kind == "beat":
                beat = Heartbeat(1, incarnation, wire.beats[self.beats])
                self.beats += 1
                self._bring(replica.heartbeat, "e1", beat, now)
        self.logged = len(wire.log)
        for (subject,), chunk in wire.chunks[self.chunks :]:
            self._bring(replica.chunk, int(subject.rpartition(b".")[2]), chunk, now)
        self.chunks = len(wire.chunks)

    def _bring(self, take: Callable[..., None], *what: Any) -> None:
        if not self.raining or self.random.random() >= LOST:
            take(*what)

    def ask(self) -> None:
        """Bring the replica's questions, whose answers have their number."""
        questions = self.replica.voice.questions[self.asked :]
        self.asked += len(questions)
        for question in questions:
            reply = b"tw.pres.c.r1.%d" % question.number
            self.core.snapshots.ask("r1", reply, question.partitions, returned=question.returned)


class Story:
    """What befalls an edge: clients come, subscribe and go, options are reloaded, turns come late."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.core = PresentCore()
        self.wire = Wire(self.core, self.random)
        self.clients: list[Client] = []
        self.reload(presence=True)

    def reload(self, *, presence: bool) -> None:
        """Turn presence on or off."""
        plain = {"name": "plain", **OPEN, "presence": presence, "join_leave": self.random.random() < 0.5}
        target = {"presence": {"target": "ipv4:127.0.0.1:1"}}
        self.core.rules.configure(edge_config(channel={"namespaces": [plain]}, **target))
        self.core.dispatcher.reconfigured(Timing(ping=25.0, pong=8.0, stale=10.0))

    def act(self) -> None:
        """Do something."""
        what = self.random.choices(["come", "in", "out", "go", "reload"], [7, 7, 3, 2, 1])[0]
        if what == "come" or not self.clients:
            self.clients.append(self.core.client(f"u{self.random.randrange(6)}"))
            return
        client, channel = self.random.choice(self.clients), self.random.choice(CHANNELS)
        if what == "in" and not client.connection.session.subscriptions.find(channel):
            client.say({"id": 2, "subscribe": {"channel": channel}})
            self.core.broker.confirm(channel)
        elif what == "out":
            client.say({"id": 3, "unsubscribe": {"channel": channel}})
        elif what == "go":
            self.clients.remove(client)
            self.core.dispatcher.lost(client.connection)
        elif what == "reload":
            self.reload(presence=self.random.random() < 0.6)

    def step(self) -> None:
        """Let 50 ms pass."""
        self.core.clock.advance(0.05)
        self.core.turns.turn()
        if self.random.random() < 0.1:
            self.core.announcer.beat()
        self.wire.carry()
        self.wire.replica.pass_time(0.05, 0.05)
        self.wire.ask()

    def truth(self, channel: str) -> set[str]:
        """Who is subscribed."""
        return {
            client.connection.session.party.client
            for client in self.clients
            if (found := client.connection.session.subscriptions.find(channel)) is not None
            and found.state is SubscriptionState.LIVE
        }


@pytest.mark.parametrize("seed", range(8))
def test_in_the_end_replicas_know_exactly_who_is_there(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With snapshots of many parts that are made while clients come and go; and nobody is kept who has gone."""
    monkeypatch.setattr(roll, "CHUNK_SIZE", 400)
    story = Story(seed)
    for _ in range(STEPS):
        for _ in range(story.random.randrange(4)):
            story.act()
        story.step()
    story.reload(presence=True)
    story.wire.raining = False
    for _ in range(2 * STEPS):
        story.step()
    replica = story.wire.replica.replica
    for channel in CHANNELS:
        partition = channel_partition(channel, PARTITIONS)
        assert story.wire.replica.problem(partition) is None
        ((_, content),) = replica.mesh.contents(partition)
        assert set(keys(content.members_of(channel))) == story.truth(channel)
        assert content.is_occupied(channel) == bool(story.truth(channel))
    here = {client.connection.session.party.client for client in story.clients}
    assert set(replica.mesh.lives["e1"].people) == here
