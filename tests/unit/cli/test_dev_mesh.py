"""The supervisor with small scripts in place of nats-server and edges; tests/e2e/test_dev.py runs the real ones."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.ports import free_ports
from tidewire.cli.dev_mesh import Mesh, MeshError
from tidewire.cli.dev_plan import DevPlan, EdgePlan
from tidewire.storage.cluster import StorageError

NATS_SCRIPT = """
import os, socketserver, sys
class Greet(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(b'INFO {"version":"2","max_payload":1}\\r\\n')
socketserver.TCPServer.allow_reuse_address = True
print("[INF] quiet", flush=True)
print("[WRN] loud", os.getpid(), flush=True)
socketserver.TCPServer(("127.0.0.1", int(sys.argv[1])), Greet).serve_forever()
"""
EDGE_SCRIPT = """
import http.server, os
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200 if self.path == "/ready" else 404); self.end_headers()
    def log_message(self, *_): pass
print("serving", os.getpid(), flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["TEST_PORT"])), Ready).serve_forever()
"""


class World:
    """A mesh of scripts, and what it said."""

    def __init__(self, nats_script: str = NATS_SCRIPT, edge_script: str = EDGE_SCRIPT) -> None:
        nats_port, *edge_ports = free_ports(3)
        edges = tuple(
            EdgePlan(f"edge-{number}", "", f"http://127.0.0.1:{port}", {"TEST_PORT": str(port)})
            for number, port in enumerate(edge_ports, 1)
        )
        plan = DevPlan(edges, (), "", nats_port, 10.0)
        self.said: list[str] = []
        self._spoken = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        nats = (sys.executable, "-c", nats_script, str(nats_port))
        self.streams_fail: Exception | None = None
        self.mesh = Mesh(plan, nats, (sys.executable, "-c", edge_script), self._show, self._make_streams)

    async def run(self) -> None:
        """Run the mesh until `stop` or its failure."""
        await asyncio.wait_for(self.mesh.run(self.stop, self.ready.set), 30)

    async def hears(self, pattern: str, times: int = 1) -> list[re.Match[str]]:
        """Wait until lines that match were said so many times; return the matches."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.said if (match := re.search(pattern, line))]

        async with asyncio.timeout(20), self._spoken:
            await self._spoken.wait_for(lambda: len(found()) >= times)
        return found()

    async def _make_streams(self) -> None:
        self._show("streams", "made")
        if self.streams_fail is not None:
            raise self.streams_fail

    def _show(self, name: str, line: str) -> None:
        self.said.append(f"{name}: {line}")
        task = asyncio.create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._spoken:
            self._spoken.notify_all()


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Callable[[], None]]:
    """The mesh runs and is ready inside the block, and is stopped after it."""
    task = asyncio.create_task(world.run())
    try:
        ready = asyncio.create_task(world.ready.wait())
        await asyncio.wait({task, ready}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert world.ready.is_set(), world.said
        yield world.stop.set
    finally:
        world.stop.set()
        await task


def kill(pid: str) -> None:
    """End one of the mesh's own processes."""
    os.kill(int(pid), signal.SIGKILL)


async def test_starts_everything_then_stops_everything() -> None:
    """It is ready when every edge is; after the stop nothing listens any more."""
    world = World()
    async with running(world):
        assert len(await world.hears(r"^edge-[12]: serving", 2)) == 2
    assert not any(child.running for child in world.mesh.children)


async def test_nats_output_is_shown_where_it_matters() -> None:
    """NATS's routine lines stay out of the terminal, its warnings do not."""
    world = World()
    async with running(world):
        await world.hears(r"^nats: \[WRN\]")
    assert not [line for line in world.said if "[INF]" in line]


async def test_an_edge_that_ends_is_started_again() -> None:
    """The mesh goes on with a fresh process under the same name."""
    world = World()
    async with running(world):
        (first,) = await world.hears(r"^edge-1: serving (\d+)")
        kill(first[1])
        await world.hears(r"^edge-1: was ended by signal 9")
        _, second = await world.hears(r"^edge-1: serving (\d+)", 2)
        assert second[1] != first[1]


async def test_streams_are_made_before_edges_start_and_after_nats_comes_back() -> None:
    """What was in memory has gone with it."""
    world = World()
    async with running(world):
        first, second = [line.partition(" ")[0] for line in world.said if "nats" not in line][:2]
        assert first == "streams:"
        assert second in {"edge-1:", "edge-2:"}  # whichever was faster
        (loud,) = await world.hears(r"^nats: \[WRN\] loud (\d+)")
        kill(loud[1])
        await world.hears(r"^streams: made", 2)


@pytest.mark.parametrize("error", [MeshError("cannot be"), StorageError("cannot be")])
async def test_streams_that_cannot_be_made_end_the_mesh(error: Exception) -> None:
    """In one sentence, before any edge has started."""
    world = World()
    world.streams_fail = error
    with pytest.raises(MeshError, match="cannot be"):
        await world.run()
    assert not any(line.startswith("edge") for line in world.said)


async def test_nats_is_started_again_once() -> None:
    """One end of NATS is survived, a second one soon after ends the mesh."""
    world = World()
    task = asyncio.create_task(world.run())
    (first,) = await world.hears(r"^nats: \[WRN\] loud (\d+)")
    await world.ready.wait()
    kill(first[1])
    _, second = await world.hears(r"^nats: \[WRN\] loud (\d+)", 2)
    kill(second[1])
    with pytest.raises(MeshError, match="nats ended again"):
        await task
    assert not any(child.running for child in world.mesh.children)


async def test_an_edge_that_was_never_ready_ends_the_mesh() -> None:
    """A configuration that no edge can start with is said once, not for ever."""
    world = World(edge_script="import sys; print('bad news'); sys.exit(78)")
    with pytest.raises(MeshError, match="edge-1 ended with exit code 78 at its start"):
        await world.run()
    assert "edge-1: bad news" in world.said
    assert not any(child.running for child in world.mesh.children)


async def test_nats_that_does_not_start_is_quoted() -> None:
    """NATS's output is not on the terminal, so its last words come with the error."""
    world = World(nats_script="import sys; sys.exit('no disk')")
    with pytest.raises(MeshError, match=r"(?s)nats ended with exit code 1 at its start.*no disk"):
        await world.run()


async def test_kill_ends_a_stop_that_takes_long() -> None:
    """A second Ctrl-C does not wait for a drain."""
    stubborn = "import signal; signal.signal(15, lambda *_: print('draining', flush=True))\n" + EDGE_SCRIPT
    world = World(edge_script=stubborn)
    async with running(world) as stop:
        stop()
        await world.hears("draining", 2)
        world.mesh.kill()
    assert not any(child.running for child in world.mesh.children)
