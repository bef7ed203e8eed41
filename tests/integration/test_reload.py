"""A real edge that takes a new configuration while clients are connected: none of them may notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.edges import OPEN, EdgeProcess, edge_config, mapping, token
from tests.support.http import upgrade
from tests.support.nats_server import NatsServer
from tests.support.raw_client import Clients, RawClient, joined
from tests.support.wait import PATIENCE, eventually

CLIENTS = 50
OLD_KEY, NEW_KEY = "the first key, of 32 bytes or more", "another key, of 32 bytes or more"
OLD_PAGE, NEW_PAGE = "https://old.example", "https://new.example"
SUBSCRIBE_ONLY = {"allow_subscribe_for_client": True}


class Stage(msgspec.Struct, frozen=True):
    """An edge, and the file that holds its key."""

    edge: EdgeProcess
    key: Path

    async def reloads(self, outcome: str) -> float:
        """How often a reload has ended so."""
        return (await self.edge.metrics()).value("tidewire_config_reloads_total", outcome=outcome)

    async def reload(self, changes: dict[str, Any], outcome: str = "done") -> None:
        """Write changes and wait until a reload has ended as expected."""
        before = await self.reloads(outcome)
        self.edge.configure(changes)
        self.edge.hang_up()

        async def over() -> bool:
            return await self.reloads(outcome) > before

        await eventually(over, message=f"a reload that is {outcome}:\n{self.edge.log}")

    async def code(self, channel: str) -> int:
        """What a newcomer's subscribe is answered with; 0 is yes."""
        client = await joined(self.edge.ws_url, token(key=self.key.read_text()))
        try:
            reply = await client.command(subscribe={"channel": channel})
        finally:
            await client.close()
        return int(reply.get("error", {}).get("code", 0))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An edge whose key is in a file."""
    key = tmp_path / "token.key"
    key.write_text(OLD_KEY)
    with NatsServer(tmp_path / "nats", config=mapping()) as server:
        config = edge_config(server.url)
        config["client"] = {
            "token": {"hmac_secret_key_file": str(key)},
            "allowed_origins": [OLD_PAGE],
            "stale_close_delay": "60s",
        }
        config["channel"]["namespaces"] = [{"name": "live", **OPEN}, {"name": "news", **OPEN}]
        with EdgeProcess(tmp_path, config) as edge:
            yield Stage(edge, key)


class Crowd:
    """Clients that listen to live:x and news:x, and what each was pushed."""

    def __init__(self) -> None:
        self.clients: list[RawClient] = []
        self.pushes: list[list[bytes]] = []

    async def join(self, url: str) -> None:
        """Connect everybody."""
        for number in range(CLIENTS):
            heard: list[bytes] = []
            user = token(f"user-{number}", key=OLD_KEY)
            self.clients.append(await joined(url, user, "live:x", "news:x", on_push=heard.append))
            self.pushes.append(heard)

    async def answers(self, **command: object) -> set[int]:
        """The codes of everybody's replies to a command."""
        replies = await asyncio.gather(*(client.command(**command) for client in self.clients))
        return {reply.get("error", {}).get("code", 0) for reply in replies}

    async def hear(self, channel: str, marker: str) -> None:
        """Publish on a channel; everybody is pushed it."""
        assert "publish" in await self.clients[0].command(publish={"channel": channel, "data": marker})

        def heard() -> bool:
            return all(any(marker.encode() in push for push in pushes) for pushes in self.pushes)

        await eventually(heard, message=marker)


@pytest.fixture
async def crowd(stage: Stage) -> AsyncIterator[Crowd]:
    """Everybody is there."""
    found = Crowd()
    try:
        await found.join(stage.edge.ws_url)
        yield found
    finally:
        for client in found.clients:
            client.abort()


async def page(stage: Stage, origin: str) -> int:
    """The status of a page's handshake."""
    return (await upgrade(stage.edge.websocket_url, headers={"Origin": origin})).status


async def closed_by_edge(edge: EdgeProcess) -> float:
    """How many connections the edge has ended itself."""
    metrics = await edge.metrics()
    closed = "tidewire_connections_closed_total"
    return metrics.value(closed) - sum(metrics.value(closed, code=code) for code in ("1000", "1006"))


async def connections(edge: EdgeProcess, count: int) -> bool:
    """Whether so many are left: the edge may hear of an end later than the client that ended."""
    return (await edge.metrics()).value("tidewire_connections") == count


