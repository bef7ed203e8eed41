"""History processes for tests: `python -m tidewire history` on free ports over real streams, and clients of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from nats.aio.client import Client

from tests.fakes.log import RecordingLog
from tests.support.edges import PARTITIONS, SERVICES, START_TIMEOUT, STOP_TIMEOUT, Metrics, mapping, merged
from tests.support.http import HttpAnswer, request
from tests.support.nats_client import connected
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE, eventually
from tidewire.history.config import HistoryConfig
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.config import decode
from tidewire.kernel.subjects import in_subject
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.rpc_client_options import RpcClientConfig
from tidewire.platform.rpc_telemetry import RpcClientMetrics
from tidewire.rpc.history.v1 import history_pb2 as pb
from tidewire.storage.migration import connected as jetstream
from tidewire.storage.migration import orders, prepare

METHODS = {
    "Read": pb.ReadReply,
    "Position": pb.PositionReply,
    "Purge": pb.PurgeReply,
    "Stats": pb.StatsReply,
}
KEPT = {"history_size": 20, "history_ttl": "1h"}
"""Options of a namespace with history."""
CONFIG: dict[str, Any] = {
    "log": {"format": "json"},
    "storage": {
        "profiles": [
            {"name": "default", "max_messages": 100},
            {"name": "memory", "storage": "memory", "max_messages": 100},
            {"name": "brief", "max_age": "10s", "duplicate_window": "10s", "max_messages": 100},
            {"name": "ending", "message_ttl": True, "max_messages": 100},
        ]
    },
    "channel": {
        "namespaces": [
            {"name": "chat", **KEPT},
            {"name": "long", "history_size": 100, "history_ttl": "1h"},
            {"name": "fresh", "history_size": 20, "history_ttl": "3s"},
            {"name": "ram", **KEPT, "storage_profile": "memory"},
            {"name": "flash", "history_size": 20, "history_ttl": "10s", "storage_profile": "brief"},
            {"name": "ttl", **KEPT, "storage_profile": "ending"},
            {"name": "live"},
        ]
    },
    "history_service": {
        "internal_port": 0,
        "rpc": {"port": 0, "health_port": 0, "drain_delay": 0, "drain_timeout": "2s"},
    },
}
"""All kinds of namespaces, in few partitions, so that channels share streams."""
FEW = 2


def history_config(nats_url: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the configuration of a history process on a NATS server."""
    base = merged(CONFIG, {"nats": {"urls": [nats_url], "partitions": FEW, "connect_timeout": "2s"}})
    return merged(base, changes or {})


async def migrated(config: Mapping[str, Any], *, new_generation: bool = False) -> None:
    """Have the streams that a configuration asks for."""
    settings = decode(HistoryConfig, config)
    renewed = [profile.name for profile in settings.storage.profiles] if new_generation else ()
    async with jetstream(settings.nats) as js:
        migration = await prepare(js, settings, orders(renewed=renewed))
        await migration.carry_out(js, lambda _step: None)


async def publish(client: Client, channel: str, data: bytes, partitions: int = FEW, **headers: str) -> int:
    """Publish as an edge does, and return the offset that JetStream acknowledged."""
    subject = in_subject(channel, partitions).decode()
    named = {name.replace("_", "-"): value for name, value in headers.items()} or None
    answer = json.loads((await client.request(subject, data, PATIENCE, headers=named)).data)
    assert "error" not in answer, answer
    return int(answer["seq"])


