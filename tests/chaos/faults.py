"""What befalls the mesh: each fault happens, lasts, and is over when its function returns. Nothing else is mended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from tests.chaos.crowd import CHAT, LONG, RAM, Crowd
from tests.chaos.mesh import ChaosMesh, account
from tests.chaos.native import publish_natively
from tests.chaos.quota import filled
from tests.chaos.truth import tell_stored
from tests.support.balancer import Balancer
from tests.support.continuity import Continuity
from tests.support.wait import eventually

NATIVE = 60
"""Publications of a backend while a node lacks the mapping."""
REFUSALS = 30
"""That are waited for while a disk is full."""
FELT = 30.0
"""Seconds after which somebody must have noticed."""
LOST = 30
"""Live messages that are lost before NATS delivers all again."""
LOST_SHARE = 0.2


class Scene(msgspec.Struct):
    """Where faults happen; `frozen` is how long what stands still or is cut off stays so, in seconds."""

    mesh: ChaosMesh
    balancer: Balancer
    crowd: Crowd
    log: Continuity
    dice: Random
    frozen: float = 10.0


Fault = Callable[[Scene], Awaitable[None]]


async def kill_an_edge(scene: Scene) -> None:
    """Kill -9, and another one in its place."""
    number = scene.dice.randrange(len(scene.mesh.edges))
    scene.mesh.edges[number].kill()
    await scene.mesh.replace_edge(number)


async def kill_a_history_service(scene: Scene) -> None:
    """Kill -9, and started again."""
    history = scene.dice.choice(scene.mesh.histories)
    history.kill()
    await asyncio.to_thread(history.start)


async def kill_the_node_of_an_edge(scene: Scene) -> None:
    """Kill -9 of the nats-server that an edge is connected to, and started again."""
    edge = scene.dice.randrange(len(scene.mesh.edges))
    node = await eventually(lambda: scene.mesh.node_of(edge), LONG, "the node of an edge")
    await asyncio.to_thread(node.restart)
    await scene.mesh.settled()


async def kill_a_leader(scene: Scene) -> None:
    """Kill -9 of the node that leads a stream."""
    node = await scene.mesh.cluster.leader(scene.dice.choice(scene.mesh.streams))
    node.kill()
    await scene.mesh.cluster.led(scene.mesh.streams)
    await asyncio.to_thread(node.start)
    await scene.mesh.settled()


async def kill_two_nodes_and_start_one(scene: Scene) -> None:
    """It has its files, and nothing in memory: streams in files go on, and those in memory wait for the other one."""
    first, second = scene.dice.sample(scene.mesh.cluster.nodes, 2)
    first.kill()
    await scene.mesh.cluster.led(scene.mesh.streams)
    await scene.crowd.calm()
    second.kill()
    await asyncio.to_thread(first.start)
    await scene.mesh.cluster.led(scene.mesh.streams_of("default"))
    await asyncio.sleep(scene.frozen)
    await asyncio.to_thread(second.start)
    await scene.mesh.settled()


async def freeze_an_edge(scene: Scene) -> None:
    """SIGSTOP: its sockets stay open."""
    await _freeze(scene, scene.dice.choice(scene.mesh.edges).pid)


async def freeze_a_history_service(scene: Scene) -> None:
    """SIGSTOP."""
    await _freeze(scene, scene.dice.choice(scene.mesh.histories).pid)


async def freeze_a_node(scene: Scene) -> None:
    """SIGSTOP of a nats-server: a leader of some streams, and the server of some edge."""
    await _freeze(scene, scene.dice.choice(scene.mesh.cluster.nodes).pid)
    await scene.mesh.settled()


async def cut_clients(scene: Scene) -> None:
    """Half of the connections end without a word."""
    scene.balancer.cut(0.5, Random(scene.dice.random()))  # it is thrown once, however many there are


async def silence_between_an_edge_and_nats(scene: Scene) -> None:
    """A black hole: nothing passes, nobody is told, and what was under way arrives afterwards."""
    ways = scene.dice.choice(scene.mesh.ways)
    for way in ways:
        way.stall()
    await asyncio.sleep(scene.frozen)
    for way in ways:
        await way.mend()


async def resets_between_an_edge_and_nats(scene: Scene) -> None:
    """Its connection is reset, and new ones are refused."""
    ways = scene.dice.choice(scene.mesh.ways)
    for way in ways:
        await way.reset()
    await asyncio.sleep(scene.frozen)
    for way in ways:
        await way.mend()


async def lose_live_messages(scene: Scene) -> None:
    """One in five that NATS sends to edges never arrives, and nothing else tells of it."""
    every = scene.mesh.losses
    wanted = sum(each.lost for each in every) + LOST
    for each in every:
        each.share = LOST_SHARE
    await eventually(lambda: sum(each.lost for each in every) >= wanted, LONG, "lost messages")
    for each in every:
        each.share = 0.0


async def fill_the_disk_quota(scene: Scene) -> None:
    """Somebody else's stream takes all that the account may have: publications are refused until there is room again."""
    wanted = scene.crowd.outcomes["refused"] + REFUSALS
    async with filled(scene.mesh.cluster):
        try:
            await eventually(lambda: scene.crowd.outcomes["refused"] >= wanted, FELT)
        except AssertionError:
            scene.crowd.surprises.append("nobody was refused anything, although the disk was full")


