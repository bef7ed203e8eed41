"""Two real edges on a real nats-server that send their spans to a collector: what a trace looks like from outside."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.edges import SERVICES, EdgeProcess, Mesh, edge_config, mapping, native, running_mesh, token
from tests.support.nats_client import flushed
from tests.support.nats_server import NatsServer
from tests.support.otlp_collector import PATH, OtlpCollector, Received
from tests.support.raw_client import Clients, RawClient, joined
from tests.support.wait import PATIENCE, eventually
from tidewire.kernel.subjects import in_subject

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    """A collector of this test's own."""
    with OtlpCollector() as stand_in:
        yield stand_in


def tracing(collector: OtlpCollector, **changes: Any) -> dict[str, Any]:
    """Everything is traced, and sent as soon as it has ended."""
    settings = {"endpoint": collector.endpoint, "sample_ratio": 1.0, "flush_interval": "10ms", **changes}
    return {"tracing": settings, "rpc": {"enabled": True, "methods": [{"name": "*"}]}}


@pytest.fixture
def mesh_with(tmp_path: Path, collector: OtlpCollector) -> Iterator[Callable[..., Mesh]]:
    """Start a mesh with these tracing settings."""
    with ExitStack() as stack:

        def start(edges: int = 2, **changes: Any) -> Mesh:
            return stack.enter_context(running_mesh(tmp_path, tracing(collector, **changes), edges=edges))

        yield start


@asynccontextmanager
async def members(mesh: Mesh, channel: str) -> AsyncIterator[list[RawClient]]:
    """One subscriber on each edge, and what they were pushed."""
    async with AsyncExitStack() as stack:
        found = []
        for edge in mesh.edges:
            client = await joined(edge.ws_url, token(), channel)
            stack.push_async_callback(client.close)
            found.append(client)
        yield found


async def listening(client: Client, subject: str) -> asyncio.Queue[Msg]:
    """What comes on a subject from now on."""
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe(subject, cb=heard.put)
    await flushed(client)
    return heard


async def spans(collector: OtlpCollector, name: str, count: int) -> list[Received]:
    """Wait for so many spans of a name."""
    await eventually(lambda: len(collector.named(name)) >= count, message=f"{count} spans {name}")
    return collector.named(name)


async def test_a_publication_is_one_trace_over_both_edges(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector
) -> None:
    """Publish and the deliveries of both edges share a trace; the publish span is the parent, by the header on NATS."""
    mesh = mesh_with(headers="Authorization: Bearer collector\nX-Scope: mesh", service_namespace="shop")
    async with members(mesh, "live:room") as (one, _two), native(mesh) as backend:
        heard = await listening(backend, "tw.in.*.live.>")
        reply = await one.command(publish={"channel": "live:room", "data": {"n": 1}})
        assert "publish" in reply
        (publish,) = await spans(collector, "publish", 1)
        delivers = await spans(collector, "deliver", 2)
        message = await asyncio.wait_for(heard.get(), PATIENCE)
    assert message.headers is not None
    assert message.headers["traceparent"] == f"00-{publish.trace}-{publish.id}-01"
    assert (publish.kind, publish.parent, publish.node) == ("PRODUCER", "", "edge-1")
    assert {(span.kind, span.trace, span.parent) for span in delivers} == {
        ("CONSUMER", publish.trace, publish.id)
    }
    assert {span.node for span in delivers} == {"edge-1", "edge-2"}
    assert len({span.id for span in (publish, *delivers)}) == 3
    assert publish.attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "live",
        "tidewire.code": 0,
    }
    assert {span.attributes["tidewire.subscribers"] for span in delivers} == {1}
    for span in (publish, *delivers):
        assert 0 < span.end - span.start < 5e9
        assert not span.failed
        assert publish.start <= span.start
    assert publish.resource["service.name"] == "tidewire-edge"
    assert publish.resource["service.namespace"] == "shop"
    fields = collector.requests[0]
    assert (fields["authorization"], fields["x-scope"], fields[":path"]) == ("Bearer collector", "mesh", PATH)


async def test_one_deliver_span_however_many_subscribers(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector
) -> None:
    """Subscribers are a number in the span, never spans of their own."""
    mesh = mesh_with(edges=1)
    async with members(mesh, "live:a") as (one,), members(mesh, "live:a"), members(mesh, "live:a"):
        await one.command(publish={"channel": "live:a", "data": 1})
        await spans(collector, "deliver", 1)
        await one.command(publish={"channel": "live:a", "data": 2})
        delivers = await spans(collector, "deliver", 2)
    assert [span.attributes["tidewire.subscribers"] for span in delivers] == [3, 3]


