"""Tried as somebody would who wants more than the rules give: keys by the thousand, many connections, forged addresses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ratelimit.test_edges import KEPT, Mesh, Rules, codes, connect, decisions, mesh, publish
from tests.support.certificates import Authority
from tests.support.edges import mapping, token
from tests.support.http import only_tells
from tests.support.nats_server import NatsServer
from tests.support.ratelimit import RateLimitProcess, client_of
from tests.support.raw_client import RawClient, joined
from tests.support.wait import eventually
from tidewire.edge.client_options import TOKEN_COST
from tidewire.kernel.call_errors import CallError
from tidewire.rpc.ratelimit.v1 import ratelimit_pb2 as pb


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with the mapping."""
    with NatsServer(tmp_path_factory.mktemp("nats"), config=mapping()) as server:
        yield server


SMALL: Rules = [{"name": "r", "command": "publish", "key": ["user"], "limit": 10, **KEPT, "close_after": 0}]


async def test_coming_back_refills_nothing(nats: NatsServer, tmp_path: Path) -> None:
    """Ten publications a user, however many connections it makes one after the other, on whatever edge."""
    async with mesh(nats, tmp_path, edges=2, rules=SMALL) as run:
        taken = 0
        for number in range(12):
            client = await joined(run.edges[number % 2].ws_url, token("alice"))
            taken += codes(await publish(client, 3)).count(0)
            await client.close()
        assert taken <= 10


async def test_coming_back_brings_no_more_commands_than_is_stated(nats: NatsServer, tmp_path: Path) -> None:
    """Each connection begins with its burst of commands: a rule for `connect` and one for connections bound them together."""
    burst, rate, comes, at_once = 30, 10, 5, 2
    connects: Rules = [{"name": "c", "command": "connect", "key": ["user"], "limit": comes, "period": "1h"}]
    places: Rules = [{"name": "p", "key": "user", "limit": at_once, "when_down": "deny"}]
    made = Mesh(nats, tmp_path, {"rules": connects, "connections": places}, 1)
    slow = {"client": {"command_rate_limit": rate, "command_rate_burst": burst}}
    with made.replicas[0], made.edge(slow) as one, made.edge(slow) as two:
        began = time.monotonic()
        carried_out, came = 0, 0
        for number in range(6 * comes):
            found = await connect((one, two)[number % 2].ws_url, "mallory")
            if isinstance(found, int):
                assert found in {100, 111}, "a replica that begins learns who is there"
                await asyncio.sleep(0.3 if found == 100 else 0)
                continue
            came += 1
            replies = await asyncio.gather(*(publish(found, 1) for _ in range(burst)), return_exceptions=True)
            carried_out += sum(codes(each) == [0] for each in replies if not isinstance(each, BaseException))
            await found.close()
        window = time.monotonic() - began
    assert came == comes
    assert carried_out <= (at_once + comes) * burst + at_once * rate * window
    assert carried_out >= comes * (burst - TOKEN_COST), "each of them begins anew"


async def test_an_address_that_nobody_vouches_for_is_not_believed(nats: NatsServer, tmp_path: Path) -> None:
    """A client that sends X-Forwarded-For itself has the bucket of its own address; behind a trusted proxy it counts."""
    rules: Rules = [{"name": "r", "command": "publish", "key": ["ip"], "limit": 5, **KEPT, "close_after": 0}]
    made = Mesh(nats, tmp_path, {"rules": rules}, 1)
    with (
        made.replicas[0],
        made.edge() as plain,
        made.edge({"http": {"trusted_proxies": ["127.0.0.0/8"]}}) as behind,
    ):
        for edge, expected in ((plain, 5), (behind, 20)):
            taken = 0
            for number in range(4):
                header = {"X-Forwarded-For": f"203.0.113.{number}"}
                client = await RawClient(edge.ws_url, headers=header).open()
                await client.command(connect={"token": token(f"user-{number}")})
                taken += codes(await publish(client, 5)).count(0)
                await client.close()
            assert taken == expected


async def test_channel_names_by_the_thousand_blow_no_map(nats: NatsServer, tmp_path: Path) -> None:
    """Neither at the edge nor in the service, which counts what it forgets; and nobody is let pass for it."""
    rules: Rules = [
        {
            "name": "r",
            "command": "publish",
            "key": ["channel"],
            "limit": 100,
            "period": "1h",
            "lease_time": "1m",
        }
    ]
    limits = {"rules": rules, "connections": [], "envoy": []}
    made = Mesh(nats, tmp_path, {"rules": rules}, 0)
    made.replicas.append(
        RateLimitProcess(tmp_path, {"rate_limits": limits, "rate_limit_service": {"max_keys": 300}})
    )
    with made.replicas[0], made.edge({"client": {"command_rate_limit": 0}}, max_keys=200) as edge:
        client = await joined(edge.ws_url, token("mallory"))
        for start in range(0, 1000, 50):
            names = [f"live:{'x' * 200}{number}" for number in range(start, start + 50)]
            calls = (client.command(publish={"channel": name, "data": 1}) for name in names)
            assert set(codes(await asyncio.gather(*calls))) == {0}
        assert 0 < (await edge.metrics()).value("tidewire_rate_limit_keys") <= 200
        counts = await made.replicas[0].metrics()
        assert 0 < counts.value("tidewire_ratelimit_keys") <= 300
        assert counts.value("tidewire_ratelimit_forgotten_keys_total") > 0
        assert await decisions(edge, "r", "passed") == 0


