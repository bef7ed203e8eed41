"""Tried as somebody would who wants presence to lie: each attempt, and what stands against it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from tests.support.http import only_tells
from tests.support.least_rights import VARIABLES, logged_in, printed
from tests.support.nats_client import connected, flushed
from tests.support.nats_server import NatsServer
from tests.support.presence import FEW, PresenceClient, PresenceProcess, client_of, presence_config
from tests.support.presence_edge import ScriptedEdge, scripted_edge
from tests.support.wait import eventually
from tidewire.kernel.call_errors import CallError
from tidewire.kernel.presence_wire import (
    Bye,
    Chunk,
    Delta,
    Heartbeat,
    Joined,
    Occupancy,
    PartitionState,
    ReplicaBeat,
    encode,
    reader,
)
from tidewire.kernel.subjects import encode_channel, partition_of

FORGED = (Joined("room:a", "forged", "eve"),)
SUBJECTS = [
    "tw.pres.d.0.edge-1",
    "tw.pres.h.edge-1",
    "tw.pres.c.replica.1",
    "tw.pres.s.all",
    "tw.pres.j.0.room.a",
    "tw.pres.r.replica",
    "tw.pres.o.0.room.a",
]


async def is_exact(client: PresenceClient, clients: set[str]) -> bool:
    """Whether exactly these are answered."""
    try:
        return await client.clients("room:a") == clients
    except CallError:
        return False


async def dropped(process: PresenceProcess) -> float:
    """How many messages were not understood."""
    return (await process.metrics()).value("tidewire_presence_dropped_total", reason="malformed")


RIGHTS = [
    ("edge", "tw.pres.r.x", False),
    ("edge", "tw.pres.o.0.room.a", False),
    ("edge", "tw.pres.s.edge-1", False),
    ("edge", "tw.pres.d.0.e", True),
    ("presence", "tw.pres.d.0.edge-1", False),
    ("presence", "tw.pres.h.edge-1", False),
    ("presence", "tw.pres.c.other.1", False),
    ("presence", "tw.in.0.room.a", False),
    ("presence", "tw.ctl.all", False),
    ("presence", "_INBOX_edge.1", False),
    ("presence", "$JS.API.INFO", False),
    ("presence", "tw.pres.o.0.room.a", True),
    *((user, subject, False) for user in ("app", "other", "history", "migrate") for subject in SUBJECTS),
]


async def test_nobody_says_more_than_his_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge is no replica, a replica no edge, and backends, history service and migrations are neither."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    with NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", FEW)) as server:
        for user in {user for user, _, _ in RIGHTS}:
            refused: list[str] = []
            async with logged_in(server.url, user, refused) as client:
                subjects = {subject: allowed for name, subject, allowed in RIGHTS if name == user}
                for subject in subjects:
                    await client.publish(subject, b"x")
                await flushed(client)
                wanted = {subject for subject, allowed in subjects.items() if not allowed}
                await eventually(lambda r=refused, w=wanted: len(r) >= len(w))
                said = " ".join(refused)
                for subject, allowed in subjects.items():
                    assert (f'"{subject.lower()}"' not in said) is allowed, (user, subject)


async def test_nobody_else_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is where is nothing that a backend hears by itself."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    with NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", FEW)) as server:
        for user in ("app", "other", "history", "migrate"):
            refused: list[str] = []
            async with logged_in(server.url, user, refused) as client:
                for subject in SUBJECTS:
                    await client.subscribe(subject)
                await flushed(client)
                await eventually(lambda r=refused: len(r) == len(SUBJECTS))


NONSENSE = [
    b"",
    b"\xc1",
    b"{",
    json.dumps({"stream": "TW_default_0", "seq": 1}).encode(),
    encode(["not", "a", "form"]),
    encode([2, 1, 1, []]),
    encode([1, 1, 0, []]),
    encode([1, 1, -(2**62), [["j", "room:a", "x", "y"]]]),
    encode([1, "one", 1, []]),
    encode([1, 1, 2, [["j", "x" * 300, "c", "u"]]]),
    encode([1, 1, 2, [["?", "room:a", "c"]]]),
    b"\xdd\xff\xff\xff\xff" + b"\x01" * 100,
    b"\x91" * 10_000,
]


async def test_what_is_not_understood_changes_nothing(
    presence: PresenceProcess, client: PresenceClient, edge: ScriptedEdge
) -> None:
    """It is dropped and counted, on every subject; the replica goes on."""
    await edge.join("room:a", "c1")
    await eventually(lambda: is_exact(client, {"c1"}))
    name = presence.logged("presence.started")[-1]["replica"]
    for payload in NONSENSE:
        before = await dropped(presence)
        for subject in (
            f"tw.pres.d.{edge.partition('room:a')}.edge-1",
            "tw.pres.h.edge-1",
            f"tw.pres.c.{name}.1",
            "tw.pres.r.other",
            "tw.pres.o.0.room.a",
        ):
            await edge.publish(subject, payload)
        await eventually(lambda b=before: _more(presence, b + 5), message=str(payload[:40]))
    await edge.join("room:a", "c2")
    await eventually(lambda: is_exact(client, {"c1", "c2"}))


async def test_acknowledgements_are_no_messages(tmp_path: Path) -> None:
    """JetStream sends its own to whatever subject a publisher names, whatever that one's rights are."""
    with NatsServer(tmp_path / "nats", jetstream=True) as server:
        async with connected(server.url) as nats, scripted_edge(server.url, "edge-1") as edge:
            await nats.jetstream().add_stream(name="S", subjects=["s"])
            with PresenceProcess(tmp_path, presence_config(server.url)) as process:
                await process.until_ready()
                async with client_of(process) as client:
                    await edge.join("room:a", "c1")
                    await eventually(lambda: is_exact(client, {"c1"}))
                    for subject in SUBJECTS:
                        await nats.publish("s", b"x", reply=subject)
                    await eventually(lambda: _more(process, 2))
                    assert await is_exact(client, {"c1"})


