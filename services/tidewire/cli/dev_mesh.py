"""Runs the processes of `tidewire dev`: starts them in order, keeps them running, and stops them in order.

An edge that ends after it was ready is started again, after growing delays. One that ends before it was ever ready
would only do so again, so it ends the mesh. The NATS server is started again once: its data stays, and the edges keep
their clients meanwhile. If it ends again within half a minute, the mesh ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from urllib.parse import urlsplit

from tidewire.cli.dev_plan import LOOPBACK, NATS, DevPlan, EdgePlan, ServicePlan
from tidewire.kernel.errors import TidewireError
from tidewire.platform.child import Child
from tidewire.platform.nats_server import wait_until_ready
from tidewire.platform.restarts import HEALTHY_SECONDS, exit_words, restart_delay

START_SECONDS = 30.0
POLL_SECONDS = 0.1
ONE_POLL = 2.0
NATS_STOP_SECONDS = 10.0
NATS_RESTARTS = 1
NATS_ALARMS = ("[WRN]", "[ERR]", "[FTL]")

NO_SERVICES: Mapping[str, Sequence[str]] = {}
Print = Callable[[str, str], None]
"""Prints one line (second argument) of the process named first."""


class MeshError(TidewireError):
    """The mesh cannot start or go on; the message is for the person at the terminal."""


class Mesh:
    """The processes of one dev mesh."""

    def __init__(
        self,
        plan: DevPlan,
        nats_command: Sequence[str],
        edge_command: Sequence[str],
        show: Print,
        make_streams: Callable[[], Coroutine[None, None, None]],
        service_commands: Mapping[str, Sequence[str]] = NO_SERVICES,
    ) -> None:
        """Prepare; nothing runs before `run`. `make_streams` is called whenever NATS has started."""
        self._plan = plan
        self._nats_command = nats_command
        self._edge_command = edge_command
        self._service_commands = service_commands
        self._show = show
        self._make_streams = make_streams
        self._children: dict[str, Child] = {}

    @property
    def children(self) -> tuple[Child, ...]:
        """The latest process of each name."""
        return tuple(self._children.values())

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Start everything, call `on_ready` once all is ready, go on until `stop`, then stop all in order.

        Raises MeshError where it cannot go on; everything is stopped then, too.
        """
        work = asyncio.create_task(self._start_and_keep(on_ready))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            stopped.cancel()
            await asyncio.wait({work, stopped})
            await self._stop()

    def reload(self) -> None:
        """Have edges and services read their configuration again."""
        for child in self.children:
            if child.name != NATS:
                child.signal(signal.SIGHUP)

    def kill(self) -> None:
        """End every process at once."""
        for child in self.children:
            child.signal(signal.SIGKILL)

    async def _start_and_keep(self, on_ready: Callable[[], None]) -> None:
        failed: MeshError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                await self._start_nats(group)
                plans = self._plan.processes
                children = [await self._start_one(one) for one in plans]
                for one, child in zip(plans, children, strict=True):
                    await self._until_ready(child, process_ready(one.internal_url))
                    group.create_task(self._keep(one, child))
                on_ready()
        except* MeshError as errors:
            failed = _first(errors)
        if failed is not None:
            raise failed

    async def _start_nats(self, group: asyncio.TaskGroup) -> None:
        child = await self._start(NATS, self._nats_command, {})
        await self._serve_nats(child)
        group.create_task(self._keep_nats(child))

    async def _start_one(self, one: EdgePlan | ServicePlan) -> Child:
        is_edge = isinstance(one, EdgePlan)
        command = self._edge_command if is_edge else self._service_commands[one.name]
        return await self._start(one.name, command, one.env)

    async def _start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Child:
        child = Child(name, command, {**os.environ, **env}, lambda line: self._output(name, line))
        self._children[name] = child
        try:
            await child.start()
        except OSError as error:
            raise MeshError(f"{name} cannot be started: {error}") from error
        return child

    async def _until_ready(self, child: Child, readiness: Coroutine[None, None, object]) -> None:
        ready = asyncio.create_task(readiness)
        ended = asyncio.create_task(child.wait())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise MeshError(f"{child.name} {exit_words(ended.result())} at its start{_tail(child)}")
            ready.result()
        except TimeoutError:
            raise MeshError(f"{child.name} was not ready after {START_SECONDS:g} s{_tail(child)}") from None
        finally:
            ready.cancel()
            ended.cancel()

    async def _keep(self, one: EdgePlan | ServicePlan, child: Child) -> None:
        failures = 0
        while True:
            failures = await self._ended(child, failures)
            delay = restart_delay(failures)
            self._show(one.name, f"starts again in {delay:g} s")
            await asyncio.sleep(delay)
            child = await self._start_one(one)

    async def _keep_nats(self, child: Child) -> None:
        failures = 0
        while True:
            failures = await self._ended(child, failures)
            if failures > NATS_RESTARTS:
                raise MeshError(f"{NATS} ended again{_tail(child)}")
            self._show(NATS, f"starts again{_tail(child)}")
            child = await self._start(NATS, self._nats_command, {})
            try:
                await self._serve_nats(child)
            except MeshError:
                if child.running:
                    raise

    async def _serve_nats(self, child: Child) -> None:
        """Wait until it is ready, and see to its streams: those in memory end with it."""
        await self._until_ready(child, wait_until_ready(LOOPBACK, self._plan.nats_port, START_SECONDS))
        try:
            await self._until_ready(child, self._make_streams())
        except MeshError:
            raise
        except TidewireError as error:
            raise MeshError(f"{NATS}: {error}") from error

    async def _ended(self, child: Child, failures: int) -> int:
        """Wait for a child's end, say how it ended, and count the ends in a row."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        code = await child.wait()
        self._show(child.name, exit_words(code))
        return 1 if loop.time() - since > HEALTHY_SECONDS else failures + 1

    def _output(self, name: str, line: str) -> None:
        if name != NATS or any(alarm in line for alarm in NATS_ALARMS):
            self._show(name, line)

    async def _stop(self) -> None:
        """Edges first, all at once, so that history and NATS still carry what they owe."""
        running = [child for child in self.children if child.name != NATS and child.running]
        for names in ({edge.name for edge in self._plan.edges}, {one.name for one in self._plan.services}):
            ending = [child for child in running if child.name in names]
            await asyncio.gather(*(child.stop(self._plan.stop_seconds) for child in ending))
        nats = self._children.get(NATS)
        if nats is not None and nats.running:
            await nats.stop(NATS_STOP_SECONDS)


async def process_ready(internal_url: str) -> None:
    """Return once the process says that it is ready. Raises TimeoutError after START_SECONDS."""
    address = urlsplit(internal_url)
    async with asyncio.timeout(START_SECONDS):
        while not await _get_ready(address.hostname or LOOPBACK, address.port or 80):  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_SECONDS)


async def _get_ready(host: str, port: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(ONE_POLL):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET /ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False


def _tail(child: Child) -> str:
    """The last lines of a child whose output was not shown as it came."""
    return "".join(f"\n  {line}" for line in child.tail) if child.name == NATS else ""


def _first(errors: BaseExceptionGroup[MeshError]) -> MeshError:
    error = errors.exceptions[0]
    return error if isinstance(error, MeshError) else _first(error)
