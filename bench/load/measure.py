"""Carrying out stands and rows: servers side by side, runs alternated."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bench.load.machine import cpu_seconds, place, private_bytes, wait_settled
from bench.load.rows import CONNECTS, MEMORY_FROM, MEMORY_TO, Row, Stand
from bench.load.servers import PREFIX, Server, Target, Tools
from bench.load.tools import CONNECTIONS_PER_PROCESS, Answer, Fleet, Generator

MEMORY_SETTLES = 2.0
"""Seconds after which an idle server's memory is read."""


class Plan(msgspec.Struct, frozen=True):
    """How it is measured. `server_cpu` and `load_cpu` are the processors of server and generators, None: any."""

    tools: Tools
    runs: int
    seconds: float
    warmup: float
    factor: int
    server_cpu: int | None
    load_cpu: int | None
    nice: int


class Measurement(msgspec.Struct, frozen=True):
    """One run: what was counted in how much CPU, and all that the generator said of it."""

    count: float
    server_cpu: float
    broker_cpu: float
    load_cpu: float
    said: Answer

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
        names = ("failed", "unanswered", "undelivered", "skipped", "repeated", "stale", "errors", "closed")
        return {name: found for name in names if (found := self.said.get(name))}


Results = dict[str, list[Measurement]]


class _Meter:
    """CPU of the server, its brokers and the generators between two moments."""

    def __init__(self, target: Target, fleet: Fleet) -> None:
        self._groups = ([target.pid], target.brokers, [generator.pid for generator in fleet.generators])
        self._before = self._used()
        self.spent = [0.0, 0.0, 0.0]

    def on_stage(self, stage: str) -> None:
        """Begin at `measuring`, end at `measured`."""
        now = self._used()
        self.spent = [after - before for after, before in zip(now, self._before, strict=True)]
        if stage == "measuring":
            self._before = now

    def measurement(self, count: float, said: Answer) -> Measurement:
        """Return what was measured."""
        server, broker, load = self.spent
        return Measurement(count, server, broker, load, said)

    def _used(self) -> list[float]:
        return [sum(map(cpu_seconds, group)) for group in self._groups]


@contextlib.contextmanager
def _stand(name: str, server: Server, plan: Plan, connections: int) -> Iterator[tuple[Target, Fleet]]:
    """Start a server and the generators that so many connections need."""
    folder = plan.tools.folder / f"{name}-{time.monotonic_ns()}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(server(msgspec.structs.replace(plan.tools, folder=folder)))
        program = plan.tools.programs / "loadgen"
        fleet = Fleet(
            [
                stack.enter_context(Generator(program, target.port, target.protocol, target.tokens))
                for _ in range(0, connections, CONNECTIONS_PER_PROCESS)
            ]
        )
        place(target.pid, plan.server_cpu, plan.nice)
        for broker in target.brokers:
            place(broker, None, plan.nice)
        fleet.place(plan.load_cpu, plan.nice)
        yield target, fleet


def _complete(answer: Answer) -> Answer:
    if answer["failed"]:
        raise RuntimeError(f"the server did not take every connection: {answer}")
    return answer


def _alternated(names: Mapping[str, Any], runs: int) -> Iterator[str]:
    """Yield each name once a run, another one first each time."""
    order = list(names)
    for _ in range(runs):
        yield from order
        order.append(order.pop(0))


def measure_stand(stand: Stand, servers: Mapping[str, Server], plan: Plan) -> dict[str, Results]:
    """Return what each row gave with each server."""
    with contextlib.ExitStack() as stack:
        pairs: dict[str, tuple[Target, Fleet]] = {}
        for name, server in servers.items():
            pairs[name] = stack.enter_context(_stand(name, server, plan, stand.connections))
            _complete(pairs[name][1].connect(stand.connections))
            if stand.channels:
                _complete(pairs[name][1].subscribe(stand.channels, PREFIX))
        return {row.name: _measure_row(row, stand, pairs, plan) for row in stand.rows}


def _measure_row(row: Row, stand: Stand, pairs: Mapping[str, tuple[Target, Fleet]], plan: Plan) -> Results:
    results: Results = {name: [] for name in pairs}
    order = {**stand.order(row), "seconds": plan.seconds, "warmup": plan.warmup}
    for name in _alternated(pairs, plan.runs):
        target, fleet = pairs[name]
        wait_settled([target.pid])
        meter = _Meter(target, fleet)
        said = fleet.run(order, meter.on_stage)
        results[name].append(meter.measurement(said[row.counts], said))
    return results


def measure_connects(servers: Mapping[str, Server], bare: str, plan: Plan) -> Results:
    """Return handshakes, with connect command and token but for the server named `bare`."""
    count = CONNECTS // plan.factor
    results: Results = {name: [] for name in servers}
    with contextlib.ExitStack() as stack:
        pairs = {
            name: stack.enter_context(_stand(name, server, plan, count)) for name, server in servers.items()
        }
        for name in _alternated(pairs, plan.runs):
            target, fleet = pairs[name]
            wait_settled([target.pid])
            meter = _Meter(target, fleet)
            meter.on_stage("measuring")
            said = _complete(fleet.connect(count, bare=name == bare))
            meter.on_stage("measured")
            results[name].append(meter.measurement(said["done"], said))
            fleet.close()
    return results


def measure_memory(servers: Mapping[str, Server], plan: Plan) -> dict[str, list[float]]:
    """Return bytes of private memory per idle connection, each time of a fresh server."""
    found: dict[str, list[float]] = {name: [] for name in servers}
    for name in _alternated(servers, plan.runs):
        with _stand(name, servers[name], plan, MEMORY_TO // plan.factor) as (target, fleet):
            sizes = []
            for count in (MEMORY_FROM // plan.factor, MEMORY_TO // plan.factor):
                _complete(fleet.connect(count))
                _complete(fleet.subscribe(1, PREFIX))
                wait_settled([target.pid])
                time.sleep(MEMORY_SETTLES)
                sizes.append(private_bytes(target.pid))
        found[name].append((sizes[1] - sizes[0]) / ((MEMORY_TO - MEMORY_FROM) // plan.factor))
    return found
