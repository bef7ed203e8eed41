"""Carrying out stands and rows: servers side by side, runs alternated."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

import msgspec

from bench.load.machine import bind, cpu_seconds, loop_seconds, private_bytes, wait_settled
from bench.load.rows import Row, Size, Stand
from bench.load.servers import PREFIX, Server, Target, Tools
from bench.load.tools import CONNECTIONS_PER_PROCESS, Answer, Fleet, Generator

MEMORY_SETTLES = 1.0
"""Seconds after which an idle server's memory is read."""
FAULTS = ("failed", "unanswered", "undelivered", "skipped", "repeated", "stale", "errors", "closed")
"""What a generator says of what must not happen."""


class Plan(msgspec.Struct, frozen=True):
    """How it is measured. `server_cpu` and `load_cpu` are the processors of server and generators, None: any."""

    tools: Tools
    runs: int
    seconds: float
    warmup: float
    factor: int
    server_cpu: int | None
    load_cpu: int | None


class Measurement(msgspec.Struct, frozen=True):
    """One run: what was counted in how much CPU, and all that the generator said of it."""

    count: float
    server_cpu: float
    broker_cpu: float
    load_cpu: float
    said: Answer
    service_cpu: float = 0
    loop: float = 0
    """CPU seconds of `machine.loop_seconds`, the mean of before and after the run; 0 where that was not measured."""

    @property
    def per_server_cpu(self) -> float:
        """The count per CPU-second of the server."""
        return self.count / max(self.server_cpu, 0.01)

    @property
    def per_cpu(self) -> float:
        """The count per CPU-second of the server and its brokers."""
        return self.count / max(self.server_cpu + self.broker_cpu, 0.01)

    @property
    def faults(self) -> dict[str, int]:
        """What must not happen in a run, by name."""
        return {name: found for name in FAULTS if (found := self.said.get(name))}

    @property
    def spoilt(self) -> bool:
        """Whether the server was far behind its load at the end, or ended connections."""
        return not self.faults.keys().isdisjoint({"undelivered", "unanswered", "closed"})


Results = dict[str, list[Measurement]]


class _Meter:
    """CPU of the server, its brokers, the generators and its services between two moments."""

    def __init__(self, side: Side) -> None:
        target = side.target
        self._groups = ([target.pid], target.brokers, side.fleet.pids, target.services)
        self._before = self._used()
        self._spent = [0.0] * len(self._groups)

    def on_stage(self, stage: str) -> None:
        """Begin at `measuring`, end at `measured`."""
        now = self._used()
        self._spent = [after - before for after, before in zip(now, self._before, strict=True)]
        if stage == "measuring":
            self._before = now

    def measurement(self, count: float, said: Answer) -> Measurement:
        """Return what was measured."""
        server, broker, load, service = self._spent
        return Measurement(count, server, broker, load, said, service)

    def _used(self) -> list[float]:
        return [sum(map(cpu_seconds, group)) for group in self._groups]