async def test_what_is_not_permitted_makes_no_key_and_costs_nothing(nats: NatsServer, tmp_path: Path) -> None:
    """Unknown channels, data that is none, calls of methods that are not there."""
    rules: Rules = [
        {"name": "p", "command": "publish", "key": ["channel"], "limit": 1000},
        {"name": "s", "command": "subscribe", "key": ["channel"], "limit": 1000},
        {"name": "c", "command": "rpc", "key": ["method"], "limit": 1000},
    ]
    async with mesh(nats, tmp_path, rules=rules) as run:
        client = await joined(run.edges[0].ws_url, token("mallory"))
        for number in range(20):
            await client.command(publish={"channel": f"nowhere:{number}", "data": 1})
            await client.command(publish={"channel": f"live:{number}"})
            await client.command(subscribe={"channel": f"nowhere:{number}"})
            await client.command(rpc={"method": f"m{number}"})
        metrics = await run.edges[0].metrics()
        assert metrics.value("tidewire_rate_limit_keys") == 0


async def test_places_are_not_gained_by_coming_all_at_once(nats: NatsServer, tmp_path: Path) -> None:
    """Twenty connections of a user to two edges at the same moment: two are let in."""
    places: Rules = [{"name": "p", "key": "user", "limit": 2, "when_down": "deny"}]
    async with mesh(nats, tmp_path, edges=2, connections=places) as run:

        async def learned() -> bool:
            return not (await run.replicas[0].metrics()).value("tidewire_ratelimit_learning")

        await eventually(learned)
        found = await asyncio.gather(
            *(connect(run.edges[number % 2].ws_url, "alice") for number in range(20))
        )
        assert sum(isinstance(each, RawClient) for each in found) <= 2
        assert {each for each in found if isinstance(each, int)} <= {111, 100}


async def test_many_that_wait_at_once_do_not_pass(nats: NatsServer, tmp_path: Path) -> None:
    """200 clients want more tokens of a key than the calls for them bring: the service is there, so `when_down` lets nobody pass."""
    rules: Rules = [
        {"name": "r", "command": "publish", "key": ["channel"], "limit": 1000, "burst": 10, "close_after": 0}
    ]
    rules[0] |= {"lease_size": 1, "when_down": "allow"}
    async with mesh(nats, tmp_path, rules=rules, wait="200ms") as run:
        (edge,) = run.edges
        clients = [await joined(edge.ws_url, token("mallory")) for _ in range(200)]
        for _ in range(5):
            await asyncio.gather(*(publish(client, 5) for client in clients))
        assert await decisions(edge, "r", "refused") > 0, "else the calls were fast enough, and nobody waited"
        assert await decisions(edge, "r", "passed") == 0


async def test_a_call_that_is_forged_takes_no_more_than_there_is(tmp_path: Path) -> None:
    """Who reaches the port can use tokens up, but not make any: what it gives back is never more than a full bucket."""
    with RateLimitProcess(tmp_path) as process:
        async with client_of(process) as client:
            assert await client.tokens("user-publish", b"alice", 10) == 10
            back = [pb.Unspent(rule="user-publish", key=b"alice", tokens=2**32 - 1)] * 100
            await client.lease("user-publish", unspent=back)
            assert await client.tokens("user-publish", b"alice", 2**32 - 1) == 10


async def test_only_edges_with_a_certificate_and_a_name_may_call(nats: NatsServer, tmp_path: Path) -> None:
    """Mutual TLS at the port: a stranger has no connection, another name no answer, and the edge its tokens."""
    authority = Authority(tmp_path / "ca")
    server, edge_papers, other = (authority.issue(name, name) for name in ("ratelimit", "edge", "other"))
    tls = {"cert_file": server[0], "key_file": server[1], "client_ca_file": str(authority.file)}
    rules = {"rules": SMALL, "connections": [], "envoy": []}
    service = {"rpc": {"tls": {**tls, "client_names": ["edge"]}}}
    made = Mesh(nats, tmp_path, {"rules": SMALL}, 0)
    made.replicas.append(RateLimitProcess(tmp_path, {"rate_limits": rules, "rate_limit_service": service}))

    def papers(pair: tuple[str, str]) -> dict[str, str]:
        ours = {"cert_file": pair[0], "key_file": pair[1]}
        return {"ca_file": str(authority.file), "server_name": "ratelimit", **ours}

    with made.replicas[0] as process:
        with made.edge(tls=papers(edge_papers)) as edge:
            client = await joined(edge.ws_url, token("alice"))
            assert codes(await publish(client, 12)).count(0) == 10
            assert await decisions(edge, "r", "passed") == 0
        with made.edge(tls=papers(other)) as stranger:
            client = await joined(stranger.ws_url, token("alice"))
            assert codes(await publish(client, 3)) == [0] * 3, "when_down: allow"
            assert await decisions(stranger, "r", "passed") == 3
        async with client_of(process, timeout="2s") as plain:
            with pytest.raises(CallError):
                await plain.tokens("r", b"alice", 1)


async def test_the_internal_port_only_tells(tmp_path: Path) -> None:
    """And of no key."""
    with RateLimitProcess(tmp_path) as process:
        async with client_of(process) as client:
            await client.tokens("user-publish", b"mallory-1", 1)
            await client.hold("edge-1", pb.Held(rule="per-user", key=b"mallory-2", wanted=1))
        await only_tells(process.internal_port, "mallory", "edge-1")


async def test_calls_about_places_are_bounded(tmp_path: Path) -> None:
    """In keys, and in the name of an edge."""
    with RateLimitProcess(tmp_path) as process:
        async with client_of(process) as client:
            with pytest.raises(CallError, match="more than 1000 keys"):
                await client.hold("edge", *[pb.Held(rule="per-user", key=b"k")] * 1001)
            with pytest.raises(CallError, match="a name of 1 to 128"):
                await client.hold("e" * 129)
