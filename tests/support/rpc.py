"""A small gRPC service for tests, servers of it and clients, all of ours and over real sockets.

As a program it is a server in a process of its own: `python -m tests.support.rpc NAME SETTINGS` prints its port when it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvloop

from tests.fakes.log import RecordingLog
from tidewire.kernel.call_errors import UNAVAILABLE, CallError
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.config import decode
from tidewire.kernel.trace_context import parent_value
from tidewire.platform.rpc_call import CALLER
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.rpc_client_options import RpcClientConfig
from tidewire.platform.rpc_library import grpc
from tidewire.platform.rpc_options import RpcConfig
from tidewire.platform.rpc_server import RpcServer, Service
from tidewire.platform.rpc_telemetry import RpcClientMetrics, RpcServerMetrics
from tidewire.platform.rpc_tracing import current
from tidewire.platform.tasks import ended
from tidewire.platform.tracing import Tracer

NAME = "tidewire.tests.Echo"
CLOCK = SystemClock()
UNWELL = CallError(UNAVAILABLE, "the test says so")


def path(method: str) -> str:
    """The full name of a method."""
    return f"/{NAME}/{method}"


class Echo:
    """Answers with what it was sent; a test decides what else happens."""

    def __init__(self, name: str = "") -> None:
        self.name = name.encode()
        self.requests: Counter[bytes] = Counter()
        self.failing: Exception | None = None
        """What `Say` raises instead of answering."""
        self.waiting = 0
        self.ended = 0
        """Calls of `Wait` that are over, one way or the other."""
        self.release = asyncio.Event()
        """Lets the calls of `Wait` answer."""

    async def say(self, request: bytes, _context: object) -> bytes:
        """The request, after this server's name."""
        self.requests[request] += 1
        if self.failing is not None:
            raise self.failing
        return self.name + request

    async def wait(self, request: bytes, _context: object) -> bytes:
        """The same, when the test lets it."""
        self.waiting += 1
        try:
            await self.release.wait()
            return request
        finally:
            self.ended += 1

    async def peer(self, _request: bytes, context: Any) -> bytes:
        """The connection that the call came on."""
        return str(context.peer()).encode()

    async def caller(self, _request: bytes, context: Any) -> bytes:
        """What the calling process says that it is called."""
        return " ".join(value for key, value in context.invocation_metadata() if key == CALLER).encode()

    async def trace(self, _request: bytes, _context: object) -> bytes:
        """The trace that the call belongs to."""
        context = current.get()
        return b"" if context is None else parent_value(context) + b" " + context.state.encode()

    def service(self) -> Service:
        """What a server takes."""
        handlers = {
            "Say": grpc.unary_unary_rpc_method_handler(self.say),
            "Number": grpc.unary_unary_rpc_method_handler(self.say, int, bytes),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Peer": grpc.unary_unary_rpc_method_handler(self.peer),
            "Caller": grpc.unary_unary_rpc_method_handler(self.caller),
            "Trace": grpc.unary_unary_rpc_method_handler(self.trace),
        }

        def add(server: Any) -> None:
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

        return Service(NAME, add)


class Server:
    """A server of one `Echo`, with its metrics and log."""

    def __init__(self, echo: Echo, tracer: Tracer | None = None, **settings: Any) -> None:
        config = decode(RpcConfig, {"port": 0, "health_port": 0, "drain_delay": 0, **settings})
        self.echo = echo
        self.metrics = RpcServerMetrics()
        self.log = RecordingLog()
        self.rpc = RpcServer(config, [echo.service()], self.metrics, self.log, CLOCK, tracer)  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.rpc.port}"

    @property
    def target(self) -> str:
        """The same for a client."""
        return f"ipv4:{self.address}"

    @property
    def handled(self) -> dict[tuple[str, ...], float]:
        """Calls by method and code."""
        return {labels: count for labels, count in self.metrics.handled.values.items() if count}


