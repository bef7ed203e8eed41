"""What tracing costs: CPU per publish command, from the client's frame to a subscriber's, with and without spans.

One edge's core (session, dispatcher, NATS adapter, hub) on a NATS link that loops back, so that nothing else is measured;
the collector is a process of its own. Variants are alternated. `loop` is the edge's own thread, `all` counts the thread
that encodes and sends spans, too, until the last is sent. Prints microseconds per command: medians of the rounds, and the
median of what a round cost more than its `off`, which the machine's changing speed moves less.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection as Pipe
from typing import cast

import structlog

from tests.fakes.clock import ManualClock
from tests.fakes.edge import FakeKeys, ManualTimer, at_once, edge_config, token
from tidewire.edge.adapters.nats_broker import NatsBroker
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.framing import WEBSOCKET_JSON, Framing
from tidewire.edge.hub import Hub
from tidewire.edge.pacer import Pacer
from tidewire.edge.rules import Rules
from tidewire.edge.telemetry import Telemetry
from tidewire.edge.timers import Timers, Timing
from tidewire.edge.tracing import EdgeTracer
from tidewire.edge.untraced import OFF
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.errors import Disconnect
from tidewire.kernel.ids import ConnectionId
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkState
from tidewire.platform.tracing import Tracer, create_tracer

COMMANDS = 2_000
ROUNDS = 41
LONGEST_FLUSH = 60.0
VARIANTS: dict[str, float | None] = {"off": None, "ratio 0": 0.0, "ratio 0.01": 0.01, "ratio 1": 1.0}


class LoopbackLink:
    """The link's methods that a publication needs: what is published comes back at once."""

    state = LinkState.CONNECTED

    def __init__(self) -> None:
        self._callbacks: dict[bytes, Callable[[bytes, bytes, bytes, bytes], None]] = {}
        self.turn = 1
        """Each publication has a turn of its own."""

    def subscribe(self, subject: bytes, callback: Callable[[bytes, bytes, bytes, bytes], None]) -> int:
        """See NatsLink."""
        self._callbacks[subject] = callback
        return 1

    def publish_all(self, subject: bytes, payloads: Sequence[bytes], header: bytes) -> None:
        """See NatsLink."""
        for payload in payloads:
            self._callbacks[subject](subject, b"", header, payload)

    def barrier(self, callback: Callable[[bool], None], _timeout: float) -> None:
        """See NatsLink."""
        self._passed = callback

    def pass_on(self) -> None:
        """Let the barrier pass, as the PONG does when the turn is over."""
        self.turn += 1
        self._passed(True)


class NullTransport:
    """Takes everything."""

    framing: Framing = WEBSOCKET_JSON
    congested = False

    def send(self, _frame: bytes) -> bool:
        """See ports.Transport."""
        return True

    def authenticated(self) -> None:
        """See ports.Transport."""

    def close(self, disconnect: Disconnect) -> None:
        """See ports.Transport."""
        raise AssertionError(disconnect)


class Bench:
    """The core of an edge with one client, subscribed to the channel that it publishes to."""

    def __init__(self, tracer: Tracer | None) -> None:
        clock = SystemClock()
        self.tracer = tracer
        spans = EdgeTracer(tracer, clock) if tracer is not None else OFF
        telemetry = Telemetry(structlog.get_logger(), clock.monotonic)
        self.link = LoopbackLink()
        link = cast("NatsLink", self.link)
        broker = NatsBroker(link, 16, 3.5, 3.0, clock, telemetry, lambda done, error: done(error), spans)
        self.hub = Hub(broker, telemetry, clock, 10, ManualTimer(ManualClock()))
        rules = Rules(edge_config(), clock, "bench")
        timing = Timing(25, 10, 10)
        timers = Timers(timing, lambda: 0.5)
        pacer = Pacer(clock, at_once)
        self.dispatcher = Dispatcher(rules, self.hub, broker, FakeKeys(), telemetry, timers, pacer, spans)
        self.client = self.dispatcher.opened(ConnectionId("c"), NullTransport(), json=True)
        self.dispatcher.received(self.client, [b'{"id":1,"connect":{"token":"%b"}}' % token().encode()])
        self.dispatcher.received(self.client, [b'{"id":2,"subscribe":{"channel":"chat:room"}}'])
        self.link.pass_on()

    def run(self) -> tuple[float, float]:
        """Return CPU microseconds per command: of this thread, and of the process until the last span is sent."""
        frame = b'{"id":3,"publish":{"channel":"chat:room","data":{"text":"Hello, everybody in this room"}}}'
        all_began, loop_began = time.process_time(), time.thread_time()
        for _ in range(COMMANDS):
            self.dispatcher.received(self.client, [frame])
            self.hub.flush()
            self.link.pass_on()
        loop = time.thread_time() - loop_began
        self._flushed()
        return loop / COMMANDS * 1e6, (time.process_time() - all_began) / COMMANDS * 1e6

    def _flushed(self) -> None:
        if self.tracer is None:
            return
        end = time.monotonic() + LONGEST_FLUSH
        while self.tracer.waiting:
            if time.monotonic() > end:
                raise TimeoutError("the collector does not take the spans")
            time.sleep(0.05)


class Collector(BaseHTTPRequestHandler):
    """Takes every export."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read and forget."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def collect(pipe: Pipe) -> None:
    """Serve until the process is ended."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    pipe.send(server.server_port)
    server.serve_forever()


@contextlib.contextmanager
def collector() -> Iterator[int]:
    """Run a collector and give its port."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=collect, args=(there,), daemon=True)
    process.start()
    yield here.recv()
    process.terminate()
    process.join()


def bench(port: int, ratio: float | None) -> Bench:
    """Return a core that traces so much of what it is told."""
    tracing = {
        "endpoint": "" if ratio is None else f"http://127.0.0.1:{port}/v1/traces",
        "sample_ratio": ratio or 0.0,
        "max_spans_per_second": 100_000,
        "queue_size": 65_536,
        "flush_interval": "50ms",
    }
    config = edge_config(tracing=tracing).tracing
    return Bench(create_tracer(config, "bench", SystemClock(), structlog.get_logger()))


def cost_of_importing() -> tuple[float, float]:
    """Return the seconds and the MiB (resident) that the libraries take in a fresh process, beside an edge's own."""
    script = (
        "import resource, time, tidewire.edge.app\n"
        "size = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before, began = size(), time.perf_counter()\n"
        "import tidewire.platform.otlp\n"
        "print(time.perf_counter() - began, (size() - before) / 1024)"
    )
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    seconds, size = map(float, shown.split())
    return seconds, size


def main() -> None:
    """Alternate the variants, and print a line for each."""
    seconds, size = cost_of_importing()
    print(f"import      {seconds:.2f} s, {size:.0f} MiB")
    loops: dict[str, list[float]] = {name: [] for name in VARIANTS}
    totals: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with collector() as port:
        benches = {name: bench(port, ratio) for name, ratio in VARIANTS.items()}
        for _ in range(ROUNDS):
            for name, each in benches.items():
                loop, total = each.run()
                loops[name].append(loop)
                totals[name].append(total)
    for name in VARIANTS:
        line = f"{name:10}"
        for what, results in (("loop", loops), ("all", totals)):
            more = statistics.median(
                each - off for each, off in zip(results[name], results["off"], strict=True)
            )
            line += f"  {what} {statistics.median(results[name]):6.2f} us ({more:+.2f})"
        print(line)


if __name__ == "__main__":
    main()
