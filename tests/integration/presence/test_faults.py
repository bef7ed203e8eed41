"""What befalls edges, replicas and NATS: who is there stays exact, and nobody is dropped who lives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.nats_client import connected, flushed
from tests.support.nats_server import NatsServer
from tests.support.presence import PresenceClient, PresenceProcess, client_of, presence_config
from tests.support.presence_edge import ScriptedEdge, scripted_edge
from tests.support.tcp_proxy import running_proxy
from tests.support.wait import SLACK, eventually
from tidewire.kernel.call_errors import CallError
from tidewire.kernel.presence_wire import HEARTBEAT, LEASE, Event, Occupancy, reader

MEMBERS = {f"c{number}" for number in range(50)}
CROWD = [f"c{number}" for number in range(5_000)]
KILL_TO_LEAVES = 8.0


class Heard:
    """The joins, leaves and changes of occupancy that subscribers would get."""

    def __init__(self) -> None:
        self.leaves: list[str] = []
        self.turns: list[bool] = []

    async def on_event(self, message: Msg) -> None:
        event = reader(Event).decode(message.data)
        assert event.change == "leave"
        self.leaves.append(f"{message.subject.split('.', 4)[4]} {event.client}")

    async def on_occupancy(self, message: Msg) -> None:
        self.turns.append(reader(Occupancy).decode(message.data).occupied)


@contextlib.asynccontextmanager
async def heard_by(client: Client) -> AsyncIterator[Heard]:
    """Yield what is heard from now on."""
    heard = Heard()
    await client.subscribe("tw.pres.j.>", cb=heard.on_event)
    await client.subscribe("tw.pres.o.*.room.>", cb=heard.on_occupancy)
    await flushed(client)
    yield heard


@contextlib.asynccontextmanager
async def replicas(
    server: NatsServer, folder: Path, count: int = 3, listening: str = "1s"
) -> AsyncIterator[list[PresenceProcess]]:
    """Yield replicas that are ready."""
    async with contextlib.AsyncExitStack() as stack:
        config = presence_config(server.url, {"presence_service": {"listening_time": listening}})
        processes = [PresenceProcess(folder, config, f"replica-{number}") for number in range(count)]
        for process in processes:
            process.launch()
            stack.callback(process.kill)
        for process in processes:
            await asyncio.to_thread(process.wait_ready)
        for process in processes:
            await process.until_ready()
        yield processes


@contextlib.asynccontextmanager
async def clients_of(processes: list[PresenceProcess]) -> AsyncIterator[list[PresenceClient]]:
    """Yield a client of each."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client_of(process)) for process in processes]


async def all_have(clients: list[PresenceClient], channel: str, members: set[str]) -> bool:
    """Whether each replica answers so."""
    try:
        return all([await client.clients(channel) == members for client in clients])
    except CallError:
        return False


async def answer(client: PresenceClient, channel: str) -> set[str] | str:
    """The members, or why a replica does not tell them."""
    try:
        return await client.clients(channel)
    except CallError as error:
        return error.reason.name


async def are_asked(processes: list[PresenceProcess], client: PresenceClient) -> None:
    """Wait until a client of several replicas has asked each of them, and so is connected to all."""

    async def handled() -> list[float]:
        method = "/tidewire.rpc.presence.v1.Presence/Members"
        pages = [await each.metrics() for each in processes]
        return [page.value("tidewire_rpc_server_handled_total", method=method) for page in pages]

    before = await handled()

    async def all_were() -> bool:
        await answer(client, "room:a")
        return all(now > was for now, was in zip(await handled(), before, strict=True))

    await eventually(all_were)


async def members(client: PresenceClient, channel: str) -> set[str]:
    """The members, as soon as a replica tells them: whoever asks once more may find it silent again."""

    async def told() -> set[str] | None:
        found = await answer(client, channel)
        return found if isinstance(found, set) else None

    return await eventually(told)  # type: ignore[return-value]