class Client:
    """A client of `Echo`, with its metrics and log."""

    def __init__(self, tracer: Tracer | None = None, caller: str = "", **settings: Any) -> None:
        self.metrics = RpcClientMetrics()
        self.log = RecordingLog()
        config = decode(RpcClientConfig, settings)
        repeatable = [path("Say"), path("Wait")]
        self.rpc = RpcClient(config, repeatable, self.metrics, self.log, CLOCK, tracer, caller)  # type: ignore[arg-type]

    async def start(self) -> None:
        """Start, and have the methods."""
        await self.rpc.start()
        self.say = self.rpc.unary_unary(path("Say"), bytes, bytes)
        self.once = self.rpc.unary_unary(path("Number"), bytes, bytes)
        self.wait = self.rpc.unary_unary(path("Wait"), bytes, bytes)
        self.peer = self.rpc.unary_unary(path("Peer"), bytes, bytes)
        self.caller = self.rpc.unary_unary(path("Caller"), bytes, bytes)
        self.trace = self.rpc.unary_unary(path("Trace"), bytes, bytes)

    @property
    def calls(self) -> dict[tuple[str, ...], float]:
        """Calls by method and code."""
        return dict(self.metrics.calls.values)

    @property
    def retries(self) -> dict[str, float]:
        """What followed failed attempts."""
        found: Counter[str] = Counter()
        for (_, outcome), count in self.metrics.retries.values.items():
            found[outcome] += int(count)
        return dict(found)


class Rpc:
    """Starts servers and clients for one test."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack

    async def server(self, name: str = "", tracer: Tracer | None = None, **settings: Any) -> Server:
        """A server that serves."""
        server = Server(Echo(name), tracer, **settings)
        await server.rpc.start()
        self._stack.push_async_callback(server.rpc.stop)
        return server

    async def client(self, target: str, tracer: Tracer | None = None, **settings: Any) -> Client:
        """A client that has started, which is not to say that it is connected."""
        client = Client(tracer, target=target, **{"close_timeout": 0, "timeout": "20s", **settings})
        await client.start()
        self._stack.push_async_callback(client.rpc.close)
        return client

    async def process(self, name: str, **settings: Any) -> Process:
        """A server in a process of its own."""
        process = await Process(name, settings).start()
        self._stack.push_async_callback(process.end)
        return process


class Process:
    """A server in a process of its own."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self._command = [sys.executable, "-m", "tests.support.rpc", name, json.dumps(settings)]
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    async def start(self) -> Process:
        """Return when it serves."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        self._process = await asyncio.create_subprocess_exec(*self._command, **pipes)  # type: ignore[arg-type]
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())
        return self

    def send_signal(self, number: int) -> None:
        """Let something befall it."""
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self) -> bytes:
        """Let it stop; return what it has written to standard error."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        errors = await process.stderr.read()
        await process.wait()
        return errors


@contextlib.asynccontextmanager
async def rpc_of_a_test() -> AsyncIterator[Rpc]:
    """Everything that it started is gone afterwards."""
    async with contextlib.AsyncExitStack() as stack:
        yield Rpc(stack)


class Load:
    """Calls `Say` all the time, from several tasks, and notes what fails."""

    def __init__(self, call: Callable[[], Any], tasks: int = 4) -> None:
        self.done = 0
        self.failures: list[CallError] = []
        self._call = call
        self._tasks = [asyncio.ensure_future(self._run()) for _ in range(tasks)]

    async def _run(self) -> None:
        while True:
            try:
                await self._call()
                self.done += 1
            except CallError as error:
                self.failures.append(error)
            await asyncio.sleep(0.002)

    async def end(self) -> None:
        """Make no more."""
        await ended(self._tasks)


async def serve(name: str, settings: dict[str, Any]) -> None:
    """Serve until the test is gone, or wants no more."""
    server = Server(Echo(name), **settings)
    await server.rpc.start()
    sys.stdout.write(f"{server.rpc.port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.rpc.stop()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], json.loads(sys.argv[2])))