class Side:
    """A server and the generators of so many connections; both run within the context."""

    def __init__(self, name: str, server: Server, plan: Plan, connections: int) -> None:
        self._name = name
        self._server = server
        self._plan = plan
        self._connections = connections
        self._running = contextlib.ExitStack()
        self.target: Target
        self.fleet: Fleet

    def __enter__(self) -> Self:
        plan = self._plan
        folder = plan.tools.folder / f"{self._name.replace(' ', '-')}-{time.monotonic_ns()}"
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            self.target = stack.enter_context(
                self._server(msgspec.structs.replace(plan.tools, folder=folder))
            )
            processes = range(0, self._connections, CONNECTIONS_PER_PROCESS)
            self.fleet = Fleet([stack.enter_context(self._generator()) for _ in processes])
            bind(self.target.pid, plan.server_cpu)
            for pid in self.fleet.pids:
                bind(pid, plan.load_cpu)
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def _generator(self) -> Generator:
        program, target = self._plan.tools.programs / "loadgen", self.target
        return Generator(program, target.port, target.protocol, target.tokens, target.ca)

    def renew(self) -> None:
        """Go on with a fresh server and fresh generators, which have no connections."""
        self._running.close()
        self.__enter__()

    def join(self, connections: int, channels: int) -> None:
        """Have so many connections; with channels they subscribe.

        Raises:
            RuntimeError: The server did not take them all.
        """
        _complete(self.fleet.connect(connections))
        if channels:
            _complete(self.fleet.subscribe(channels, PREFIX))

    def run(self, order: Mapping[str, float | str], counts: str) -> Measurement:
        """Carry out a run once the server is idle."""
        wait_settled([self.target.pid])
        before = loop_seconds()
        meter = _Meter(self)
        said = self.fleet.run(order, meter.on_stage)
        found = meter.measurement(said[counts], said)
        return msgspec.structs.replace(found, loop=(before + loop_seconds()) / 2)

    def connect(self, count: int, *, bare: bool) -> Measurement:
        """Measure so many handshakes, and end the connections."""
        wait_settled([self.target.pid])
        meter = _Meter(self)
        said = _complete(self.fleet.connect(count, bare=bare))
        meter.on_stage("measured")
        self.fleet.close()
        return meter.measurement(said["done"], said)

    def idle_memory(self, connections: int) -> int:
        """Return the server's private memory with so many connections to one channel."""
        self.join(connections, 1)
        wait_settled([self.target.pid])
        time.sleep(MEMORY_SETTLES)
        return private_bytes(self.target.pid)


def _complete(answer: Answer) -> Answer:
    if answer["failed"]:
        raise RuntimeError(f"the server did not take every connection: {answer}")
    return answer


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def alternated(names: Iterable[str], runs: int) -> Iterator[str]:
    """Yield each name once a run, another one first each time."""
    order = list(names)
    for _ in range(runs):
        yield from order
        order.append(order.pop(0))


def measure_stand(stand: Stand, servers: Mapping[str, Server], plan: Plan) -> dict[str, Results]:
    """Return what each row gave with each of the servers, unless the stand has its own."""
    with contextlib.ExitStack() as stack:
        sides = {
            name: stack.enter_context(Side(name, server, plan, stand.connections))
            for name, server in {**(stand.servers or servers), **stand.further}.items()
        }
        for side in sides.values():
            side.join(stand.connections, stand.channels)
        return {row.name: measure_row(row, stand, sides, plan) for row in stand.rows}


def measure_row(row: Row, stand: Stand, sides: Mapping[str, Side], plan: Plan) -> Results:
    """Return the runs of one row. A server that spoils a run gets no further one: it would only show the same, slowly."""
    results: Results = {name: [] for name in sides}
    order = {**stand.order(row), "seconds": plan.seconds, "warmup": plan.warmup}
    for name in alternated(sides, plan.runs):
        if any(run.spoilt for run in results[name]):
            continue
        measurement = sides[name].run(order, row.counts)
        results[name].append(measurement)
        _progress(
            f"{stand.name}, {row.name}: {name}, run {len(results[name])}: {measurement.faults or 'good'}"
        )
        if measurement.spoilt:
            sides[name].renew()
            sides[name].join(stand.connections, stand.channels)
    return results


def measure_connects(
    servers: Mapping[str, Server], plan: Plan, size: Size, *, bare: str | None = None
) -> Results:
    """Return handshakes, with connect command and token but for the server named `bare`."""
    count = size.connects
    results: Results = {name: [] for name in servers}
    with contextlib.ExitStack() as stack:
        sides = {
            name: stack.enter_context(Side(name, server, plan, count)) for name, server in servers.items()
        }
        for name in alternated(sides, plan.runs):
            results[name].append(sides[name].connect(count, bare=name == bare))
            _progress(f"connect: {name}, run {len(results[name])}")
    return results


def measure_memory(servers: Mapping[str, Server], plan: Plan, size: Size) -> dict[str, list[float]]:
    """Return bytes of private memory per idle connection, each time of a fresh server."""
    found: dict[str, list[float]] = {name: [] for name in servers}
    few, many = size.memory_from, size.memory_to
    for name in alternated(servers, plan.runs):
        with Side(name, servers[name], plan, many) as side:
            grown = -side.idle_memory(few) + side.idle_memory(many)
        found[name].append(grown / (many - few))
        _progress(f"memory: {name}, run {len(found[name])}")
    return found
