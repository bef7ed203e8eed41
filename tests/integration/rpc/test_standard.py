"""What every server has: health for clients and probes, and reflection."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.rpc import NAME, Rpc, Server, path
from tests.support.wait import PATIENCE, eventually
from tidewire.kernel.call_errors import CallError
from tidewire.platform.rpc_library import grpc
from tidewire.platform.rpc_standard import Health

# isort: off
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
# isort: on

EVERYWHERE = "0.0.0.0"  # noqa: S104 - for the length of a test
STATUSES = health_pb2.HealthCheckResponse.ServingStatus


async def probe(server: Server, service: str = "") -> str:
    """What a probe of Kubernetes sees, at the health port."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.rpc.health_port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    return STATUSES.Name(reply.status)


async def test_probes_need_no_certificate(rpc: Rpc, tmp_path: Path) -> None:
    """The health port speaks without TLS what the other one speaks with it, and nothing else."""
    authority = Authority(tmp_path / "ca")
    cert_file, key_file = authority.issue("server", "127.0.0.1")
    tls = {"cert_file": cert_file, "key_file": key_file, "client_ca_file": str(authority.file)}
    server = await rpc.server(tls=tls)
    assert [await probe(server), await probe(server, NAME)] == ["SERVING", "SERVING"]
    client = await rpc.client(f"ipv4:127.0.0.1:{server.rpc.health_port}", attempts=1)
    with pytest.raises(CallError) as caught:
        await client.say(b"")
    assert caught.value.reason.status == "UNIMPLEMENTED"


async def test_probes_hear_what_clients_hear(rpc: Rpc) -> None:
    """Both ways, and for each service."""
    server = await rpc.server()
    for serving, status in ((False, "NOT_SERVING"), (True, "SERVING")):
        server.rpc.set_serving(serving=serving)
        assert [await probe(server), await probe(server, NAME)] == [status, status]


@pytest.mark.parametrize(
    ("address", "tls", "told"),
    [("127.0.0.1", False, []), (EVERYWHERE, False, ["rpc.open"]), (EVERYWHERE, True, [])],
)
async def test_a_port_that_is_open_to_everybody_is_told(
    rpc: Rpc, tmp_path: Path, address: str, tls: bool, told: list[str]
) -> None:
    """With what closes it; on a loopback address nobody else comes."""
    settings: dict[str, object] = {}
    if tls:
        cert_file, key_file = Authority(tmp_path / "ca").issue("server", "127.0.0.1")
        settings = {"tls": {"cert_file": cert_file, "key_file": key_file}}
    server = await rpc.server(address=address, **settings)
    assert server.log.events == told
    assert all(fields["cure"] == "rpc.tls" for _, _, fields in server.log.lines)


async def test_a_draining_server_says_so_first(rpc: Rpc) -> None:
    """While it still answers; nothing makes it serve again."""
    server = await rpc.server(drain_delay="5m")
    client = await rpc.client(server.target)
    assert await client.say(b"x") == b"x"
    draining = asyncio.ensure_future(server.rpc.drain())
    await eventually(lambda: probed(server, "NOT_SERVING"))
    server.rpc.set_serving(serving=True)
    assert await probe(server) == "NOT_SERVING"
    async with grpc.aio.insecure_channel(server.address) as channel:
        assert await channel.unary_unary(path("Say"))(b"x", timeout=10) == b"x"
    draining.cancel()


async def probed(server: Server, status: str) -> bool:
    """Whether a probe sees this."""
    return await probe(server) == status


async def test_a_service_that_is_not_there(rpc: Rpc) -> None:
    """Health answers NOT_FOUND, as its protocol says, and the call is counted so."""
    server = await rpc.server()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await eventually(lambda: server.handled == {("/grpc.health.v1.Health/Check", "NOT_FOUND"): 1})
    assert not server.log.lines


async def listed(server: Server) -> set[str]:
    """The services that a tool such as grpcurl lists."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo(iter([request]), timeout=10)
        replies = [reply async for reply in call]
    return {service.name for reply in replies for service in reply.list_services_response.service}


async def test_reflection_lists_services(rpc: Rpc) -> None:
    """Unless it is turned off."""
    ours = {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert await listed(await rpc.server()) == ours
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(await rpc.server(reflection=False))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_what_is_no_change_wakes_nobody() -> None:
    """So that a service may say how it is as often as it looks."""
    health = Health([NAME])
    began = health._changed
    health.set(serving=True)
    assert health._changed is began
    health.set(serving=False)
    assert began.is_set()


async def test_a_watch_does_not_hold_a_drain(rpc: Rpc) -> None:
    """Whoever watches health is told, and then cut off within `drain_timeout` at most."""
    server = await rpc.server(drain_timeout="100ms")
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert STATUSES.Name((await call.read()).status) == "SERVING"
        await server.rpc.drain()
        assert STATUSES.Name((await call.read()).status) == "NOT_SERVING"


async def test_a_watcher_that_takes_nothing_holds_nobody_up(rpc: Rpc) -> None:
    """It opens no window for the answer (HTTP/2, RFC 9113, 6.9), which any prober can: others are told, and the server drains."""
    server = await rpc.server(drain_timeout="100ms")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.rpc.health_port)
    writer.write(WATCH_WITHOUT_WINDOW)
    async with asyncio.timeout(PATIENCE), grpc.aio.insecure_channel(server.address) as channel:
        await reader.readuntil(b"application/grpc")  # the head of the answer needs no window
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert STATUSES.Name((await call.read()).status) == "SERVING"
        server.rpc.set_serving(serving=False)
        assert STATUSES.Name((await call.read()).status) == "NOT_SERVING"
        await server.rpc.drain()
    writer.close()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """Return an HTTP/2 frame (RFC 9113, 4.1)."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def _field(name: bytes, value: bytes) -> bytes:
    """Return a header field as it is, not compressed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


WATCH_WITHOUT_WINDOW = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(4, 0, 0, b"\0\4" + bytes(4))  # SETTINGS_INITIAL_WINDOW_SIZE is 0
    + _frame(
        1,
        4,
        1,
        b"\x83\x86"  # :method POST, :scheme http
        + _field(b":path", b"/grpc.health.v1.Health/Watch")
        + _field(b":authority", b"probe")
        + _field(b"content-type", b"application/grpc")
        + _field(b"te", b"trailers"),
    )
    + _frame(0, 1, 1, bytes(5))  # an empty request: the server as a whole
)