async def test_connect_and_subscribe_say_how_they_ended(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector, clients: Clients
) -> None:
    """Also where the answer is an error or a close."""
    mesh = mesh_with(edges=1)
    async with members(mesh, "live:a") as (one,):
        await one.command(subscribe={"channel": "nowhere:a"})
        intruder = await clients.open(mesh.edges[0].ws_url)
        intruder.begin(connect={"token": token(key="k" * 32)})
        await asyncio.wait_for(intruder.gone.wait(), PATIENCE)
        connects = await spans(collector, "connect", 2)
        subscribes = await spans(collector, "subscribe", 2)
    assert [(span.kind, span.attributes, span.failed) for span in connects] == [
        ("SERVER", {"tidewire.code": 0}, False),
        ("SERVER", {"tidewire.code": 3500, "error.type": "3500"}, True),
    ]
    assert [span.attributes["tidewire.code"] for span in subscribes] == [0, 102]
    assert all(span.end - span.start < 5e9 for span in (*connects, *subscribes))


async def test_a_responder_can_continue_the_trace_of_a_call(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector
) -> None:
    """The request carries the context of the rpc span."""
    mesh = mesh_with(edges=1)
    async with members(mesh, "live:a") as (one,), native(mesh) as backend:
        heard: list[Msg] = []

        async def answer(message: Msg) -> None:
            heard.append(message)
            await message.respond(b"7")

        await backend.subscribe("tw.rpc.sum", cb=answer)
        await flushed(backend)
        assert (await one.command(rpc={"method": "sum", "data": 1}))["rpc"] == {"data": 7}
        assert (await one.command(rpc={"method": "none", "data": 1}))["error"]["code"] == 104
        good, bad = await spans(collector, "rpc", 2)
    assert heard[0].headers is not None
    assert heard[0].headers["traceparent"] == f"00-{good.trace}-{good.id}-01"
    assert (good.kind, good.attributes["rpc.method"], good.failed) == ("CLIENT", "sum", False)
    assert (bad.attributes["error.type"], bad.failed) == ("104", True)


async def test_what_is_not_sampled_leaves_nothing(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector
) -> None:
    """No header on NATS, no span on any edge."""
    mesh = mesh_with(sample_ratio=0.0)
    async with members(mesh, "live:a") as (one, _), native(mesh) as backend:
        heard = await listening(backend, "tw.in.*.live.>")
        await one.command(publish={"channel": "live:a", "data": 1})
        message = await asyncio.wait_for(heard.get(), PATIENCE)
        assert message.headers is not None
        assert "traceparent" not in message.headers
        # A trace that a backend began is the proof that spans would have come, had there been any.
        await backend.publish(_in("live:a"), b"2", headers={"traceparent": SAMPLED})
        await spans(collector, "deliver", 2)
    assert {span.trace for span in collector.spans} == {TRACE}


async def test_a_backends_trace_is_continued_with_its_state(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector
) -> None:
    """Headers are read in Go's spelling, too."""
    mesh = mesh_with(edges=1, sample_ratio=0.0)
    async with members(mesh, "live:a"), native(mesh) as backend:
        headers = {"Traceparent": SAMPLED, "Tracestate": "shop=t61rcWkgMzE"}
        await backend.publish(_in("live:a"), b"1", headers=headers)
        (span,) = await spans(collector, "deliver", 1)
    assert (span.trace, span.parent, span.state) == (TRACE, PARENT, "shop=t61rcWkgMzE")


async def test_forged_contexts_are_ignored_when_malformed_and_bounded_when_many(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector, clients: Clients
) -> None:
    """Attack: whoever may publish sets the flag as he likes."""
    mesh = mesh_with(edges=1, sample_ratio=1.0, max_spans_per_second=20)
    flood = 2000
    pushed: list[bytes] = []
    client = await clients.join(mesh.edges[0].ws_url, token(), "live:a", on_push=pushed.append)
    async with native(mesh) as backend:
        for forged in (
            f"00-{'0' * 32}-{PARENT}-01",
            SAMPLED[:-1],
            f"ff{SAMPLED[2:]}",
            f"{SAMPLED}-x",
            "x" * 9000,
        ):
            await backend.publish(_in("live:a"), b"1", headers={"traceparent": forged})
        for number in range(flood):
            await backend.publish(
                _in("live:a"), b"1", headers={"traceparent": f"00-{number + 1:032x}-{PARENT}-01"}
            )
        await eventually(lambda: sum(line.count(b'"pub"') for line in pushed) >= flood + 5)
        limited = await mesh.total("tidewire_trace_spans_total", outcome="rate_limited")
        # Whoever floods takes nothing from the edge's own traces.
        await client.command(publish={"channel": "live:a", "data": "ours"})
        await spans(collector, "publish", 1)
    delivers = len(collector.named("deliver"))
    assert 20 <= delivers < flood / 2
    assert limited > flood / 2
    assert all(int(span.trace, 16) for span in collector.spans)


