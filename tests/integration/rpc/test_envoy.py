"""A real Envoy as an HTTP balancer between a client and two servers: examples/envoy/services.yaml."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.envoy import OFTEN, Config, example, part, program, running_envoy
from tests.support.rpc import Load, Rpc, Server
from tests.support.wait import eventually


def before(servers: list[Server]) -> Config:
    """The file with these two for the history service, which it checks often, at their health ports."""
    calls = {f"history-{number}.history:9443": server.rpc.port for number, server in enumerate(servers)}
    probes = {
        f"history-{number}.history:9444": server.rpc.health_port for number, server in enumerate(servers)
    }
    config = example("services.yaml", calls | probes)
    part(config, "history")["health_checks"][0].update(OFTEN)
    return config


@pytest.mark.parametrize("passed_on", [False, True], ids=["as it is", "with health passed on"])
async def test_each_server_in_turn_may_go(rpc: Rpc, tmp_path: Path, passed_on: bool) -> None:
    """Calls are spread one by one, and none fails while Envoy finds out who is not serving.

    It has to answer the client's own question for health itself: passed on, that of one server would be that of all.
    """
    program()
    servers = [await rpc.server(name) for name in "ab"]
    config = before(servers)
    if passed_on:
        manager = part(config, "envoy.filters.network.http_connection_manager")["typed_config"]
        del manager["route_config"]["virtual_hosts"][0]["routes"][0]
    both = {server.rpc.port for server in servers}
    async with running_envoy(tmp_path, config) as envoy:
        await envoy.has_healthy("history", both)
        client = await rpc.client(f"ipv4:127.0.0.1:{envoy.port('services')}")
        assert Counter([await client.say(b"") for _ in range(10)]) == {b"a": 5, b"b": 5}
        load = Load(lambda: client.say(b""))
        for server in servers:
            server.rpc.set_serving(serving=False)
            await envoy.has_healthy("history", both - {server.rpc.port})
            before_it = server.echo.requests.total()
            await more(load)
            assert server.echo.requests.total() <= before_it + 10, "no more than were on their way"
            server.rpc.set_serving(serving=True)
            await envoy.has_healthy("history", both)
            await more(load)
        await load.end()
    assert bool(load.failures) == passed_on


async def more(load: Load) -> None:
    """Wait until so many more calls were answered, one way or the other."""
    already = load.done + len(load.failures)
    await eventually(lambda: load.done + len(load.failures) > already + 100)
