from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

import pytest
from msgspec import Meta, field
from structlog.typing import FilteringBoundLogger

from tests.fakes.log import RecordingLog
from tests.support.http import request
from tests.support.wait import eventually
from tidewire import __version__
from tidewire.kernel.config import decode
from tidewire.platform import logs, service
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Counter, Registry
from tidewire.platform.nats_types import LinkError
from tidewire.platform.rpc_library import grpc
from tidewire.platform.rpc_server import Service
from tidewire.platform.service import ServiceProcess, Surroundings
from tidewire.platform.service_options import ProcessConfig, ServiceConfig

# isort: split
from grpc_health.v1 import health_pb2, health_pb2_grpc

NAME = "tidewire.tests.Nothing"


class Config(ProcessConfig, frozen=True, kw_only=True):
    """Of a service that does nothing."""

    service = "echo"
    section = "echo_service"

    echo_service: Annotated[ServiceConfig, Meta(description="Its own.")] = field(
        default_factory=ServiceConfig
    )


def config(drain_delay: float = 0, level: str = "info", **own: Any) -> Config:
    """On free ports."""
    rpc = {"port": 0, "health_port": 0, "drain_delay": drain_delay}
    section = {"node_name": "n1", "internal_port": 0, "rpc": rpc, **own}
    return decode(Config, {"log": {"level": level}, "echo_service": section})


class Bench:
    """A process, its core, and in `log.events` what both did, in order."""

    def __init__(self, start: Config) -> None:
        self.log = RecordingLog()
        self.config = start
        self.reason: str | None = None
        self.problem: Exception | None = None
        """What the core's start raises."""
        self.go = asyncio.Event()
        """Lets the core start."""
        self.go.set()
        self.fails = asyncio.Event()
        """Lets the core's work fail."""
        self.looks_fail = False
        self.around: Surroundings | None = None
        self.configured: list[Config] = []
        self.services = [Service(NAME, lambda _server: None)]
        log = cast("FilteringBoundLogger", self.log)
        self.process = ServiceProcess(self._create, start, log, lambda: self.config)

    def _create(self, _config: Config, around: Surroundings) -> Bench:
        self.around = around
        return self

    def register(self, registry: Registry) -> None:
        registry.add([Counter("tidewire_tests", "A metric of the core.")])

    async def start(self) -> None:
        self.log.info("core.start")
        await self.go.wait()
        if self.problem is not None:
            raise self.problem

    async def run(self) -> None:
        self.log.info("core.run")
        try:
            await self.fails.wait()
            raise ZeroDivisionError
        finally:
            self.log.info("core.run_ended")

    def started(self, **process: object) -> None:
        self.log.info("core.started", **process)

    def why_unready(self) -> str | None:
        if self.looks_fail:
            raise ZeroDivisionError
        return self.reason

    def configure(self, config: Config) -> None:
        self.configured.append(config)

    async def close(self) -> None:
        self.log.info("core.close")

    def port(self, name: str) -> int:
        """A port, as the log tells it."""
        return int(next(fields for _, event, fields in self.log.lines if event == "core.started")[name])

    async def ready(self) -> str:
        """The status and the body of /ready."""
        listener = self.process._internal
        assert listener is not None
        answer = await request(f"http://127.0.0.1:{listener.port}/ready")
        return f"{answer.status} {answer.body.decode()}"

    async def health(self, port: str = "health_port") -> bool:
        """Whether gRPC says that it serves."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port(port)}") as channel:
            asked = health_pb2.HealthCheckRequest(service=NAME)
            reply = await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20)
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


@contextlib.asynccontextmanager
async def started(start: Config) -> AsyncIterator[Bench]:
    """A process that serves, and is stopped after the test."""
    bench = Bench(start)
    try:
        await bench.process.start()
        yield bench
    finally:
        await bench.process.stop()


async def test_a_life_in_order() -> None:
    """The core begins before calls come, and lets go when none can come any more."""
    async with started(config()) as bench:
        assert bench.around is not None
        assert bench.around.node == "n1"
        level, event, process = bench.log.lines[-1]
        assert (level, event, process["version"]) == ("info", "core.started", __version__)
        assert all(process[name] for name in ("port", "health_port", "internal_port"))
        await eventually(bench.health)
        assert await bench.health("port")
        await bench.process.drain()
    begin = ["core.start", "core.run", "core.started"]
    assert bench.log.events == [*begin, "echo.drained", "core.run_ended", "core.close"]
    with pytest.raises(OSError):
        await bench.ready()


async def test_what_probes_hear() -> None:
    """Why no traffic should come, from before the core's start to the end; gRPC's clients hear the same."""
    bench = Bench(config(drain_delay=300))
    bench.go.clear()
    starting = asyncio.create_task(bench.process.start())
    await eventually(lambda: bench.process._internal)
    assert await bench.ready() == '503 {"ready":false,"reason":"starting"}'
    bench.reason = "NATS is away"
    bench.go.set()
    await starting
    assert await bench.ready() == '503 {"ready":false,"reason":"NATS is away"}'
    assert not await bench.health()
    bench.reason = None
    assert await bench.ready() == '200 {"ready":true}'
    await eventually(bench.health)
    bench.reason = "NATS is away"
    await eventually(lambda: _not(bench))
    bench.reason = None
    await eventually(bench.health)
    draining = asyncio.create_task(bench.process.drain())
    await eventually(lambda: _not(bench))
    assert await bench.ready() == '503 {"ready":false,"reason":"draining"}'
    draining.cancel()
    await bench.process.stop()


async def _not(bench: Bench) -> bool:
    return not await bench.health()


async def test_who_watches_by_grpc_hears_no_later_than_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends calls to a process that is ready is not turned away by its health."""
    monkeypatch.setattr(service, "SERVE_CHECK", 300)
    async with started(config()) as bench:
        await eventually(bench.health)
        for reason in ("NATS is away", None):
            bench.reason = reason
            assert ("true" in await bench.ready()) is (reason is None)
            assert await bench.health() is (reason is None)