class HistoryProcess:
    """One history process; `start` blocks until it is ready. As a context manager it is gone on exit.

    Subclasses are processes of other services: another command, whose section of the configuration is called otherwise.
    """

    program: tuple[str, ...] = ("-m", "tidewire")
    command = "history"
    section = "history_service"
    told = ".ready"
    """The end of the event with which it says its ports."""

    def __init__(self, folder: Path, config: Mapping[str, Any], name: str = "") -> None:
        self.name = name or self.command
        self._folder = folder
        self._config = merged(config, {self.section: {"node_name": self.name}})
        self._process: subprocess.Popen[bytes] | None = None
        self._told = 0
        self.port = self.internal_port = self.health_port = 0

    def launch(self) -> Self:
        """Start the process and return at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.configure({})
        self._told = len(self.logged(f"{self.command}{self.told}"))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEWIRE_")}
        environment["PYTHONPATH"] = str(SERVICES)
        command = [sys.executable, *self.program, self.command, "-c", str(self.file)]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        return self

    def wait_ready(self, timeout: float = START_TIMEOUT) -> Self:
        """Block until it has said where it listens."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            assert self.running, f"it ended at its start:\n{self.log}"
            for line in self.logged(f"{self.command}{self.told}")[self._told :]:
                self.port, self.internal_port = line["port"], line["internal_port"]
                self.health_port = line["health_port"]
                return self
            time.sleep(0.01)
        raise AssertionError(f"not ready after {timeout:g} s:\n{self.log}")

    def start(self) -> Self:
        """Launch and wait; one that does not become ready is ended."""
        try:
            return self.launch().wait_ready()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """The process id; it must run."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Lay changes over what its file says."""
        self._config = merged(self._config, changes)
        self.file.write_text(yaml.safe_dump(self._config))

    def send_signal(self, number: signal.Signals) -> None:
        """Let something befall it."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it on the spot, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)

    async def exit_code(self) -> int:
        """Wait for the end, which may be that of a start, and return the exit code."""
        process = self._process
        assert process is not None
        await eventually(lambda: process.poll() is not None, START_TIMEOUT)
        return int(process.returncode)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def file(self) -> Path:
        """Its configuration file."""
        return self._folder / f"{self.name}.yaml"

    @property
    def _log_file(self) -> Path:
        return self._folder / f"{self.name}.log"

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        whole = self.log.rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.split("\n") if line]
        return [line for line in lines if line.get("event") == event]

    async def ready(self) -> HttpAnswer:
        """Ask `/ready`."""
        return await request(f"http://127.0.0.1:{self.internal_port}/ready")

    async def metrics(self) -> Metrics:
        """Read `/metrics`."""
        return Metrics((await request(f"http://127.0.0.1:{self.internal_port}/metrics")).body.decode())


class HistoryClient:
    """Calls a history process by gRPC, once for each call."""

    def __init__(self, *ports: int, timeout: str = "10s") -> None:
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        settings = {"target": target, "timeout": timeout, "close_timeout": 0, "attempts": 1}
        log: Any = RecordingLog()
        config = decode(RpcClientConfig, settings)
        self.rpc = RpcClient(config, [], RpcClientMetrics(), log, SystemClock())

    async def start(self) -> None:
        """Have the methods."""
        await self.rpc.start()
        self._methods: dict[str, Any] = {
            name: self.rpc.unary_unary(
                f"/tidewire.rpc.history.v1.History/{name}",
                lambda request: request.SerializeToString(),
                reply.FromString,
            )
            for name, reply in METHODS.items()
        }

    async def read(self, channel: str, since: tuple[int, str] | None = None, **fields: Any) -> pb.ReadReply:
        """Read a channel; by default up to 100 publications."""
        asked = {"limit": 100, **fields}
        position = None if since is None else pb.StreamPosition(offset=since[0], epoch=since[1])
        return await self._methods["Read"](pb.ReadRequest(channel=channel, since=position, **asked))  # type: ignore[no-any-return]

    async def recover(self, channel: str, offset: int, epoch: str, **fields: Any) -> tuple[str, list[int]]:
        """Recover a channel; return the outcome's name and the offsets."""
        reply = await self.read(channel, (offset, epoch), recover=True, **fields)
        return outcome(reply), offsets(reply)

    async def position(self, *channels: str, since: tuple[int, str] | None = None) -> list[Any]:
        """Return the positions, as (offset, epoch) or the problem; `since` is where the caller stands in each."""
        here = [] if since is None else [pb.StreamPosition(offset=since[0], epoch=since[1])] * len(channels)
        reply = await self._methods["Position"](pb.PositionRequest(channels=channels, since=here))
        return [each.problem or (each.top.offset, each.top.epoch) for each in reply.positions]

    async def purge(self, channel: str) -> int:
        """Purge a channel."""
        return int((await self._methods["Purge"](pb.PurgeRequest(channel=channel))).purged)

    async def stats(self, channel: str) -> tuple[int, int, int]:
        """Return the top's offset, the number of publications, and the first offset."""
        reply = await self._methods["Stats"](pb.StatsRequest(channel=channel))
        return reply.top.offset, reply.publications, reply.first_offset


def outcome(reply: pb.ReadReply) -> str:
    """Return the outcome's name without its prefix."""
    return pb.Outcome.Name(reply.outcome).removeprefix("OUTCOME_")


def offsets(reply: pb.ReadReply) -> list[int]:
    """Return the offsets of the publications, in their order."""
    return [publication.offset for publication in reply.publications]


@contextlib.asynccontextmanager
async def client_of(*processes: HistoryProcess, timeout: str = "10s") -> AsyncIterator[HistoryClient]:
    """Yield a client of these processes."""
    client = HistoryClient(*(process.port for process in processes), timeout=timeout)
    await client.start()
    try:
        yield client
    finally:
        await client.rpc.close()


@contextlib.asynccontextmanager
async def publisher(server: NatsServer) -> AsyncIterator[Client]:
    """Yield a plain NATS client."""
    async with connected(server.url) as client:
        yield client


def server_config() -> str:
    """Return the nats-server configuration with the subject mapping."""
    return mapping(FEW)


__all__ = ["PARTITIONS", "HistoryClient", "HistoryProcess"]