@pytest.mark.timeout(180)
async def test_an_edge_that_dies_takes_its_members_along_once(
    server: NatsServer, edge: ScriptedEdge, tmp_path: Path
) -> None:
    """Within 8 s, told once by three replicas; not of channels without joins and leaves."""
    async with (
        replicas(server, tmp_path) as processes,
        clients_of(processes) as clients,
        connected(server.url) as listener,
        heard_by(listener) as heard,
        scripted_edge(server.url, "victim") as victim,
    ):
        for start in range(0, len(CROWD), 500):
            await victim.join("room:a", *CROWD[start : start + 500])
        await victim.join("quiet:a", "c1")
        await victim.join("room:b", "gone")
        await edge.join("room:b", "stays")
        await eventually(lambda: all_have(clients, "room:a", set(CROWD)))
        await eventually(lambda: all_have(clients, "room:b", {"stays", "gone"}))
        await eventually(lambda: heard.turns == [True, True])
        await victim.freeze()
        killed = time.monotonic()
        wanted = {*(f"room.a {client}" for client in CROWD), "room.b gone"}
        await eventually(lambda: set(heard.leaves) == wanted, 20)
        took = time.monotonic() - killed
        print(f"{len(wanted)} leaves {took:.1f} s after it fell silent")
        assert took < KILL_TO_LEAVES + SLACK
        await eventually(lambda: all_have(clients, "room:a", set()))
        await eventually(lambda: all_have(clients, "room:b", {"stays"}))
        await eventually(lambda: heard.turns == [True, True, False])
        await asyncio.sleep(7)  # longer than the next replica waits
        assert len(heard.leaves) == len(wanted)
        assert heard.turns == [True, True, False]


@pytest.mark.timeout(180)
async def test_the_replica_whose_turn_it_is_dies_too(
    server: NatsServer, edge: ScriptedEdge, tmp_path: Path
) -> None:
    """Another one tells the leaves; answers go on all the time."""
    async with (
        replicas(server, tmp_path, 2) as processes,
        connected(server.url) as listener,
        heard_by(listener) as heard,
        scripted_edge(server.url, "victim") as victim,
    ):
        async with clients_of(processes) as clients:
            await victim.join("room:a", "c1", "c2")
            await edge.join("room:a", "c3")
            await eventually(lambda: all_have(clients, "room:a", {"c1", "c2", "c3"}))
        first = min(processes, key=lambda process: process.logged("presence.started")[-1]["replica"])
        async with client_of(*processes, attempts=3) as either:
            await are_asked(processes, either)
            await victim.beat()  # its lease begins now, and is 2 s longer than what is looked at
            await victim.freeze()
            first.kill()
            end = time.monotonic() + 4
            while time.monotonic() < end:
                assert await either.clients("room:a") == {"c1", "c2", "c3"}
                await asyncio.sleep(0.02)
            await eventually(lambda: sorted(heard.leaves) == ["room.a c1", "room.a c2"], 30)
            assert await either.clients("room:a") == {"c3"}


@pytest.mark.timeout(180)
async def test_the_replica_whose_turn_it_is_ends_in_order(
    server: NatsServer, edge: ScriptedEdge, tmp_path: Path
) -> None:
    """It says so, and the next one tells the leaves as soon as it would have: in an update of all replicas nobody is late."""
    async with (
        replicas(server, tmp_path, 2) as processes,
        connected(server.url) as listener,
        heard_by(listener) as heard,
        scripted_edge(server.url, "victim") as victim,
    ):
        async with clients_of(processes) as clients:
            await victim.join("room:a", "c1")
            await edge.join("room:a", "c2")
            await eventually(lambda: all_have(clients, "room:a", {"c1", "c2"}))
        first = min(processes, key=lambda process: process.logged("presence.started")[-1]["replica"])
        await victim.beat()
        died = time.monotonic()
        await victim.freeze()
        await asyncio.sleep(LEASE - 1.5)
        first.send_signal(signal.SIGTERM)
        assert await first.exit_code() == 0
        await eventually(lambda: heard.leaves == ["room.a c1"], 30)
        assert time.monotonic() - died < LEASE + 2, "a lease of the edge, and not another one of the replica"


@pytest.mark.timeout(180)
async def test_all_replicas_down_and_up_again(server: NatsServer, edge: ScriptedEdge, tmp_path: Path) -> None:
    """There is an error or the whole list, never an empty one."""
    async with replicas(server, tmp_path, 2, "4500ms") as processes:
        async with clients_of(processes) as clients:
            await edge.join("room:a", *MEMBERS)
            await eventually(lambda: all_have(clients, "room:a", MEMBERS))
        for process in processes:
            process.kill()
        for process in processes:
            process.launch()
        began: list[set[str] | str] = []
        for process in processes:  # each is asked at its own start: it listens for so long only
            await asyncio.to_thread(process.wait_ready)
            async with client_of(process) as client:
                began.append(await answer(client, "room:a"))
        answers: list[set[str] | str] = []
        async with clients_of(processes) as clients:
            while answers[-20:] != [MEMBERS] * 20:
                answers += [await answer(client, "room:a") for client in clients]
                await asyncio.sleep(0.01)
        assert MEMBERS not in began
        assert all(each in (MEMBERS, "not_synced", "unavailable") for each in (*began, *answers))


