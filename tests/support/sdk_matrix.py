"""The SDK versions that are in the field, each in a driver of its own: every one of them plays every scenario at once."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from nats.aio.client import Client as NatsClient

from tests.support.driver import ROOT, Driver, DriverClient, running_driver
from tests.support.edges import Mesh, token
from tests.support.node import running_node
from tests.support.sdk import FORMATS, Tags, Tokens, connected
from tidewire.kernel.subjects import control_subject, encode_channel

SDKS = ROOT / ".venv" / "sdks"
"""What `make setup-sdks` installs."""


def _python(program: str) -> contextlib.AbstractAsyncContextManager[Driver[Any]]:
    environment = {"PYTHONPATH": str(ROOT)}
    return running_driver(program, "-m", "tests.support.python_driver", environment=environment)


DRIVERS: Mapping[str, Callable[[], contextlib.AbstractAsyncContextManager[Driver[Any]]]] = {
    "js-5.0": lambda: running_node("centrifuge-5.0"),
    "js-5.7": lambda: running_node("centrifuge-5.7"),
    "js-5.8": running_node,
    "python-0.5": lambda: _python(str(SDKS / "python-0.5" / "bin" / "python")),
    "python-0.7": lambda: _python(sys.executable),
    "go-0.12": lambda: running_driver(str(SDKS / "go-driver")),
}
"""Language and version of each SDK, and what starts its driver."""

KINDS = [f"{sdk}-{wire}" for sdk in DRIVERS for wire in FORMATS]


class Player:
    """One SDK and format in one scenario: a maker of clients, with users and channels of its own, and their backend."""

    def __init__(self, kind: str, driver: Driver[Any], mesh: Mesh, backend: NatsClient) -> None:
        self.kind = kind
        self.mesh = mesh
        self._backend = backend
        self._wire = kind.rpartition("-")[2]
        self._driver = driver
        self._clients: list[DriverClient] = []

    @property
    def user(self) -> str:
        """The user id of its clients, unless they say otherwise."""
        return f"{self.kind} user"

    @property
    def lost(self) -> str:
        """The event with the code of a close after which the SDK reconnects. Python 0.5 speaks as if it would not."""
        return "disconnected" if self.kind.startswith("python-0.5") else "connecting"

    def channel(self, name: str, namespace: str = "live") -> str:
        """Return a channel that only this SDK and format uses."""
        return f"{namespace}:{name} {self.kind}"

    async def make(
        self,
        *,
        edge: int = 0,
        url: str = "",
        token: str = "",
        tokens: Tokens = None,
    ) -> DriverClient:
        """Create a client, not connected yet, of an edge of the mesh or of `url`; see sdk.Make."""
        url = url or self.mesh.edges[edge].ws_url
        client: DriverClient = await self._driver.create(url, wire=self._wire, token=token, tokens=tokens)
        self._clients.append(client)
        return client

    async def join(self, *, edge: int = 0, url: str = "", **claims: Any) -> DriverClient:
        """Create a client with a token of these further claims, and connect it."""
        client = await self.make(edge=edge, url=url, token=token(self.user, **claims))
        await connected(client)
        return client

    async def publish(self, channel: str, data: object, tags: Tags = None) -> None:
        """Publish on NATS, as a backend does."""
        headers = {"Tw-Tags": msgspec.json.encode(tags).decode()} if tags else None
        subject = f"tw.pub.{encode_channel(channel)}"
        await self._backend.publish(subject, msgspec.json.encode(data), headers=headers)

    async def order(self, kind: str, **fields: object) -> None:
        """Give the edges an order about its user."""
        order = {"v": 1, "type": kind, "user": self.user, **fields}
        await self._backend.publish(control_subject("all").decode(), msgspec.json.encode(order))

    async def close(self) -> None:
        """End its clients."""
        await asyncio.gather(*(client.close() for client in self._clients))


Play = Callable[[Player], Awaitable[None]]


class Scenario(msgspec.Struct, frozen=True):
    """A row of the table: what is played, and the SDKs that lack what it takes (the beginnings of their kinds)."""

    play: Play
    lacking: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """How test and documentation call it."""
        return self.play.__name__

    @property
    def kinds(self) -> list[str]:
        """Who plays it."""
        return [kind for kind in KINDS if not kind.startswith(tuple(self.lacking))]


class Cast(msgspec.Struct, frozen=True):
    """All drivers, started once, the mesh that they play on, and a plain NATS client beside it."""

    drivers: Mapping[str, Driver[Any]]
    mesh: Mesh
    backend: NatsClient

    @contextlib.asynccontextmanager
    async def players(self, kinds: Sequence[str] = KINDS) -> AsyncIterator[list[Player]]:
        """Yield a player of each kind, and end all their clients afterwards."""
        players = [
            Player(kind, self.drivers[kind.rpartition("-")[0]], self.mesh, self.backend) for kind in kinds
        ]
        try:
            yield players
        finally:
            await asyncio.gather(*(player.close() for player in players))

    async def play(self, scenario: Scenario) -> None:
        """Let everybody play at once. Raises a group of what failed, each with a note of whose it is."""
        async with self.players(scenario.kinds) as players:
            outcomes = await asyncio.gather(*map(scenario.play, players), return_exceptions=True)
        failures: list[BaseException] = []
        for player, outcome in zip(players, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                outcome.add_note(f"with {player.kind}")
                failures.append(outcome)
        if failures:
            text = f"{scenario.name} fails with {len(failures)} of {len(players)}"
            raise BaseExceptionGroup(text, failures)


@contextlib.asynccontextmanager
async def running_cast(mesh: Mesh, backend: NatsClient) -> AsyncIterator[Cast]:
    """Run a driver of each SDK; blocks a second at the start, where all of them start at once."""
    async with contextlib.AsyncExitStack() as stack:
        entering = (stack.enter_async_context(start()) for start in DRIVERS.values())
        drivers = dict(zip(DRIVERS, [await each for each in entering], strict=True))
        yield Cast(drivers, mesh, backend)
