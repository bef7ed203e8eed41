from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.ratelimit import NOBODY, SLOW, RateLimitClient, RateLimitProcess, client_of
from tests.support.wait import PATIENCE, eventually
from tidewire.doctor.service_facts import read_ratelimit
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.call_errors import BAD_REQUEST, CallError
from tidewire.kernel.config import decode
from tidewire.platform.rpc_library import grpc
from tidewire.ratelimit.places import LEARNING
from tidewire.rpc.ratelimit.v1 import ratelimit_pb2 as pb

# isort: split
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


async def test_tokens_are_given_until_there_are_none(client: RateLimitClient) -> None:
    """Many keys in one call; whoever gets none is told when to come again."""
    first, second, unknown = await client.lease("user-publish", (b"alice", 7), (b"alice", 7), (b"bob", 1))
    assert [first.tokens, second.tokens, unknown.tokens] == [7, 3, 1]
    (none,) = await client.lease("user-publish", (b"alice", 7))
    assert none.tokens == 0
    assert 300_000 < none.retry_after_ms <= 360_000, "one in six minutes"
    (unknown,) = await client.lease("no-such-rule", (b"alice", 7))
    assert unknown.unknown


async def test_what_comes_back_unspent_is_there_again(client: RateLimitClient) -> None:
    """In the same call, before what is asked for."""
    assert await client.tokens("user-publish", b"alice", 10) == 10
    back = pb.Unspent(rule="user-publish", key=b"alice", tokens=4)
    (grant,) = await client.lease("user-publish", (b"alice", 10), unspent=[back])
    assert grant.tokens == 4


async def test_calls_are_bounded(client: RateLimitClient) -> None:
    """In keys, and in the length of one."""
    with pytest.raises(CallError, match="more than 1000 keys") as caught:
        await client.lease("fast", *[(b"%d" % number, 1) for number in range(1001)])
    assert caught.value.reason is BAD_REQUEST
    with pytest.raises(CallError, match="more than 128 bytes"):
        await client.lease("fast", (b"k" * 129, 1))
    assert await client.tokens("fast", b"k", 2**32 - 1) == 100


async def test_places_for_connections_over_edges(client: RateLimitClient) -> None:
    """Two edges share the limit of two, once the replica has learned."""

    def alice(held: int, wanted: int) -> pb.Held:
        return pb.Held(rule="per-user", key=b"alice", held=held, wanted=wanted)

    async def granted() -> bool:
        return (await client.hold("edge-1", alice(0, 1))).places[0].granted == 1

    assert (await client.hold("edge-1", alice(0, 1))).places[0].learning, "it has just begun"
    await eventually(granted, LEARNING + 5)
    assert (await client.hold("edge-2", alice(0, 2))).places[0].granted == 1
    assert (await client.hold("edge-1", alice(0, 0))).places[0].granted == 0
    assert (await client.hold("edge-2", alice(1, 2))).places[0].granted == 2
    life = (await client.hold("edge-1")).life
    assert life == (await client.hold("edge-1")).life


async def test_a_reload_changes_rules_and_keeps_buckets(process: RateLimitProcess) -> None:
    """A new rule is known, and who has spent all has not got it again."""
    async with client_of(process) as client:
        assert await client.tokens("user-publish", b"alice", 10) == 10
        rules = [
            {"name": "user-publish", "command": "publish", "key": ["user"], "limit": 20, "period": "1h"},
            {"name": "new", "command": "publish", "key": ["user"], **SLOW},
        ]
        process.configure({"rate_limits": {"rules": rules}})
        process.send_signal(signal.SIGHUP)
        await eventually(lambda: process.logged("config.reloaded"))
        assert await client.tokens("new", b"alice", 3) == 3
        assert 0 <= await client.tokens("user-publish", b"alice", 20) <= 10
        assert (await client.lease("fast", (b"a", 1)))[0].unknown, "it is gone"


async def test_it_counts_and_drains(process: RateLimitProcess) -> None:
    """Metrics by rule; health says no, and it ends with 0."""
    async with client_of(process) as client:
        await client.lease("user-publish", (b"alice", 10), (b"alice", 1), (b"bob", 1))
    metrics = await process.metrics()
    assert metrics.value("tidewire_ratelimit_decisions_total", rule="user-publish", outcome="granted") == 2
    assert metrics.value("tidewire_ratelimit_decisions_total", rule="user-publish", outcome="refused") == 1
    assert metrics.value("tidewire_ratelimit_leased_tokens_total", rule="user-publish") == 11
    assert metrics.value("tidewire_ratelimit_keys", rule="user-publish") == 2
    assert metrics.value("tidewire_ratelimit_learning") in {0, 1}
    assert (await process.ready()).status == 200
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.logged("ratelimit.drained")


async def test_health_and_reflection_name_both_services(process: RateLimitProcess) -> None:
    """So that probes and grpcurl find them."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        for name in ("tidewire.rpc.ratelimit.v1.RateLimit", "envoy.service.ratelimit.v3.RateLimitService"):
            request = health_pb2.HealthCheckRequest(service=name)
            reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([asked]), timeout=PATIENCE):
            names = {service.name for service in answer.list_services_response.service}
            assert "envoy.service.ratelimit.v3.RateLimitService" in names
            break


async def test_a_port_that_is_taken_is_told(process: RateLimitProcess, tmp_path: Path) -> None:
    """With 69, and the setting."""
    second = RateLimitProcess(
        tmp_path / "second", {"rate_limit_service": {"rpc": {"port": process.port}}}, "b"
    )
    second.launch()
    try:
        assert await second.exit_code() == 69
        assert "rpc.port" in second.log
    finally:
        second.kill()


async def test_the_doctor_asks_each_replica(process: RateLimitProcess) -> None:
    """By the connection that an edge would make."""
    limits = {
        "timeout": "2s",
        "replicas": [process.target, NOBODY],
        "rules": [{"name": "r", "command": "publish", "key": ["user"], "limit": 1}],
    }
    config = decode(EdgeConfig, {"client": {"token": {"hmac_secret_key": "k" * 32}}, "rate_limits": limits})
    found = await read_ratelimit(config)
    assert found[process.target] == ""
    assert "refused" in found[NOBODY]