@pytest.mark.timeout(180)
async def test_a_replica_that_is_cut_off_drops_nobody(
    server: NatsServer, edge: ScriptedEdge, tmp_path: Path
) -> None:
    """It does not answer, and is exact again afterwards: who came, who went, and which edge died meanwhile."""
    async with running_proxy(server.port) as proxy, scripted_edge(server.url, "victim") as victim:
        with PresenceProcess(tmp_path, presence_config(proxy.url)).launch() as process:
            await asyncio.to_thread(process.wait_ready)
            await process.until_ready()
            async with (
                client_of(process) as client,
                connected(server.url) as listener,
                heard_by(listener) as heard,
            ):
                await edge.join("room:a", *MEMBERS)
                await victim.join("room:a", "v1")
                await eventually(lambda: all_have([client], "room:a", {*MEMBERS, "v1"}))
                await proxy.reset()
                await eventually(lambda: process.logged("nats.away"))
                with pytest.raises(CallError) as caught:
                    await client.clients("room:a")
                assert caught.value.reason.name in {"unavailable", "not_synced"}
                await victim.freeze()
                await edge.leave("room:a", "c1")
                await edge.join("room:a", "new")
                await asyncio.sleep(8)  # longer than a lease
                await proxy.mend()
                await eventually(lambda: process.logged("nats.back"))
                wanted = {*MEMBERS, "new"} - {"c1"}
                assert await members(client, "room:a") in ({*wanted, "v1"}, wanted)
                await eventually(lambda: all_have([client], "room:a", wanted), 30)
                await eventually(lambda: heard.leaves == ["room.a v1"])


@pytest.mark.timeout(180)
async def test_nobody_is_dropped_when_nats_begins_anew(
    server: NatsServer, edge: ScriptedEdge, tmp_path: Path
) -> None:
    """Members stay, no leave is told, and what was not heard meanwhile is asked for."""
    async with replicas(server, tmp_path, 2) as processes, clients_of(processes) as clients:
        await edge.join("room:a", *MEMBERS)
        await eventually(lambda: all_have(clients, "room:a", MEMBERS))
        server.kill()
        await eventually(lambda: all(process.logged("nats.away") for process in processes))
        await asyncio.sleep(7)
        server.start()
        await eventually(lambda: edge.client.is_connected)
        async with connected(server.url) as listener, heard_by(listener) as heard:
            edge.losing = True
            await edge.join("room:a", "unheard")
            edge.losing = False
            await eventually(lambda: all_have(clients, "room:a", {*MEMBERS, "unheard"}), 30)
            await asyncio.sleep(8)
            assert heard.leaves == []
            assert await all_have(clients, "room:a", {*MEMBERS, "unheard"})


@pytest.mark.timeout(180)
async def test_an_edge_begins_a_new_life(
    presence: PresenceProcess, client: PresenceClient, edge: ScriptedEdge, server: NatsServer
) -> None:
    """The members of its last one are gone, told once; what the last one still says is not believed."""
    async with connected(server.url) as listener, heard_by(listener) as heard:
        await edge.join("room:a", "stays")
        async with scripted_edge(server.url, "twice") as first:
            await first.join("room:a", "c1")
            await eventually(lambda: all_have([client], "room:a", {"stays", "c1"}))
            await first.freeze()
            async with scripted_edge(server.url, "twice", incarnation=2) as second:
                await second.join("room:a", "c2")
                await flushed(
                    second.client
                )  # by two connections: the server has the one before it is sent the other
                await first.join("room:a", "c3")
                await eventually(lambda: all_have([client], "room:a", {"stays", "c2"}))
                await eventually(lambda: heard.leaves == ["room.a c1"])
                await second.bye()
                await eventually(lambda: all_have([client], "room:a", {"stays"}))
                await asyncio.sleep(3)
                assert heard.leaves == ["room.a c1"]
    metrics = await presence.metrics()
    assert metrics.value("tidewire_presence_edges_ended_total", cause="successor") == 1
    assert metrics.value("tidewire_presence_edges_ended_total", cause="bye") == 1
    assert metrics.value("tidewire_presence_unheard_total") >= 1