async def test_everything_is_measured_on_one_page() -> None:
    """The core's own metrics, those of calls and of reloads."""
    async with started(config()) as bench:
        answer = await request(f"http://127.0.0.1:{bench.port('internal_port')}/metrics")
        text = answer.body.decode()
        for name in ("tests_total", "rpc_server_in_flight", "config_reloads_total"):
            assert f"\ntidewire_{name}" in text
        assert "tidewire_trace_spans" not in text


async def test_spans_are_counted_and_those_that_wait_sent_at_the_end(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a collector is configured; a file that cannot be used keeps a process from its start."""
    traced = decode(
        Config,
        {
            "tracing": {"endpoint": "http://127.0.0.1:9/v1/traces", "flush_timeout": "1s"},
            "echo_service": {"internal_port": 0, "rpc": {"port": 0, "health_port": 0}},
        },
    )
    async with started(traced) as bench:
        answer = await request(f"http://127.0.0.1:{bench.port('internal_port')}/metrics")
        assert b'\ntidewire_trace_spans_total{outcome="exported"} 0' in answer.body
        tracer = bench.process._tracing
        assert tracer is not None
        close = tracer._exporter.close
        monkeypatch.setattr(tracer._exporter, "close", lambda timeout: close(timeout) + 7)
    assert bench.log.lines[-2:] == [
        ("info", "core.close", {}),
        ("warning", "tracing.flush_incomplete", {"lost": 7}),
    ]
    https = {"endpoint": "https://127.0.0.1:9/v1/traces", "ca_file": str(tmp_path / "none")}
    with pytest.raises(StartError, match=r"tracing\.ca_file cannot be used"):
        Bench(decode(Config, {"tracing": https}))


@pytest.mark.parametrize(
    "problem", [LinkError("nothing answers at nats://x"), StartError("nothing answers at nats://x")]
)
async def test_what_the_core_lacks_keeps_a_process_from_its_start(problem: Exception) -> None:
    """Then it never worked, and is let go all the same."""
    bench = Bench(config())
    bench.problem = problem
    with pytest.raises(StartError, match=r"^nothing answers at nats://x$"):
        await bench.process.start()
    await bench.process.stop()
    assert bench.log.events == ["core.start", "core.close"]


async def test_a_port_that_is_taken_is_told_with_its_setting() -> None:
    """Before the core begins."""
    async with started(config()) as first:
        second = Bench(config(internal_port=first.port("internal_port")))
        with pytest.raises(StartError, match=r"\(echo_service\.internal_port\)"):
            await second.process.start()
        await second.process.stop()
        assert second.log.events == ["core.close"]


async def test_a_reload_reaches_core_and_log_and_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that drains only says that it takes none."""
    levels: list[str] = []
    read: list[str] = []
    monkeypatch.setattr(logs, "set_level", levels.append)
    async with started(config()) as bench:

        async def reload() -> None:
            read.append("certificates")

        monkeypatch.setattr(bench.process._rpc, "reload", reload)
        bench.config = config(level="debug")
        bench.process.reload()
        await eventually(lambda: "config.reloaded" in bench.log.events)
        assert (bench.configured, levels, read) == ([bench.config], ["debug"], ["certificates"])
        await bench.process.drain()
        bench.config = config(level="error")
        bench.process.reload()
        await eventually(lambda: "config.reload_ignored" in bench.log.events)
        assert bench.log.lines[-1][2] == {"reason": "draining"}
        assert levels == ["debug"]


@pytest.mark.parametrize("after", ["the start", "a while"])
async def test_work_that_fails_is_told_to_who_runs_the_process(after: str) -> None:
    """Who drains it then, and starts another; until then it answers."""
    bench = Bench(config())
    if after == "the start":
        bench.fails.set()
    await bench.process.start()
    try:
        working = asyncio.create_task(bench.process.work())
        bench.fails.set()
        with pytest.raises(ZeroDivisionError):
            await working
        await bench.process.drain()
    finally:
        await bench.process.stop()
    assert [event for event in bench.log.events if event != "core.started"] == [
        *("core.start", "core.run", "core.run_ended"),
        *("echo.drained", "core.close"),
    ]


async def test_work_goes_on_through_the_drain() -> None:
    """What is cancelled before it only waits."""
    async with started(config()) as bench:
        working = asyncio.create_task(bench.process.work())
        await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        await bench.process.drain()
    assert bench.log.events[-3:] == ["echo.drained", "core.run_ended", "core.close"]


async def test_a_look_that_fails_ends_the_work() -> None:
    """Who is told by gRPC whether it can serve would hear the last word for ever."""
    async with started(config()) as bench:
        bench.looks_fail = True
        with pytest.raises(ZeroDivisionError):
            await bench.process.work()
