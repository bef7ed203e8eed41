"""The servers that are measured, each started for one stand and gone after it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, cast

import msgspec

from bench.load.tools import HOST
from tests.support.certificates import write_certificate
from tests.support.edges import Config, EdgeProcess, edge_config, mapping, token
from tests.support.nats_server import NatsServer

PEERS = Path("bench/peers").resolve()
PEERS_PYTHON = Path(".venv/peers/bin/python").absolute()
PREFIX = "live:"
"""Channels are in a namespace without history."""


class Target(msgspec.Struct, frozen=True):
    """A running server: where it is, what it speaks, and whose CPU counts.

    `brokers` are processes that the server needs to reach its subscribers, `services` others that work for it; their CPU is
    shown apart. With `ca` it speaks TLS, with a certificate that this file vouches for.
    """

    port: int
    pid: int
    protocol: str = "centrifuge"
    brokers: tuple[int, ...] = ()
    services: tuple[int, ...] = ()
    tokens: Path | None = None
    ca: Path | None = None


class Tools(msgspec.Struct, frozen=True):
    """What servers are started with: the folder of compiled programs, one to write to, a file of tokens.

    `certificate` and its `key` are for those that speak TLS.
    """

    programs: Path
    folder: Path
    tokens: Path
    certificate: Path
    key: Path


Server = Callable[[Tools], AbstractContextManager[Target]]


def prepare(programs: Path, folder: Path, users: int) -> Tools:
    """Write into `folder` a token for each of so many users, and a certificate with an ECDSA key of P-256."""
    tools = Tools(programs, folder, folder / "tokens.txt", folder / "certificate.pem", folder / "key.pem")
    tools.tokens.write_text("".join(f"{token(f'user-{number}', ttl=86_400)}\n" for number in range(users)))
    write_certificate(tools.certificate, [datetime.now(UTC) + timedelta(days=1)], tools.key)
    return tools


@contextlib.contextmanager
def tidewire(
    tools: Tools, changes: Config | None = None, protocol: str = "centrifuge", ca: Path | None = None
) -> Iterator[Target]:
    """One edge with a nats-server of its own, by default but for `changes` and the limits that a load is there to exceed."""
    unlimited = {"client": {"command_rate_limit": 0, "connection_rate_limit": 0, "max_loop_lag": "0s"}}
    with (
        NatsServer(tools.folder / "nats", config=mapping()) as nats,
        EdgeProcess(tools.folder, edge_config(nats.url, unlimited | (changes or {}))) as edge,
    ):
        yield Target(edge.port, edge.pid, protocol, brokers=(nats.pid,), tokens=tools.tokens, ca=ca)


compressing: Server = partial(
    tidewire, changes={"websocket": {"compression": True}}, protocol="centrifuge-deflate"
)
"""The same with permessage-deflate, which every client takes."""


def tidewire_tls(tools: Tools) -> AbstractContextManager[Target]:
    """Return the same with TLS."""
    files = {"cert_file": str(tools.certificate), "key_file": str(tools.key)}
    return tidewire(tools, {"http": {"tls": files}}, ca=tools.certificate)


@contextlib.contextmanager
def _announced(command: Sequence[str | Path]) -> Iterator[tuple[int, int]]:
    """Run a program whose first line is {"port":N}, and yield port and process id."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        line = cast("IO[bytes]", process.stdout).readline()
        if not line:
            raise RuntimeError(f"{command[0]} ended with status {process.wait()}")
        yield json.loads(line)["port"], process.pid
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def limit(tools: Tools) -> Iterator[Target]:
    """The C server that does nothing else."""
    with _announced([tools.programs / "limit_server", HOST]) as (port, pid):
        yield Target(port, pid)


@contextlib.contextmanager
def limit_tls(tools: Tools) -> Iterator[Target]:
    """Run the same with TLS 1.3, by OpenSSL on the sockets."""
    with _announced([tools.programs / "limit_server", HOST, tools.certificate, tools.key]) as (port, pid):
        yield Target(port, pid, ca=tools.certificate)


@contextlib.contextmanager
def _redis() -> Iterator[tuple[str, int]]:
    """Run a Redis server that keeps nothing, and yield its URL and process id."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_answers(port)
        yield f"redis://{HOST}:{port}", process.pid
    finally:
        process.kill()
        process.wait()


def _wait_answers(port: int, timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((HOST, port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def _with_redis(program: Sequence[str | Path], tools: Tools) -> Iterator[Target]:
    del tools
    with _redis() as (url, redis), _announced([*program, url]) as (port, pid):
        yield Target(port, pid, protocol="socketio", brokers=(redis,))


socketio_node: Server = partial(_with_redis, ["node", PEERS / "socketio.mjs"])
"""Socket.IO on Node with its Redis adapter."""
python_socketio: Server = partial(_with_redis, [PEERS_PYTHON, PEERS / "python_socketio.py"])
"""python-socketio with its Redis manager on uvicorn."""


def peers_are_installed() -> bool:
    """Whether `make setup-peers` has been done."""
    return (
        PEERS_PYTHON.exists()
        and (PEERS / "node_modules").exists()
        and shutil.which("redis-server") is not None
    )


@contextlib.contextmanager
def bare_upgrade(tools: Tools) -> Iterator[Target]:
    """Only the upgrade, by websockets' `ServerProtocol`."""
    del tools
    with _announced([sys.executable, "-m", "bench.load.bare_upgrade"]) as (port, pid):
        yield Target(port, pid)