async def test_a_forger_in_an_edges_name_is_found_out(client: PresenceClient, edge: ScriptedEdge) -> None:
    """He has the edges' user: what he adds is gone when the edge has said twice where it stands."""
    await edge.join("room:a", "c1")
    await eventually(lambda: is_exact(client, {"c1"}))
    partition = edge.partition("room:a")
    subject = f"tw.pres.d.{partition}.edge-1"
    last = edge.truth[partition].last
    await edge.publish(subject, Delta(1, 1, last + 1, FORGED))
    await eventually(lambda: is_exact(client, {"c1", "forged"}))
    await eventually(lambda: is_exact(client, {"c1"}))
    for first in (last + 50, 2**62, 2**63 - 1):
        await edge.publish(subject, Delta(1, 1, first, FORGED))
        await eventually(lambda: is_exact(client, {"c1"}))


async def test_a_life_that_a_forger_begins_ends_by_itself(client: PresenceClient, edge: ScriptedEdge) -> None:
    """Or by his Bye; the edge is heard again 6 s after his last word."""
    await edge.join("room:a", "c1")
    await eventually(lambda: is_exact(client, {"c1"}))
    partition = edge.partition("room:a")
    await edge.publish(f"tw.pres.d.{partition}.edge-1", Delta(1, 2**63 - 1, 1, FORGED))
    await edge.publish("tw.pres.h.edge-1", Heartbeat(1, 2**63 - 1, (PartitionState(partition, 1, 1, 0, 0),)))
    await eventually(lambda: is_exact(client, {"forged"}))
    await eventually(lambda: is_exact(client, {"c1"}), 30)
    await edge.publish("tw.pres.h.edge-1", Bye(1, 1))
    await eventually(lambda: is_exact(client, {"c1"}), 30)


async def test_an_edge_is_who_its_subject_says(client: PresenceClient, edge: ScriptedEdge) -> None:
    """A chunk in another edge's name, on a question that edge was not asked, is nobody's."""
    await edge.join("room:a", "c1")
    await eventually(lambda: is_exact(client, {"c1"}))
    await edge.publish("tw.pres.h.all", Heartbeat(1, 1, ()))
    await edge.publish("tw.pres.d.0.all", Delta(1, 1, 1, FORGED))
    for number in range(20):
        chunk = Chunk(1, 1, "edge-1", edge.partition("room:a"), 9, 0, True, FORGED)
        await edge.publish(f"tw.pres.c.replica.{number}", chunk)
    assert await is_exact(client, {"c1"})