@pytest.mark.timeout(180)
async def test_two_edges_of_one_name_are_in_the_log(presence: PresenceProcess, server: NatsServer) -> None:
    """Once, however much the one that is not heard says."""
    async with scripted_edge(server.url, "twin"), scripted_edge(server.url, "twin", incarnation=2):
        await eventually(lambda: "presence.name_collision" in presence.log)
        await asyncio.sleep(2 * HEARTBEAT)
    (line,) = [line for line in presence.log.splitlines() if "presence.name_collision" in line]
    told = json.loads(line)
    assert (told["level"], told["edge"]) == ("warning", "twin")


@pytest.mark.timeout(180)
async def test_a_replica_that_stood_still_takes_nobody_for_dead(
    presence: PresenceProcess, client: PresenceClient, edge: ScriptedEdge, server: NatsServer
) -> None:
    """It was itself that did not hear."""
    async with connected(server.url) as listener, heard_by(listener) as heard:
        await edge.join("room:a", "c1")
        await eventually(lambda: all_have([client], "room:a", {"c1"}))
        presence.send_signal(signal.SIGSTOP)
        await asyncio.sleep(8)
        presence.send_signal(signal.SIGCONT)
        await eventually(lambda: all_have([client], "room:a", {"c1"}), 30)
        await asyncio.sleep(1)
        assert heard.leaves == []
        assert await client.clients("room:a") == {"c1"}


@pytest.mark.timeout(180)
async def test_shares_of_the_partitions(server: NatsServer, edge: ScriptedEdge, tmp_path: Path) -> None:
    """Each answers for its own, and says of others that another replica has them; together they answer for all."""
    async with contextlib.AsyncExitStack() as stack:
        processes = []
        for share in (0, 1):
            config = presence_config(server.url, {"presence_service": {"partitions": [share]}})
            process = stack.enter_context(PresenceProcess(tmp_path, config, f"share-{share}"))
            await process.until_ready()
            processes.append(process)
        by_partition: dict[int, str] = {}
        for number in range(20):
            by_partition.setdefault(edge.partition(f"room:{number}"), f"room:{number}")
        for channel in by_partition.values():
            await edge.join(channel, f"in-{channel}")
        either = await stack.enter_async_context(client_of(*processes, attempts=3))
        for share, process in enumerate(processes):
            client = await stack.enter_async_context(client_of(process))
            here, there = by_partition[share], by_partition[1 - share]
            await eventually(lambda c=client, h=here: all_have([c], h, {f"in-{h}"}))
            with pytest.raises(CallError) as caught:
                await client.clients(there)
            assert caught.value.reason.name == "elsewhere"
            assert await client.stats(here, there) == [(1, 1), "elsewhere"]
        await are_asked(processes, either)
        for _ in range(20):
            for channel in by_partition.values():
                assert await either.clients(channel) == {f"in-{channel}"}


@pytest.mark.timeout(180)
async def test_a_replica_that_hears_nothing_does_not_answer(
    server: NatsServer, edge: ScriptedEdge, tmp_path: Path
) -> None:
    """Nothing passes from NATS, and nobody says so: no list lacks an edge, and nobody was told to leave when it is over."""
    async with (
        running_proxy(server.port) as proxy,
        scripted_edge(server.url, "second") as second,
        connected(server.url) as listener,
        heard_by(listener) as heard,
    ):
        with PresenceProcess(tmp_path, presence_config(proxy.url)).launch() as process:
            await asyncio.to_thread(process.wait_ready)
            await process.until_ready()
            async with client_of(process) as client:
                await edge.join("room:a", *MEMBERS)
                await asyncio.sleep(1)  # so that their leases do not end together
                await second.join("room:a", "s1")
                await eventually(lambda: all_have([client], "room:a", {*MEMBERS, "s1"}))
                proxy.stall()
                end = time.monotonic() + 9  # longer than a lease, and shorter than NATS pings take
                refused = 0
                while time.monotonic() < end:
                    try:
                        assert await client.clients("room:a") == {*MEMBERS, "s1"}
                    except CallError:
                        refused += 1
                    await asyncio.sleep(0.02)
                assert refused
                await proxy.mend()
                await eventually(lambda: all_have([client], "room:a", {*MEMBERS, "s1"}))
                assert heard.leaves == []
