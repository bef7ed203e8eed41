from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.fakes.presence import Bench
from tidewire.kernel.presence_wire import (
    Ask,
    Bye,
    Delta,
    Event,
    Heartbeat,
    Joined,
    Occupancy,
    PartitionState,
    ReplicaBeat,
    encode,
    reader,
    user_partition,
)
from tidewire.kernel.subjects import encode_channel, partition_of
from tidewire.platform.nats_types import LinkAway
from tidewire.presence.adapters.nats_mesh import Ears, NatsVoice
from tidewire.presence.asks import Question
from tidewire.presence.leaves import Leave
from tidewire.presence.occupancy import Turn

PARTITIONS = 4


class Link:
    """Keeps what is published and subscribed."""

    def __init__(self) -> None:
        self.published: list[tuple[bytes, bytes, bytes]] = []
        self.subscribed: dict[bytes, Any] = {}
        self.is_away = False

    def publish(self, subject: bytes, payload: bytes, _header: bytes = b"", reply: bytes = b"") -> None:
        if self.is_away:
            raise LinkAway("NATS is away")
        self.published.append((subject, payload, reply))

    def subscribe(self, subject: bytes, callback: Any) -> int:
        self.subscribed[subject] = callback
        return len(self.subscribed)


class Drops:
    """Counts what is dropped."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def dropped(self, reason: str) -> None:
        self.counts[reason] += 1


class Scene:
    """A replica between ears and a voice."""

    def __init__(self, served: tuple[int, ...] = ()) -> None:
        self.link: Any = Link()
        self.drops = Drops()
        self.bench = Bench("r1", partitions=range(PARTITIONS))
        Ears(PARTITIONS, self.bench.replica, self.drops, lambda: self.bench.now).subscribe(self.link, served)
        self.voice = NatsVoice(self.link, "r1", PARTITIONS, self.drops, lambda: 5.0)

    def hear(self, subject: str, message: object, header: bytes = b"") -> None:
        """Deliver to the one subscription that fits."""
        payload = message if isinstance(message, bytes) else encode(message)
        for pattern, callback in self.link.subscribed.items():
            if fits(pattern.decode(), subject):
                callback(subject.encode(), b"", header, payload)
                return
        raise AssertionError(f"nobody listens to {subject}")


def fits(pattern: str, subject: str) -> bool:
    """As NATS has it."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
    return len(wanted) == len(given) and all(a in {"*", b} for a, b in zip(wanted, given, strict=True))


def test_it_listens_to_its_share() -> None:
    """Or to everything."""
    assert {each for each in Scene().link.subscribed if b".d." in each} == {b"tw.pres.d.*.*"}
    share = Scene((1, 3)).link.subscribed
    assert {each for each in share if b".d." in each} == {b"tw.pres.d.1.*", b"tw.pres.d.3.*"}
    assert b"tw.pres.c.r1.*" in share


def test_the_edge_is_the_subjects_last_token() -> None:
    """Whatever it is made of."""
    scene = Scene()
    scene.hear("tw.pres.h.host%2Eexample", Heartbeat(1, 1, ()))
    scene.hear("tw.pres.d.2.host%2Eexample", Delta(1, 1, 1, (Joined("a", "c", "u"),)))
    assert list(scene.bench.replica.mesh.lives) == ["host%2Eexample"]
    assert scene.bench.clients("a", 2) == {"c"}


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("tw.pres.d.0.e1", b""),
        ("tw.pres.d.0.e1", Delta(1, 1, 0, ())),
        ("tw.pres.d.0.e1", Delta(1, -1, 1, ())),
        ("tw.pres.d.x.e1", Delta(1, 1, 1, ())),
        ("tw.pres.d.0.all", Delta(1, 1, 1, ())),
        ("tw.pres.d.0." + "e" * 300, Delta(1, 1, 1, ())),
        ("tw.pres.h.e1", encode(["x", 1, 1])),
        ("tw.pres.h.all", Heartbeat(1, 1, ())),
        ("tw.pres.c.r1.x", b"\x90"),
        ("tw.pres.o.0.%", Occupancy(1, True, 1)),
    ],
)
def test_what_cannot_be_is_dropped(subject: str, message: object) -> None:
    """And counted; no edge comes of it."""
    scene = Scene()
    scene.hear(subject, message)
    assert scene.drops.counts == {"malformed": 1}
    assert scene.bench.replica.mesh.lives == {}