async def test_a_flood_of_chunks_is_no_snapshot(
    presence: PresenceProcess, client: PresenceClient, edge: ScriptedEdge
) -> None:
    """Numbers that were not asked, parts that come a thousand times, parts that never end."""
    name = presence.logged("presence.started")[-1]["replica"]
    await edge.join("room:a", "c1")
    await eventually(lambda: is_exact(client, {"c1"}))
    partition = edge.partition("room:a")
    edge.answering = False
    edge.losing = True
    await edge.join("room:a", "c2")
    edge.losing = False
    await edge.join("room:a", "c3")
    await eventually(lambda: _asked(presence))
    payloads = [encode(Chunk(1, 1, "edge-1", partition, 9, index, False, FORGED)) for index in range(200)]
    for _ in range(10):
        for number in range(5):
            for payload in payloads:
                await edge.client.publish(f"tw.pres.c.{name}.{number}", payload)
    await flushed(edge.client)
    assert not await is_exact(client, {"forged"})
    edge.answering = True
    await eventually(lambda: is_exact(client, {"c1", "c2", "c3"}), 60)


async def test_a_replica_in_anothers_name_is_not_heard(presence: PresenceProcess, edge: ScriptedEdge) -> None:
    """Nor one that says what the name of this one would be."""
    await edge.publish("tw.pres.r.a", ReplicaBeat(1, "b"))
    await edge.publish("tw.pres.o.0.room.a", Occupancy(1, True, 0))

    async def counted() -> bool:
        return (await presence.metrics()).value("tidewire_presence_dropped_total", reason="other_name") == 1

    await eventually(counted)
    assert (await presence.metrics()).value("tidewire_presence_replicas") == 0


async def test_a_forged_occupancy_ends_what_is_to_be_told_and_nothing_else(
    presence: PresenceProcess, edge: ScriptedEdge, client: PresenceClient, server: NatsServer
) -> None:
    """Nobody is there for it, nobody is gone, and nothing is said because of it."""
    await edge.join("room:a", "c1")
    async with connected(server.url) as listener:
        heard: list[tuple[str, bool]] = []

        async def hear(message: Msg) -> None:
            heard.append((message.subject, reader(Occupancy).decode(message.data).occupied))

        await listener.subscribe("tw.pres.o.>", cb=hear)
        await listener.flush()
        await eventually(lambda: (subject_of("room:a"), True) in heard)
        heard.clear()
        forged = [(subject_of("room:a"), False), (subject_of("room:b"), True), ("tw.pres.o.0.%", True)]
        for subject, occupied in forged:
            await edge.publish(subject, Occupancy(1, occupied, 0))
        await edge.join("room:c", "c1")
        await eventually(lambda: (subject_of("room:c"), True) in heard)
        assert heard == [*forged, (subject_of("room:c"), True)]
    assert await client.clients("room:a") == {"c1"}
    assert await client.clients("room:b") == set()
    assert await dropped(presence) == 1


async def test_the_internal_port_only_tells(
    presence: PresenceProcess, edge: ScriptedEdge, client: PresenceClient
) -> None:
    """And of nobody who is there."""
    await edge.join("room:a", "mallory-1", user="mallory")
    await eventually(lambda: is_exact(client, {"mallory-1"}))
    await only_tells(presence.internal_port, "mallory", "room:a")


def subject_of(channel: str) -> str:
    """Where it is told that a channel is occupied."""
    tokens = encode_channel(channel)
    return f"tw.pres.o.{partition_of(tokens, FEW)}.{tokens}"


async def _more(process: PresenceProcess, count: float) -> bool:
    return await dropped(process) >= count


async def _asked(process: PresenceProcess) -> bool:
    return (await process.metrics()).value("tidewire_presence_snapshots_total") >= 1