async def test_without_a_collector_the_edge_works_on_and_counts_what_is_lost(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector
) -> None:
    """A collector that hangs, one that refuses, and then one that is back."""
    collector.hold()
    mesh = mesh_with(edges=1, queue_size=4, batch_size=2, export_timeout="200ms")
    async with members(mesh, "live:a") as (one,):
        burst = (one.command(publish={"channel": "live:a", "data": number}) for number in range(40))
        assert all("publish" in reply for reply in await asyncio.gather(*burst))
        await eventually(lambda: _some(mesh, "failed"))
        assert await mesh.total("tidewire_trace_spans_total", outcome="queue_full")
        assert (await mesh.edges[0].ready()).status == 200
        collector.release()
        collector.status = 503
        before = await mesh.total("tidewire_trace_spans_total", outcome="failed")
        await one.command(publish={"channel": "live:a", "data": 0})
        await eventually(lambda: _more(mesh, "failed", before))
        collector.status = 200
        await eventually(lambda: _published_and_exported(mesh, one))
    assert len(mesh.edges[0].logged("tracing.export_failed")) == 1
    assert not mesh.edges[0].logged("library.log")


async def test_the_last_spans_are_sent_at_the_end(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector
) -> None:
    """What waits for its batch leaves with the process."""
    mesh = mesh_with(edges=1, flush_interval="1m")
    async with members(mesh, "live:a") as (one,):
        await one.command(publish={"channel": "live:a", "data": 1})
        assert collector.spans == []
    mesh.edges[0].terminate()
    assert await mesh.edges[0].exit_code() == 0
    assert {span.name for span in collector.spans} == {"connect", "subscribe", "publish", "deliver"}


async def test_a_collector_that_hangs_does_not_hold_up_the_end(
    mesh_with: Callable[..., Mesh], collector: OtlpCollector
) -> None:
    """`flush_timeout` bounds the wait, and the log tells what was lost."""
    mesh = mesh_with(edges=1, flush_interval="1m", flush_timeout="100ms", export_timeout="1m")
    async with members(mesh, "live:a"):
        pass
    collector.hold()
    mesh.edges[0].terminate()
    assert await mesh.edges[0].exit_code() == 0
    assert mesh.edges[0].logged("tracing.flush_incomplete")[0]["lost"] == 2


def test_without_an_endpoint_opentelemetry_is_not_imported(tmp_path: Path) -> None:
    """Neither it nor its HTTP client: memory and start belong to those who trace."""
    program = (
        "import sys; from tidewire.edge.app import Edge; from tidewire.platform import logs; import tests.fakes.edge as fakes\n"
        "Edge(fakes.edge_config(**CHANGES), logs.configure('error', 'json'), lambda: None)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'opentelemetry', 'requests', 'urllib3'}))"
    )
    root = str(SERVICES.parent)

    def loaded(changes: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", f"CHANGES = {changes}\n{program}"],
            check=True,
            capture_output=True,
            text=True,
            cwd=root,
            env={"PYTHONPATH": f"{SERVICES}:{root}"},
        ).stdout.strip()

    assert loaded("{}") == "[]"
    on = loaded("{'tracing': {'endpoint': 'http://127.0.0.1:1/v1/traces'}}")
    assert on == "['opentelemetry', 'requests', 'urllib3']"


def test_a_ca_file_that_is_missing_is_one_line(tmp_path: Path, nats_server: NatsServer) -> None:
    """Told at the start, not with the first export."""
    changes = {"tracing": {"endpoint": "https://127.0.0.1:1/v1/traces", "ca_file": "nowhere.pem"}}
    nats_server.restart(mapping())
    edge = EdgeProcess(tmp_path / "edge", edge_config(nats_server.url, changes))
    try:
        with pytest.raises(AssertionError):
            edge.start()
    finally:
        edge.kill()
    (line,) = edge.logged("process.refused")
    assert re.fullmatch(r"tracing\.ca_file cannot be used \(.*No such file.*\)", line["problem"])


def _in(channel: str) -> str:
    return in_subject(channel, 16).decode()


async def _some(mesh: Mesh, outcome: str) -> bool:
    return await _more(mesh, outcome, 0)


async def _more(mesh: Mesh, outcome: str, than: float) -> bool:
    return await mesh.total("tidewire_trace_spans_total", outcome=outcome) > than


async def _published_and_exported(mesh: Mesh, client: RawClient) -> bool:
    await client.command(publish={"channel": "live:a", "data": 1})
    return await _some(mesh, "exported")