def test_that_nobody_listens_is_no_message() -> None:
    """A replica that begins before any edge asks nobody; with a payload it is one that somebody sent."""
    scene = Scene()
    scene.hear("tw.pres.c.r1.0", b"", b"NATS/1.0 503\r\n\r\n")
    assert scene.drops.counts == {}
    scene.hear("tw.pres.c.r1.0", b"x", b"NATS/1.0 503\r\n\r\n")
    assert scene.drops.counts == {"malformed": 1}


def test_a_replica_speaks_in_its_own_name() -> None:
    """And is not heard in another's."""
    scene = Scene()
    scene.hear("tw.pres.r.r2", ReplicaBeat(1, "r3"))
    assert scene.drops.counts == {"other_name": 1}
    scene.hear("tw.pres.r.r2", ReplicaBeat(1, "r2"))
    scene.hear("tw.pres.r.r1", ReplicaBeat(1, "r1"))
    assert list(scene.bench.replica.peers.live) == ["r2"]


def test_what_is_said() -> None:
    """On which subject, with which reply."""
    scene = Scene()
    here = partition_of(encode_channel("room:a b"), PARTITIONS)
    event = Event(1, "leave", "c", "u")
    assert scene.voice.hello()
    assert scene.voice.ask(Question("e1", 7, (1, 2)))
    assert scene.voice.ask(Question("e2", 8, (3,), returned=True))
    assert scene.voice.leave(Leave(here, "room:a b", event))
    assert scene.voice.occupancy(Turn(here, "room:a b", True))
    assert scene.voice.beat(ReplicaBeat(1, "r1"))
    said = {subject.decode(): (payload, reply) for subject, payload, reply in scene.link.published}
    assert reader(Ask).decode(said["tw.pres.s.all"][0]) == Ask(1, "r1", ())
    assert reader(Ask).decode(said["tw.pres.s.e1"][0]) == Ask(1, "r1", (1, 2))
    assert reader(Ask).decode(said["tw.pres.s.e2"][0]) == Ask(1, "r1", (3,), returned=True)
    assert said["tw.pres.s.e1"][1] == b"tw.pres.c.r1.7"
    assert reader(Event).decode(said[f"tw.pres.j.{here}.room.a%20b"][0]) == event
    assert reader(Occupancy).decode(said[f"tw.pres.o.{here}.room.a%20b"][0]) == Occupancy(1, True, 5000)
    assert "tw.pres.r.r1" in said


def test_what_is_no_channel_of_its_partition_is_told_to_nobody() -> None:
    """An edge has announced it so: it is dropped, and the rest goes on."""
    scene = Scene()
    there = (partition_of(encode_channel("room:a"), PARTITIONS) + 1) % PARTITIONS
    assert scene.voice.leave(Leave(there, "room:a", Event(1, "leave", "c", "u")))
    assert scene.voice.occupancy(Turn(0, "", True))
    assert scene.link.published == []
    assert scene.drops.counts == {"no_channel": 2}


def test_nothing_is_said_while_nats_is_away() -> None:
    """And who speaks is told."""
    scene = Scene()
    scene.link.is_away = True
    assert not scene.voice.hello()
    assert not scene.voice.beat(ReplicaBeat(1, "r1"))


def test_partitions_of_others_are_passed_over() -> None:
    """Signs of life name them all."""
    scene = Scene()
    scene.hear("tw.pres.h.e1", Heartbeat(1, 1, (PartitionState(99, 5, 5, 5, 5),)))
    assert scene.bench.problem(user_partition("u", PARTITIONS)) is None


def test_edge_with_other_partitions_is_no_reason_for_an_empty_answer() -> None:
    """Members would be looked for where they are not: there is no answer while such an edge lives."""
    scene = Scene()
    scene.hear("tw.pres.h.e1", Heartbeat(1, 1, (), PARTITIONS))
    scene.hear("tw.pres.h.e2", Heartbeat(1, 1, (), 2 * PARTITIONS))
    assert scene.drops.counts == {"partitions": 1}
    assert scene.bench.problem(0) == "not_synced"
    scene.hear("tw.pres.h.e2", Bye(1, 1))
    assert scene.bench.problem(0) is None
