"""Presence when edges and replicas die: leaves come once, nobody is dropped by mistake, and no answer is an error."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.present import NAMESPACES, Guest, Present, present_mesh
from tests.support.protocol import protocol
from tests.support.raw_client import Clients
from tests.support.tcp_proxy import running_proxy
from tests.support.wait import eventually

CROWD = 60
SDK_GIVES_UP = 5.0
"""Seconds after which the SDKs themselves give up on a command."""
PROMISED = 8.0
"""Seconds within which an edge that dies takes its members along (docs/presence.md)."""
ALLOWANCE = 4.0
"""Seconds more for the machine, as tests/chaos/attendance.py has them."""


pytestmark = pytest.mark.timeout(240)  # several processes start, one after the other


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Present]:
    """Two replicas, of which a test may kill any."""
    with present_mesh(tmp_path, replicas=2) as running:
        asyncio.run(running.until_ready())
        yield running


async def listed(guest: Guest, channel: str, *here: Guest) -> None:
    """Wait until these are listed, and nobody else."""

    async def found() -> bool:
        return set(await guest.presence(channel)) == {each.id for each in here}

    await eventually(found)


async def test_edge_that_is_killed_takes_its_members_along_once(mesh: Present, clients: Clients) -> None:
    """Within 8 s, by one leave for each but whose token says otherwise; who has come back elsewhere stays."""
    dying, other = mesh.edge("dying"), mesh.edge("other")
    watcher = await (await Guest.open(clients, other, "watcher")).subscribe("room:k", join_leave=True)
    crowd = [
        await (await Guest.open(clients, dying, f"user-{number}")).subscribe("room:k")
        for number in range(CROWD)
    ]
    unsaid = {"room:k": {"override": {"join_leave": {"value": False}}}}
    discreet = await Guest.open(clients, dying, "discreet", subs=unsaid)
    await listed(watcher, "room:k", watcher, *crowd, discreet)
    dying.kill()
    killed = time.monotonic()
    back = await (await Guest.open(clients, other, "user-0")).subscribe("room:k")
    assert set(await watcher.presence("room:k")) >= {each.id for each in crowd}, "nobody is gone yet"
    await eventually(lambda: len([each for each in watcher.events("room:k") if each[0] == "leave"]) >= CROWD)
    print(f"{CROWD} leaves {time.monotonic() - killed:.1f} s after the kill")
    assert time.monotonic() - killed < PROMISED + ALLOWANCE
    await listed(watcher, "room:k", watcher, back)
    await asyncio.sleep(2)  # a second replica's leaves would come now
    leaves = Counter(client for change, client in watcher.events("room:k") if change == "leave")
    assert leaves == Counter(each.id for each in crowd)


async def test_edge_that_drains_says_goodbye(mesh: Present, clients: Clients) -> None:
    """Its members are gone at once, each by its own leave."""
    going, other = mesh.edge("going"), mesh.edge("other")
    watcher = await (await Guest.open(clients, other, "watcher")).subscribe("room:d", join_leave=True)
    crowd = [await (await Guest.open(clients, going)).subscribe("room:d") for _ in range(10)]
    await listed(watcher, "room:d", watcher, *crowd)
    going.terminate()
    assert await going.exit_code() == 0
    ended = time.monotonic()
    await listed(watcher, "room:d", watcher)
    assert time.monotonic() - ended < 4
    leaves = [client for change, client in watcher.events("room:d") if change == "leave"]
    assert sorted(leaves) == sorted(each.id for each in crowd)


@protocol("command.presence", "error.100")
async def test_without_any_replica_there_is_an_error_and_afterwards_the_truth(
    mesh: Present, clients: Clients
) -> None:
    """One replica is enough; with none the error is temporary; replicas that begin anew know all again."""
    edge = mesh.edge("one")
    alice = await (await Guest.open(clients, edge)).subscribe("room:r", join_leave=True)
    await listed(alice, "room:r", alice)
    mesh.replicas[0].kill()
    for _ in range(5):
        assert set(await alice.presence("room:r")) == {alice.id}
    mesh.replicas[1].kill()
    began = time.monotonic()
    error = await alice.presence("room:r")
    assert (error["code"], error["temporary"]) == (100, True)
    assert time.monotonic() - began < SDK_GIVES_UP
    bob = await (await Guest.open(clients, edge, "bob")).subscribe("room:r")
    await eventually(lambda: ("join", bob.id) in alice.events("room:r"))
    mesh.replicas[0] = mesh.replica(0)

    async def first_list() -> list[set[str]]:
        found = await alice.presence("room:r")
        return [] if "code" in found else [set(found)]

    assert await eventually(first_list) == [{alice.id, bob.id}], "a part of the truth"


async def test_edge_that_stood_still_is_believed_again(mesh: Present, clients: Clients) -> None:
    """It was taken for dead; its members are listed again, and whoever heard their leaves hears their joins."""
    frozen, other = mesh.edge("frozen"), mesh.edge("other")
    watcher = await (await Guest.open(clients, other, "watcher")).subscribe("room:f", join_leave=True)
    member = await (await Guest.open(clients, frozen, "member")).subscribe("room:f", join_leave=True)
    await listed(watcher, "room:f", watcher, member)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        await eventually(lambda: ("leave", member.id) in watcher.events("room:f"))
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    await listed(watcher, "room:f", watcher, member)
    await eventually(lambda: watcher.events("room:f")[-1:] == [("join", member.id)])
    assert ("leave", member.id) not in member.events("room:f")


async def test_while_nats_is_away_nobody_leaves_and_afterwards_all_are_there(
    mesh: Present, clients: Clients
) -> None:
    """For longer than a lease: what happened meanwhile is known when it is back."""
    one, two = mesh.edge("one"), mesh.edge("two")
    alice = await (await Guest.open(clients, one)).subscribe("room:n", join_leave=True)
    bob = await (await Guest.open(clients, two, "bob")).subscribe("room:n")
    gone = await (await Guest.open(clients, two, "gone")).subscribe("room:n")
    await listed(alice, "room:n", alice, bob, gone)
    mesh.nats.kill()
    gone.client.abort()
    error = await alice.presence("room:n")
    assert error.get("code") == 100 or set(error) >= {alice.id, bob.id}
    await asyncio.sleep(7)  # longer than a lease
    mesh.nats.start()
    await listed(alice, "room:n", alice, bob)
    assert [each for each in alice.events("room:n") if each[0] == "leave"] == []
    carol = await (await Guest.open(clients, two, "carol")).subscribe("room:n")
    await eventually(lambda: ("join", carol.id) in alice.events("room:n"))
    await listed(alice, "room:n", alice, bob, carol)


@protocol("option.presence")
async def test_list_is_whole_after_a_reload_that_turns_presence_on(mesh: Present, clients: Clients) -> None:
    """Who had subscribed before is in it, and leaves like all others."""
    edge = mesh.edge("reloaded")
    before = [await (await Guest.open(clients, edge, f"user-{n}")).subscribe("live:r") for n in range(3)]
    assert (await before[0].presence("live:r"))["code"] == 108
    shown = {"presence": True, "join_leave": True, "allow_presence_for_subscriber": True}
    namespaces = [each | shown if each["name"] == "live" else each for each in NAMESPACES]
    edge.configure({"channel": {"namespaces": namespaces}})
    edge.hang_up()
    after = await Guest.open(clients, edge, "after")

    async def is_on() -> bool:
        return "code" not in await before[0].presence("live:r")

    await eventually(is_on)
    await after.subscribe("live:r", join_leave=True)
    await listed(after, "live:r", after, *before)
    before[0].client.abort()
    await eventually(lambda: ("leave", before[0].id) in after.events("live:r"))
    await listed(after, "live:r", after, *before[1:])


async def test_joins_are_told_of_an_edge_that_was_cut_off(mesh: Present, clients: Clients) -> None:
    """For longer than a lease: its members' leaves were told by the service, which it did not hear."""
    async with running_proxy(int(mesh.nats.url.rpartition(":")[2])) as proxy:
        other = mesh.edge("other")
        cut = await asyncio.to_thread(mesh.edge, "cut", {"nats": {"urls": [proxy.url]}})
        watcher = await (await Guest.open(clients, other, "watcher")).subscribe("room:c", join_leave=True)
        member = await (await Guest.open(clients, cut, "member")).subscribe("room:c")
        await listed(watcher, "room:c", watcher, member)
        await proxy.reset()
        await eventually(lambda: watcher.events("room:c")[-1:] == [("leave", member.id)])
        await proxy.mend()
        await eventually(lambda: watcher.events("room:c")[-1:] == [("join", member.id)])
        await listed(watcher, "room:c", watcher, member)


async def test_joins_are_told_of_an_edge_whose_words_came_late(mesh: Present, clients: Clients) -> None:
    """NATS was silent, not away: all its signs of life were sent, and arrived when its members' leaves had been told."""
    async with running_proxy(int(mesh.nats.url.rpartition(":")[2])) as proxy:
        other = mesh.edge("other")
        late = await asyncio.to_thread(mesh.edge, "late", {"nats": {"urls": [proxy.url]}})
        watcher = await (await Guest.open(clients, other, "watcher")).subscribe("room:l", join_leave=True)
        member = await (await Guest.open(clients, late, "member")).subscribe("room:l")
        await listed(watcher, "room:l", watcher, member)
        proxy.stall()
        await eventually(lambda: watcher.events("room:l")[-1] == ("leave", member.id), 20)
        await proxy.mend()
        await eventually(lambda: watcher.events("room:l")[-1] == ("join", member.id), 20)
        await listed(watcher, "room:l", watcher, member)
