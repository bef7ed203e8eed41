"""TLS on accepted connections: memory of an idle one, and CPU of a handshake, of plain TCP, the loops' TLS and our own.

Each server is a process of its own with an echo for a protocol, each round a fresh one; clients are in a third. An idle
connection has echoed 100 bytes, or once 60,000. Memory is the growth of the server's anonymous memory, CPU the
server's own for accept, handshake and echo. `resumed`: a client that comes back with a session ticket. Prints medians of
the rounds.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import re
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.support.certificates import write_certificate
from tidewire.platform.certificates import TlsFiles, read_identity
from tidewire.platform.open_files import raise_limit
from tidewire.platform.rotation import Rotation
from tidewire.platform.tls import TlsPort, TlsSocket

CONNECTIONS = 300
ROUNDS = 3
SMALL, LARGE = 100, 60_000
SPAWN = multiprocessing.get_context("spawn")
KINDS = ("plain", "asyncio", "uvloop", "ours")


class Echo(asyncio.Protocol):
    """Says what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._transport.write(data)


def anonymous() -> int:
    """Return this process's own memory in KiB, without the pages of files."""
    text = Path("/proc/self/smaps_rollup").read_text()
    found = re.search(r"^Anonymous:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise AssertionError("the kernel does not tell Anonymous")
    return int(found[1])


def serve(kind: str, folder: Path, pipe: Connection) -> None:
    """Serve until the other end of the pipe closes; each message on it is answered with (memory in KiB, CPU seconds)."""
    raise_limit()
    (asyncio if kind == "asyncio" else uvloop).run(_serve(kind, folder, pipe))


async def _serve(kind: str, folder: Path, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    files = TlsFiles(str(folder / "cert"), str(folder / "key"))
    context = read_identity(files, time.time()).context
    port = TlsPort(Rotation(lambda: None), Rotation(lambda: None), lambda *_: None)
    factory: Callable[[], asyncio.BaseProtocol] = Echo
    if kind == "ours":
        factory = lambda: TlsSocket(context, Echo(), port)  # noqa: E731 - as short as the others
    options: dict[str, Any] = {"ssl": context} if kind in {"asyncio", "uvloop"} else {}
    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=4096, **options)
    pipe.send(server.sockets[0].getsockname()[1])
    ended = loop.create_future()

    def answer() -> None:
        try:
            pipe.recv()
        except EOFError:
            loop.remove_reader(pipe.fileno())
            ended.set_result(None)
            return
        gc.collect()
        pipe.send((anonymous(), time.process_time()))

    loop.add_reader(pipe.fileno(), answer)
    await ended


def connect(kind: str, folder: Path, port: int, size: int, number: int, pipe: Connection) -> None:
    """Open the connections, echo once on each, say so, and hold them until told to end. A size below 0: come back."""
    raise_limit()
    context = ssl.create_default_context(cafile=str(folder / "cert"))
    session: ssl.SSLSession | None = None
    held = []
    for _ in range(number):
        sock = socket.create_connection(("127.0.0.1", port))
        if kind != "plain":
            sock = context.wrap_socket(sock, server_hostname="127.0.0.1", session=session)
        _echo(sock, abs(size))
        if size < 0 and isinstance(sock, ssl.SSLSocket):
            session = sock.session
        held.append(sock)
    pipe.send(isinstance(sock, ssl.SSLSocket) and bool(sock.session_reused))
    pipe.recv()


def _echo(sock: socket.socket, size: int) -> None:
    sock.sendall(b"x" * size)
    while size:
        size -= len(sock.recv(65_536))


def measure(kind: str, folder: Path, size: int) -> tuple[float, float, bool]:
    """Return KiB and milliseconds of CPU of a connection, and whether its session was resumed."""
    ours, theirs = SPAWN.Pipe()
    server = SPAWN.Process(target=serve, args=(kind, folder, theirs))
    server.start()
    theirs.close()
    port = ours.recv()
    ours.send(None)
    before = ours.recv()
    near, far = SPAWN.Pipe()
    clients = SPAWN.Process(target=connect, args=(kind, folder, port, size, CONNECTIONS, far))
    clients.start()
    resumed = near.recv()
    ours.send(None)
    after = ours.recv()
    ours.close()
    server.join()
    near.send(None)
    clients.join()
    memory, cpu = ((b - a) / CONNECTIONS for a, b in zip(before, after, strict=True))
    return memory, cpu * 1000, resumed


def main() -> None:
    """Alternate the kinds, and print a line for each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificate(folder / "cert", [datetime.now(UTC) + timedelta(days=1)], folder / "key")
        rounds = [
            {(kind, size): measure(kind, folder, size) for kind in KINDS for size in (SMALL, LARGE, -SMALL)}
            for _ in range(ROUNDS)
        ]
    for kind in KINDS:
        small, large, again = (
            [[each[kind, size][index] for each in rounds] for index in range(3)]
            for size in (SMALL, LARGE, -SMALL)
        )
        line = f"{kind:8}  idle {statistics.median(small[0]):6.1f} KiB, after {LARGE} bytes "
        line += f"{statistics.median(large[0]):6.1f} KiB, handshake {statistics.median(small[1]):.2f} ms"
        if all(again[2]):
            line += f", resumed {statistics.median(again[1]):.2f} ms"
        print(line)


if __name__ == "__main__":
    main()
