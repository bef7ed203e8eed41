"""The other half of `make chaos`: who is there, and who gets how much, while presence, rate limits and an edge fail.

Some 5,000 members are on one edge, guests come and go on three, and publish under a rule. After each fault every replica of the
presence service is asked for all members, and has exactly those that the clients themselves know of.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from random import Random

import msgspec

from tests.chaos.attendance_mesh import EDGES, LIMITS, TERMS, AttendanceMesh, attendance_mesh
from tests.chaos.attendees import CHANNELS, FULL, Crowd
from tests.support.history import HistoryProcess
from tests.support.presence import client_of
from tests.support.wait import eventually
from tidewire.kernel.call_errors import CallError
from tidewire.kernel.rate_bound import lease_excess

FROZEN = 10.0
"""Seconds that what stands still or is cut off stays so."""
PROMISED = 8.0
"""Seconds within which an edge that dies takes its members along (docs/presence.md). All else that a replica waits for is less:
a start listens for 4.5 s, and one that was away from NATS for 2.5 s."""
ALLOWANCE = 4.0
"""Seconds more for the machine: two cores, for nine processes and 500 clients, beside other work."""
LEAVES_WITHIN = PROMISED + ALLOWANCE
"""Seconds until all members of a killed edge have left."""
EXACT_WITHIN = PROMISED + ALLOWANCE
"""Seconds after a fault, once nobody comes or goes, until every replica has everybody."""
FREED = 7.0
"""Seconds within which a killed edge frees its places, and a replica that began anew knows what is held (docs/rate-limits.md)."""
COUNTED_WITHIN = FREED + ALLOWANCE
"""Seconds until connections are counted as they are, once nobody comes or goes."""
LIVELY = 5.0
"""Seconds of coming and going before each fault."""
LONG = 120.0
POLL = 0.2


class Scene(msgspec.Struct):
    """Where faults happen, and what they leave behind to be judged."""

    mesh: AttendanceMesh
    crowd: Crowd
    dice: Random
    say: Callable[[str], None]
    anew: list[tuple[float, float]] = []
    """When keys of the rate limits moved to another replica, and back."""
    apart: list[tuple[float, float]] = []
    """When edges did not agree on which replicas of the rate limits answer, as far as is known."""
    dead: set[tuple[str, str]] = set()
    """Members of killed edges: channel, client."""


Fault = Callable[[Scene], Awaitable[None]]


async def kill_a_presence_replica(scene: Scene) -> None:
    """Kill -9, and started again."""
    replica = scene.dice.choice(scene.mesh.presence)
    replica.kill()
    await asyncio.sleep(FROZEN / 2)
    await asyncio.to_thread(replica.start)


async def freeze_a_presence_replica(scene: Scene) -> None:
    """SIGSTOP: its sockets stay open."""
    await _freeze(scene.dice.choice(scene.mesh.presence))


async def cut_a_presence_replica_from_nats(scene: Scene) -> None:
    """By a reset, or by silence."""
    way = scene.dice.choice(scene.mesh.ways)
    if scene.dice.random() < 0.5:
        scene.say("  silence")
        way.stall()
    else:
        await way.reset()
    await asyncio.sleep(FROZEN)
    await way.mend()


async def kill_a_rate_limit_replica(scene: Scene) -> None:
    """Kill -9, and started again."""
    replica = scene.dice.choice(scene.mesh.limits)

    async def killed() -> None:
        replica.kill()
        await asyncio.sleep(FROZEN / 2)
        await asyncio.to_thread(replica.start)

    await _moved(scene, killed())


async def freeze_a_rate_limit_replica(scene: Scene) -> None:
    """SIGSTOP."""
    await _moved(scene, _freeze(scene.dice.choice(scene.mesh.limits)))


async def kill_the_full_edge(scene: Scene) -> None:
    """Kill -9: watchers hear each leave; another edge takes its place at once, or when they have."""
    at_once = scene.dice.random() < 0.5
    await scene.crowd.all_reside()
    dead = {(channel, each.id) for each in scene.crowd.living for channel in FULL}
    scene.dead |= dead
    scene.mesh.edges[0].kill()
    began = time.monotonic()
    if at_once:
        await scene.mesh.replace_full_edge()

    async def all_left() -> bool:
        await asyncio.sleep(POLL)
        return all(dead <= watcher.leaves.keys() for watcher in scene.crowd.watchers)

    await eventually(all_left, LONG, "leaves of the members of a killed edge")
    took = time.monotonic() - began
    scene.say(
        f"  {len(dead)} leaves heard by each watcher within {took:.1f} s{', replaced at once' * at_once}"
    )
    assert took < LEAVES_WITHIN, f"leaves took {took:.1f} s"
    if not at_once:
        await scene.mesh.replace_full_edge()


async def restart_nats(scene: Scene) -> None:
    """Kill -9, and started again."""
    scene.mesh.nats.kill()
    await asyncio.sleep(FROZEN / 2)
    await asyncio.to_thread(scene.mesh.nats.start)


FAULTS: tuple[Fault, ...] = (
    kill_a_presence_replica,
    freeze_a_presence_replica,
    cut_a_presence_replica_from_nats,
    kill_a_rate_limit_replica,
    freeze_a_rate_limit_replica,
    kill_the_full_edge,
    restart_nats,
)


async def _freeze(process: HistoryProcess) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN)
    finally:
        os.kill(process.pid, signal.SIGCONT)


async def _moved(scene: Scene, fault: Coroutine[None, None, None]) -> None:
    """Have one rate-limit replica away until all edges reach it again, and note where keys were meanwhile."""
    began = before = time.monotonic()
    told = all_up = [LIMITS] * EDGES
    away = asyncio.ensure_future(fault)
    async with asyncio.timeout(LONG):
        while not (away.done() and told == all_up):
            await asyncio.sleep(POLL)
            last, told = told, await scene.mesh.limits_up()
            now = time.monotonic()
            if told != last or len(set(told)) > 1:
                scene.apart.append((before, now))
            before = now
    await away
    scene.anew.append((began, before))
    apart = sum(end - begin for begin, end in scene.apart if begin >= began)
    scene.say(f"  edges did not agree on who counts for {apart:.1f} s at most")


# What is judged.


async def exact(scene: Scene) -> float:
    """Return the seconds until every presence replica has everybody who is there, and counts them so."""
    await scene.crowd.hold()
    began = time.monotonic()
    try:
        await eventually(lambda: _is_exact(scene), EXACT_WITHIN, "exact members and counts at every replica")
    finally:
        scene.crowd.go_on()
    return time.monotonic() - began


async def _is_exact(scene: Scene) -> bool:
    await asyncio.sleep(POLL)
    present = scene.crowd.book.present
    counts = [(len(found), len(set(found.values()))) for found in present.values()]
    for replica in scene.mesh.presence:
        async with client_of(replica) as client:
            try:
                members = await client.members(*CHANNELS)
                counted = await client.stats(*CHANNELS)
            except CallError as error:
                raise AssertionError(f"{replica.name}: {(await replica.ready()).body!r}: {error}") from error
        for channel, found in zip(CHANNELS, members, strict=True):
            assert not found.problem, (replica.name, channel, found.problem)
            has = {member.client: member.user for member in found.members}
            assert has == present[channel], (
                replica.name,
                channel,
                f"{len(has.keys() - present[channel].keys())} too many",
                f"{len(present[channel].keys() - has.keys())} missing",
            )
        assert counted == counts, (replica.name, counted, counts)
    return True


async def _connections_are_exact(scene: Scene) -> bool:
    await asyncio.sleep(POLL)
    counted, connected = await scene.mesh.counted(), scene.crowd.book.connections
    assert counted == connected, f"{counted:.0f} counted, {connected} connected"
    return True


def judged(scene: Scene) -> None:
    """Tell the figures, then judge them."""
    book = scene.crowd.book
    spent = book.spent.values()
    over = max((each.most_over(TERMS.allowance, scene.anew, scene.apart) for each in spent), default=0)
    most = max((each.most_over(TERMS.allowance) for each in spent), default=0)
    bound = lease_excess(TERMS)
    scene.say(f"{book.joins} joins, {book.leaves} leaves, {len(scene.dead)} members of killed edges")
    scene.say(", ".join(f"{name} {count}" for name, count in sorted(book.outcomes.items())))
    scene.say(
        f"at most {most:.1f} over the rule in any window, {over:.1f} where buckets that began anew, and keys with two, are allowed for; B = {bound}"
    )
    assert not book.surprises, f"{len(book.surprises)} surprises: {book.surprises[:10]}"
    for watcher in scene.crowd.watchers:
        twice = {left: count for left, count in watcher.leaves.items() if count > 1}
        assert not twice, f"{len(twice)} leaves came more than once: {list(twice.items())[:5]}"
        assert scene.dead <= watcher.leaves.keys(), "a leave of a killed edge is missing"
    assert over <= bound, f"{over:.1f} over the rule"


async def story(folder: Path, faults: list[Fault], seed: int, residents: int, guests: int) -> None:
    """Tell it; raises AssertionError where anything is not as it must be."""

    def say(line: str) -> None:
        print(line, flush=True)

    async with attendance_mesh(folder) as mesh:
        full, *others = mesh.edges
        crowd = Crowd(
            full.ws_url, [edge.ws_url for edge in others], Random(seed), residents=residents, guests=guests
        )
        scene = Scene(mesh, crowd, Random(seed), say)
        try:
            await crowd.begin()
            say(f"begun: exact after {await exact(scene):.1f} s, {_members(crowd)} members")
            crowd.begin_asking()
            for fault in faults:
                await _befall(scene, fault)
            await crowd.hold()
            await eventually(
                lambda: _connections_are_exact(scene), COUNTED_WITHIN, "exact counts of connections"
            )
            say(f"{crowd.book.connections} connections counted")
            judged(scene)
        finally:
            await crowd.end()
        await eventually(lambda: _connections_are_exact(scene), COUNTED_WITHIN, "no connections")


def _members(crowd: Crowd) -> int:
    return sum(map(len, crowd.book.present.values()))


async def _befall(scene: Scene, fault: Fault) -> None:
    scene.say(fault.__name__)
    scene.crowd.book.meanwhile = fault.__name__
    await asyncio.sleep(LIVELY)
    began = time.monotonic()
    await fault(scene)
    over = time.monotonic()
    took = await exact(scene)
    ready = time.monotonic() - over
    scene.say(
        f"  lasted {over - began:.1f} s, exact {ready:.1f} s later ({took:.1f} s of it nobody came or went): "
        f"{_members(scene.crowd)} members"
    )


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.attendance", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the faults and their order; 0: another one each time"
    )
    parser.add_argument("--rounds", type=int, default=1, help="how often each fault comes (default: 1)")
    parser.add_argument("--only", action="append", choices=[fault.__name__ for fault in FAULTS])
    parser.add_argument("--residents", type=int, default=500, help="each in 10 channels (default: 500)")
    parser.add_argument("--guests", type=int, default=24)
    given = parser.parse_args()
    seed = given.seed or Random().randrange(1, 1_000_000)
    dice = Random(seed)
    wanted = [fault for fault in FAULTS if not given.only or fault.__name__ in given.only]
    faults = [fault for _ in range(given.rounds) for fault in dice.sample(wanted, len(wanted))]
    logging.getLogger("asyncio").setLevel(
        logging.ERROR
    )  # it warns of writes to connections whose edge was killed
    print(f"seed {seed}, {len(faults)} faults", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attendance-") as folder:
        try:
            asyncio.run(story(Path(folder), faults, seed, given.residents, given.guests))
        except AssertionError as error:
            print(f"FAILED with --seed {seed}: {error}", flush=True)
            return 1
    print(f"passed in {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
