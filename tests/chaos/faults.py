"""What befalls the mesh: each fault happens, lasts, and is over when its function returns. Nothing else is mended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from tests.chaos.mesh import ChaosMesh
from tests.support.balancer import Balancer


class Scene(msgspec.Struct):
    """Where faults happen; `frozen` is how long a frozen process stays so, in seconds."""

    mesh: ChaosMesh
    balancer: Balancer
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


async def kill_a_node(scene: Scene) -> None:
    """Kill -9 of a nats-server, perhaps one that edges are on."""
    node = scene.dice.choice(scene.mesh.cluster.nodes)
    await asyncio.to_thread(node.restart)
    await scene.mesh.cluster.settled(scene.mesh.streams)


async def kill_a_leader(scene: Scene) -> None:
    """Kill -9 of the node that leads a stream."""
    node = await scene.mesh.cluster.leader(scene.dice.choice(scene.mesh.streams))
    node.kill()
    await scene.mesh.cluster.led(scene.mesh.streams)
    await asyncio.to_thread(node.start)
    await scene.mesh.cluster.settled(scene.mesh.streams)


async def freeze_an_edge(scene: Scene) -> None:
    """SIGSTOP: its sockets stay open."""
    await _freeze(scene, scene.dice.choice(scene.mesh.edges).pid)


async def freeze_a_history_service(scene: Scene) -> None:
    """SIGSTOP."""
    await _freeze(scene, scene.dice.choice(scene.mesh.histories).pid)


async def freeze_a_node(scene: Scene) -> None:
    """SIGSTOP of a nats-server: a leader of some streams, and the server of some edge."""
    await _freeze(scene, scene.dice.choice(scene.mesh.cluster.nodes).pid)
    await scene.mesh.cluster.settled(scene.mesh.streams)


async def cut_clients(scene: Scene) -> None:
    """Half of the connections end without a word."""
    scene.balancer.cut(0.5, scene.dice)


async def _freeze(scene: Scene, process: int) -> None:
    os.kill(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(scene.frozen)
    finally:
        os.kill(process, signal.SIGCONT)


FAULTS: tuple[Fault, ...] = (
    kill_an_edge,
    kill_a_history_service,
    kill_a_node,
    kill_a_leader,
    freeze_an_edge,
    freeze_a_history_service,
    freeze_a_node,
    cut_clients,
)
