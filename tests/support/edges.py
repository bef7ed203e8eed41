"""Real edges for one test or one module: `python -m tidewire edge` on free ports, with what they log and count."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jwt
import msgspec
import yaml
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from tests.support.http import HttpAnswer, request
from tests.support.nats_client import connected
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE, eventually

SERVICES = Path(__file__).resolve().parents[2] / "services"
SECRET = "a key for tests only, 32 bytes long"
PARTITIONS = 16
START_TIMEOUT = 90.0
STOP_TIMEOUT = PATIENCE

NOBODY = "ipv4:127.0.0.1:9"
"""Where no history service listens, for tests that need none."""

Config = Mapping[str, Any]

OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
"""Options of a namespace in which every user may do everything."""

PATIENT = {"stale_close_delay": "1m", "ping_interval": "2m", "pong_timeout": "1m"}
"""Options for hundreds of clients in one process, which on a busy machine may be late with commands and pongs."""


def token(user: str = "alice", *, ttl: float | None = 3600, key: str = SECRET, **claims: object) -> str:
    """Return a connection token, or with `channel=` a subscription token. `ttl` is rounded up; None: without an end."""
    payload: dict[str, object] = {"sub": user, **claims}
    if ttl is not None:
        payload.setdefault("exp", math.ceil(time.time() + ttl))
    return jwt.encode(payload, key, algorithm="HS256")


def mapping(partitions: int = PARTITIONS) -> str:
    """Return the nats-server configuration that finds the partition of a native publication."""
    return f'mappings {{ "tw.pub.>": "tw.in.{{{{partition({partitions})}}}}.>" }}\n'


def merged(base: Config, changes: Config) -> dict[str, Any]:
    """Return `base` with `changes` laid over it, mapping by mapping; lists are replaced."""
    found = dict(base)
    for key, value in changes.items():
        inner = found.get(key)
        found[key] = (
            merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
        )
    return found


def edge_config(nats_url: str, changes: Config | None = None) -> dict[str, Any]:
    """Return an edge's configuration: any free ports, the tests' key, a short drain, two open namespaces."""
    base: dict[str, Any] = {
        "log": {"format": "json"},
        "http": {"port": 0, "internal_port": 0},
        "nats": {"urls": [nats_url], "partitions": PARTITIONS},
        "client": {"token": {"hmac_secret_key": SECRET}},
        "channel": {"without_namespace": OPEN, "namespaces": [{"name": "live", **OPEN}]},
        "drain": {"delay": 0, "window": 0},
    }
    config = merged(base, changes or {})
    if any(namespace.get("history_size") for namespace in config["channel"]["namespaces"]):
        config.setdefault("history", {"target": NOBODY})
    return config


class EdgeProcess:
    """One edge in a process of its own, or with `workers` one in several under a supervisor, which signals go to.

    Ports are the system's choice; `start` blocks until `/ready` says yes. As a context manager it is started on entry and gone on exit, whatever happened.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        *,
        name: str = "edge",
        open_files: int | None = None,
        workers: int = 0,
    ) -> None:
        """Keep configuration and log in `folder`; `name` is the edge's node name, `open_files` its hard limit of them."""
        self._limit = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh"] if open_files else []
        self._workers = ["--workers", str(workers)] if workers else []
        self.name = name
        self.port = 0
        self.internal_port = 0
        self._config = merged(config, {"node_name": name})
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._told = 0

    # Where it is.

    @property
    def base_url(self) -> str:
        """Where pages are."""
        return f"http{self._secure}://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        """The same endpoint for a plain HTTP request."""
        return f"{self.base_url}/connection/websocket"

    @property
    def ws_url(self) -> str:
        """Where clients connect."""
        return f"ws{self._secure}://127.0.0.1:{self.port}/connection/websocket"

    @property
    def _secure(self) -> str:
        return "s" if "tls" in self._config["http"] else ""

    @property
    def internal_url(self) -> str:
        """Where probes and metrics are."""
        return f"http://127.0.0.1:{self.internal_port}"

    # Its life.

    def launch(self) -> Self:
        """Start the process and return at once."""
        assert self._process is None, "the edge was started already"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.configure({})
        self._told = len(self.logged(self._ready_event))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEWIRE_")}
        environment["PYTHONPATH"] = str(SERVICES)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._limit,
                    sys.executable,
                    "-m",
                    "tidewire",
                    "edge",
                    "-c",
                    str(self.file),
                    *self._workers,
                ],
                stdout=log,
                stderr=log,
                env=environment,
            )
        return self

    def wait_ready(self, timeout: float = START_TIMEOUT) -> Self:
        """Block until the edge has said where it listens. It says so when it is ready, never before."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            assert self.running, f"the edge ended at its start:\n{self.log}"
            for line in self.logged(self._ready_event)[self._told :]:
                self.port, self.internal_port = line["port"], line["internal_port"]
                return self
            time.sleep(0.01)
        raise AssertionError(f"the edge is not ready after {timeout:g} s:\n{self.log}")

    @property
    def _ready_event(self) -> str:
        return "workers.ready" if self._workers else "edge.ready"

    def start(self) -> Self:
        """Launch and wait; one that does not become ready is ended."""
        try:
            return self.launch().wait_ready()
        except BaseException:
            self.kill()
            raise

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that signals go to."""
        assert self._process is not None
        return self._process.pid

    def worker_pid(self, worker: int | str) -> int:
        """The process that is, or was last, the worker of this number, or `internal`."""
        *_, last = [line for line in self.logged("worker.started") if line["worker"] == str(worker)]
        return int(last["pid"])

    @property
    def file(self) -> Path:
        """Its configuration file."""
        return self._folder / f"{self.name}.yaml"

    def configure(self, changes: Config) -> None:
        """Lay changes over what its file says, in one step; a running edge takes them when it is told to reload."""
        self._config = merged(self._config, changes)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(self._config))
        fresh.replace(self.file)

    def hang_up(self) -> None:
        """Ask it to read its configuration again (SIGHUP)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Ask it to drain and end (SIGTERM)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it on the spot (SIGKILL), if it runs, and wait for that."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)

    async def exit_code(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait for the end and return the exit code."""
        process = self._process
        assert process is not None
        await eventually(lambda: process.poll() is not None, timeout, f"the end of {self.name}")
        assert process.returncode is not None
        return process.returncode

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    # What it says.

    async def ready(self) -> HttpAnswer:
        """Ask `/ready`."""
        return await request(f"{self.internal_url}/ready")

    async def metrics(self) -> Metrics:
        """Read `/metrics`, parsed by Prometheus' own parser."""
        answer = await request(f"{self.internal_url}/metrics")
        assert answer.status == 200
        return Metrics(answer.body.decode())

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged, whole lines only. A line that is not a JSON object fails the test."""
        whole, newline, _ = self.log.rpartition("\n")
        try:
            return [json.loads(line) for line in whole.split("\n")] if newline else []
        except json.JSONDecodeError:
            raise AssertionError(f"{self.name} wrote what is not JSON:\n{whole}") from None

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.lines if line.get("event") == event]

    @property
    def _log_file(self) -> Path:
        return self._folder / f"{self.name}.log"


class Metrics:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum over all samples of this name that carry these labels; 0 where there is none yet."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values that a label of this metric has."""
        return {sample.labels[label] for sample in self._samples if sample.name == name}

    def largest(self, histogram: str, since: Metrics | None = None) -> float:
        """Return the upper end of the highest bucket in which something was observed since an earlier scrape; 0: nothing."""
        counts = {
            float(sample.labels["le"]): sample.value
            for sample in self._samples
            if sample.name == f"{histogram}_bucket"
        }
        if since is not None:
            counts = {
                end: count - since.value(f"{histogram}_bucket", le=floatToGoString(end))
                for end, count in counts.items()
            }
        ends = sorted(counts)
        return (
            next((end for end in ends if counts[end] == counts[ends[-1]]), 0.0) if counts[ends[-1]] else 0.0
        )


class Mesh(msgspec.Struct, frozen=True):
    """A nats-server and edges on it."""

    nats: NatsServer
    edges: Sequence[EdgeProcess]

    async def total(self, name: str, **labels: str) -> float:
        """Return a metric's sum over all edges."""
        scrapes = await asyncio.gather(*(edge.metrics() for edge in self.edges))
        return sum(scrape.value(name, **labels) for scrape in scrapes)


@contextlib.asynccontextmanager
async def native(mesh: Mesh) -> AsyncIterator[Client]:
    """Connect a plain NATS client to the mesh's server."""
    async with connected(mesh.nats.url) as client:
        yield client


@contextlib.contextmanager
def running_mesh(
    folder: Path, changes: Config | None = None, *, edges: int = 2, nats: str | None = None
) -> Iterator[Mesh]:
    """Run a nats-server (with the mapping, or the configuration `nats`) and edges; blocks some 0.5 s at the start."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(NatsServer(folder / "nats", config=mapping() if nats is None else nats))
        config = edge_config(server.url, changes)
        processes = [EdgeProcess(folder, config, name=f"edge-{number}") for number in range(1, edges + 1)]
        for process in processes:
            stack.push(process)
            process.launch()
        for process in processes:
            process.wait_ready()
        yield Mesh(server, processes)