async def take_the_mapping_from_a_node(scene: Scene) -> None:
    """A nats-server comes back without it: edges leave the node, and stand in for it where backends publish there."""
    cluster, number = scene.mesh.cluster, scene.dice.randrange(len(scene.mesh.cluster.nodes))
    node = cluster.nodes[number]
    await asyncio.to_thread(node.restart, cluster.config(number, account(mapped=False)))
    await scene.mesh.settled()
    assert await publish_natively(scene.crowd, node, NATIVE) > NATIVE // 2, "edges do not stand in"
    edges = range(len(scene.mesh.edges))
    await eventually(
        lambda: all(scene.mesh.node_of(edge) not in (node, None) for edge in edges),
        LONG,
        "all edges on nodes with the mapping",
    )
    await asyncio.to_thread(node.restart, cluster.config(number, account()))
    await scene.mesh.settled()


async def kill_all_nodes(scene: Scene) -> None:
    """Kill -9 of all at once: streams in files are as they were, and those in memory are empty, in a life of their own."""
    scene.mesh.kill_nodes()
    await scene.crowd.silenced()
    scene.log.vanished(RAM)
    await scene.mesh.start_nodes()


async def restore_an_older_copy(scene: Scene) -> None:
    """As docs/operations.md says: all stopped, the folders put back, a new generation, and started again."""
    await _restore(scene, scene.mesh.kill_services, scene.mesh.start_services)


async def restore_under_running_services(scene: Scene) -> None:
    """The same by somebody who forgets that edges and history services hold positions: they are just cut off meanwhile."""
    await _restore(scene, scene.mesh.cut_edges_off, scene.mesh.join_edges)


async def _restore(
    scene: Scene, away: Callable[[], Awaitable[None]], back: Callable[[], Awaitable[None]]
) -> None:
    mesh, crowd, log = scene.mesh, scene.crowd, scene.log
    await mesh.stop_nodes()
    await crowd.silenced()
    log.vanished(RAM)
    await mesh.copy()
    log.copied()
    await mesh.start_nodes()
    await crowd.calm()
    await away()
    await crowd.silenced()
    await tell_stored(mesh, log, "default")
    log.restored(CHAT)
    log.vanished(RAM)
    await mesh.stop_nodes()
    await mesh.put_back()
    await mesh.start_nodes()
    await mesh.migrate("--new-generation")
    await back()


async def _freeze(scene: Scene, process: int) -> None:
    os.kill(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(scene.frozen)
    finally:
        os.kill(process, signal.SIGCONT)


CHEAP: tuple[Fault, ...] = (
    kill_an_edge,
    kill_a_history_service,
    kill_a_leader,
    freeze_an_edge,
    resets_between_an_edge_and_nats,
    silence_between_an_edge_and_nats,
    lose_live_messages,
    fill_the_disk_quota,
    cut_clients,
)
"""Those that are over soon."""
FAULTS: tuple[Fault, ...] = (
    *CHEAP,
    kill_the_node_of_an_edge,
    kill_two_nodes_and_start_one,
    freeze_a_history_service,
    freeze_a_node,
    take_the_mapping_from_a_node,
    kill_all_nodes,
    restore_an_older_copy,
    restore_under_running_services,
)
