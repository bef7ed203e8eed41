from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.ratelimit import Gateway, RateLimitProcess, gateway_of
from tidewire.platform.rpc_library import grpc
from tidewire.rpc.envoy.v3 import rls_pb2 as rls

USER_A = {"key": "user", "value": "a"}
OK, OVER = rls.RateLimitResponse.OK, rls.RateLimitResponse.OVER_LIMIT


async def test_a_descriptor_is_limited_by_its_rule(gateway: Gateway) -> None:
    """Each address has ten logins; the status says what is left."""
    reply = await gateway.ask({"path": "/login", "remote_address": "10.0.0.1"})
    assert reply.overall_code == OK
    (status,) = reply.statuses
    assert (status.code, status.current_limit.name, status.current_limit.requests_per_unit) == (
        OK,
        "login",
        10,
    )
    assert status.current_limit.unit == rls.RateLimitResponse.RateLimit.HOUR
    assert status.limit_remaining == 9
    assert 350 < status.duration_until_reset.ToSeconds() <= 360
    for _ in range(9):
        assert (await gateway.ask({"path": "/login", "remote_address": "10.0.0.1"})).overall_code == OK
    over = await gateway.ask({"path": "/login", "remote_address": "10.0.0.1"})
    assert (over.overall_code, over.statuses[0].limit_remaining) == (OVER, 0)
    assert over.statuses[0].duration_until_reset.ToSeconds() > 300
    assert (await gateway.ask({"path": "/login", "remote_address": "10.0.0.2"})).overall_code == OK


async def test_the_first_rule_that_fits_counts(gateway: Gateway) -> None:
    """A value before any value; what no rule is for passes without a limit."""
    assert (await gateway.ask({"user": "evil"})).statuses[0].current_limit.name == "strict"
    assert (await gateway.ask({"user": "good"})).statuses[0].current_limit.name == "any-user"
    for descriptor in ({"other": "x"}, {"remote_address": "10.0.0.1", "path": "/login"}, {"path": "/login"}):
        reply = await gateway.ask(descriptor)
        assert reply.overall_code == OK
        assert not reply.statuses[0].HasField("current_limit")
    assert not (await gateway.ask({"user": "evil"}, domain="other")).statuses[0].HasField("current_limit")


async def test_all_descriptors_are_counted_or_none(gateway: Gateway, process: RateLimitProcess) -> None:
    """What one of them refuses costs the others nothing, and they are not called granted."""
    await gateway.ask({"user": "evil"})
    for _ in range(20):
        reply = await gateway.ask({"user": "good"}, {"user": "evil"})
        assert reply.overall_code == OVER
        assert [status.code for status in reply.statuses] == [OK, OVER]
    assert (await gateway.ask({"user": "good"})).statuses[0].limit_remaining == 4
    name, metrics = "tidewire_ratelimit_decisions_total", await process.metrics()
    assert metrics.value(name, rule="any-user", outcome="granted") == 1
    assert metrics.value(name, rule="strict", outcome="refused") == 20


async def test_hits(gateway: Gateway) -> None:
    """As many as the request says, or the descriptor; more than there can ever be is refused and costs nothing."""
    assert (await gateway.ask({"user": "a"}, hits=3)).statuses[0].limit_remaining == 2
    assert (await gateway.ask({"user": "a"}, hits=3)).overall_code == OVER
    assert (await gateway.ask({"user": "a"}, hits=2**32 - 1)).overall_code == OVER
    assert (await gateway.ask({"user": "a"}, hits=2)).overall_code == OK
    entries = [rls.RateLimitDescriptor.Entry(key="user", value="b")]
    for hits, code in ((5, OK), (2**64 - 1, OVER), (0, OK)):
        descriptor = rls.RateLimitDescriptor(entries=entries, hits_addend={"value": hits})
        reply = await gateway.ask_raw(
            rls.RateLimitRequest(domain="web", descriptors=[descriptor], hits_addend=9)
        )
        assert reply.overall_code == code, hits


async def test_a_limit_that_a_descriptor_brings_is_not_obeyed(gateway: Gateway) -> None:
    """What a rule allows is in our configuration."""
    for limit in (1, 1000):
        descriptor = {"entries": [USER_A], "limit": {"requests_per_unit": limit, "unit": 1}}
        reply = await gateway.ask_raw(rls.RateLimitRequest(domain="web", descriptors=[descriptor]))
        assert reply.statuses[0].current_limit.requests_per_unit == 5


async def test_a_negative_addend_is_no_refill(gateway: Gateway) -> None:
    """A peer that puts -1 on the wire has a large number read, and refused."""
    await gateway.ask({"user": "a"}, hits=5)
    entry = b"\x0a\x04user\x12\x01a"
    descriptor = b"\x0a" + bytes([len(entry)]) + entry
    minus_one = b"\x18" + b"\xff" * 9 + b"\x01"
    raw = b"\x0a\x03web\x12" + bytes([len(descriptor)]) + descriptor + minus_one
    assert (await gateway.ask_raw(rls.RateLimitRequest.FromString(raw))).overall_code == OVER
    assert (await gateway.ask({"user": "a"})).overall_code == OVER


async def test_a_dry_run_says_ok(gateway: Gateway, process: RateLimitProcess) -> None:
    """And counts what it would have refused."""
    for _ in range(3):
        assert (await gateway.ask({"shadow": "x"})).overall_code == OK
    metrics = await process.metrics()
    decisions = "tidewire_ratelimit_decisions_total"
    assert metrics.value(decisions, rule="shadow", outcome="would_be_refused") >= 1


@pytest.mark.parametrize(
    "request_",
    [
        rls.RateLimitRequest(descriptors=[{"entries": [{"key": "user", "value": "a"}]}]),
        rls.RateLimitRequest(domain="web"),
        rls.RateLimitRequest(domain="web", descriptors=[{}]),
        rls.RateLimitRequest(domain="web", descriptors=[{"entries": [{"key": "k"}] * 17}]),
        rls.RateLimitRequest(domain="web", descriptors=[{"entries": [{"key": "k"}]}] * 101),
        rls.RateLimitRequest(domain="web", descriptors=[{"entries": [USER_A], "is_negative_hits": True}]),
    ],
    ids=["no domain", "no descriptor", "no entry", "many entries", "many descriptors", "negative hits"],
)
async def test_odd_requests_are_refused(gateway: Gateway, request_: rls.RateLimitRequest) -> None:
    """With INVALID_ARGUMENT, and nothing counted."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.ask_raw(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await gateway.ask({"user": "a"})).statuses[0].limit_remaining == 4


async def test_at_the_same_time_no_more_than_the_limit(gateway: Gateway) -> None:
    """A hundred requests at once."""
    replies = await asyncio.gather(*[gateway.ask({"user": "crowd"}) for _ in range(100)])
    assert sum(reply.overall_code == OK for reply in replies) == 5


async def test_a_flood_of_descriptors_is_bounded(tmp_path: Path) -> None:
    """Values by the thousand take no more room than max_keys, and what was forgotten is counted."""
    with RateLimitProcess(tmp_path, {"rate_limit_service": {"max_keys": 200}}) as process:
        async with gateway_of(process) as gateway:
            for start in range(0, 2000, 100):
                await gateway.ask(*[{"user": f"user-{start + index}"} for index in range(100)])
        metrics = await process.metrics()
        assert metrics.value("tidewire_ratelimit_keys", rule="any-user") <= 200
        assert metrics.value("tidewire_ratelimit_forgotten_keys_total", rule="any-user") >= 1800