async def test_what_can_change_changes_and_nobody_is_dropped(
    stage: Stage, crowd: Crowd, clients: Clients
) -> None:
    """Namespaces, permissions, origins, limits, the key in its file and the log's level, in one reload."""
    edge = stage.edge
    assert (await page(stage, OLD_PAGE), await page(stage, NEW_PAGE)) == (101, 403)
    assert await stage.code("more:x") == 102
    stage.key.write_text(NEW_KEY)
    news = {"name": "news", **OPEN, "allow_subscribe_for_client": False}
    changes = {
        "log": {"level": "warning"},
        "client": {"allowed_origins": [NEW_PAGE], "channel_limit": 3, "connection_limit": CLIENTS - 10},
        "channel": {"namespaces": [{"name": "live", **OPEN}, news, {"name": "more", **SUBSCRIBE_ONLY}]},
    }
    await stage.reload(changes)
    # Who is there keeps what it has, and follows the new rules from its next command on.
    await crowd.hear("live:x", "still live")
    await crowd.hear("news:x", "still news")
    assert await crowd.answers(unsubscribe={"channel": "news:x"}) == {0}
    assert await crowd.answers(subscribe={"channel": "news:x"}) == {103}
    assert await crowd.answers(subscribe={"channel": "more:x"}) == {0}
    assert await crowd.answers(publish={"channel": "more:x", "data": 1}) == {103}
    assert await crowd.answers(subscribe={"channel": "live:2"}) == {0}
    assert await crowd.answers(subscribe={"channel": "live:3"}) == {106}
    # Who comes finds the new origins, and no room.
    assert (await page(stage, OLD_PAGE), await page(stage, NEW_PAGE)) == (403, 503)
    assert (await edge.metrics()).value("tidewire_connection_limit") == CLIENTS - 10
    await eventually(lambda: connections(edge, CLIENTS))
    assert await closed_by_edge(edge) == 0
    # With room again, the new key opens and the old one does not. All this is below the level of the log.
    lines = len(edge.lines)
    await stage.reload({"client": {"connection_limit": CLIENTS + 10}})
    assert await page(stage, NEW_PAGE) == 101
    assert await stage.code("more:x") == 0
    stranger = await clients.open(edge.ws_url)
    stranger.begin(connect={"token": token(key=OLD_KEY)})
    await asyncio.wait_for(stranger.gone.wait(), PATIENCE)
    assert stranger.close_code == 3500
    assert [line["level"] for line in edge.lines[lines:]] == ["warning"] * len(edge.lines[lines:])
    await stage.reload({"log": {"level": "info"}})
    assert edge.logged("config.reloaded")[-1]["changes"] == ["log.level"]
    await crowd.hear("live:x", "to the end")
    assert await closed_by_edge(edge) == 1
    assert not any(client.gone.is_set() for client in crowd.clients)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("http: {prt: 1}", "http.prt: unknown setting; did you mean port?"),
        ("client: {connection_limit: none}", "client.connection_limit: "),
        ("client: [", "edge.yaml:"),
        (None, "client.token.hmac_secret_key_file: cannot read "),
    ],
)
async def test_invalid_configuration_is_refused_as_at_the_start(
    stage: Stage, clients: Clients, spoil: str | None, problem: str
) -> None:
    """The old one stays in force, and the log says what is wrong; once it is mended all is well."""
    edge = stage.edge
    client = await clients.join(edge.ws_url, token(key=OLD_KEY), "live:x")
    if spoil is None:
        stage.key.rename(stage.key.with_suffix(".gone"))
    else:
        edge.file.write_text(spoil)
    edge.hang_up()
    await eventually(lambda: edge.logged("config.reload_refused"))
    (line,) = edge.logged("config.reload_refused")
    assert any(problem in each for each in line["problems"])
    assert OLD_KEY not in edge.log
    metrics = await edge.metrics()
    assert metrics.value("tidewire_config_reloads_total", outcome="refused") == 1
    assert metrics.value("tidewire_config_last_reload_successful") == 0
    await clients.join(edge.ws_url, token(key=OLD_KEY), "news:x")
    assert "publish" in await client.command(publish={"channel": "live:x", "data": 1})
    if spoil is None:
        stage.key.with_suffix(".gone").rename(stage.key)
    await stage.reload({}, "unchanged")
    assert (await edge.metrics()).value("tidewire_config_last_reload_successful") == 1


async def test_change_that_needs_a_restart_refuses_all_by_name(stage: Stage) -> None:
    """Nothing is half in force: the new namespace of the same file is not there."""
    changes = {
        "http": {"port": stage.edge.port},
        "client": {"ping_interval": "20s", "pong_timeout": "7s"},
        "channel": {"namespaces": [{"name": "more", **OPEN}]},
    }
    await stage.reload(changes, "refused")
    (line,) = stage.edge.logged("config.reload_refused")
    names = ["http.port", "client.ping_interval", "client.pong_timeout"]
    assert line["problems"] == [f"{name}: a change needs a restart" for name in names]
    assert await stage.code("more:x") == 102
    assert await stage.code("live:x") == 0


async def test_flood_of_hangups_is_bounded(stage: Stage, clients: Clients) -> None:
    """One reload a second at most, clients are served meanwhile, and what was written last is in force in the end."""
    client = await clients.join(stage.edge.ws_url, token(key=OLD_KEY), "live:x")
    began = time.monotonic()
    slowest = 0.0
    while time.monotonic() < began + 3:
        stage.edge.hang_up()
        asked = time.monotonic()
        assert "publish" in await client.command(publish={"channel": "live:x", "data": 1})
        slowest = max(slowest, time.monotonic() - asked)
        await asyncio.sleep(0.005)  # within the rate of one connection
    await stage.reload({"channel": {"namespaces": [{"name": "more", **OPEN}]}})
    total = await stage.reloads("done") + await stage.reloads("unchanged")
    assert 2 <= total <= 1 + (time.monotonic() - began)
    assert slowest < 5  # far less than a client waits, also where the cores are busy
    assert await stage.code("more:x") == 0


async def test_hangup_during_the_drain_is_ignored(tmp_path: Path, clients: Clients) -> None:
    """A line in the log, and the drain goes on."""
    with NatsServer(tmp_path / "nats", config=mapping()) as server:
        config = edge_config(server.url, {"drain": {"delay": "1m"}})
        with EdgeProcess(tmp_path, config) as edge:
            edge.terminate()
            await eventually(lambda: edge.logged("process.draining"))
            edge.configure({"channel": {"namespaces": [{"name": "more", **OPEN}]}})
            edge.hang_up()
            await eventually(lambda: edge.logged("config.reload_ignored"))
            client = await clients.join(edge.ws_url, token(), "live:x")
            assert "error" in await client.command(subscribe={"channel": "more:x"})
            edge.terminate()
            assert await edge.exit_code() == 0
