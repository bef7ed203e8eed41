"""Every attack runs beside a well-behaved neighbour, which loses nothing and is not slowed down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.attacks.attack import Attack
from tests.support.attacks.frames import FRAMES
from tests.support.attacks.handshakes import HANDSHAKES
from tests.support.attacks.protocol import KEYS, PROTOCOL
from tests.support.edges import EdgeProcess, Metrics, edge_config, mapping, merged
from tests.support.nats_server import NatsServer
from tests.support.neighbour import Neighbour, Span
from tests.support.wait import eventually

BOUND = 1.0
"""Seconds: no p99 of the neighbour may be above it, on a machine however busy. The figures are printed."""
TRIES = 3
"""Of an attack, until the neighbour keeps to BOUND: the machine stands still once, an attack that slows it down does so each time."""
QUIET = 2.0
SUSTAINED = 0.5
"""Seconds: a shorter attack is repeated."""
LAG = "tidewire_event_loop_lag_seconds"
MEMORY = 128 << 20
"""Bytes that the edge may grow by at most during an attack."""
IMPATIENT = {
    "client": {
        "handshake_timeout": "3s",
        "stale_close_delay": "2s",
        "ping_interval": "2s",
        "pong_timeout": "1500ms",
        "queue_max_size": 1 << 18,
        "command_rate_limit": 100,
        "connection_rate_limit": 0,
    },
    "websocket": {"close_timeout": "500ms", "compression": True},
}


class Arena(msgspec.Struct):
    """An edge under attack and its neighbour."""

    edge: EdgeProcess
    neighbour: Neighbour
    quiet: Span | None = None


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """One for all attacks: what one of them leaves behind, the next ones meet."""
    folder = tmp_path_factory.mktemp("arena")
    with (
        NatsServer(folder / "nats", config=mapping()) as nats,
        EdgeProcess(folder, edge_config(nats.url, merged(IMPATIENT, KEYS))) as edge,
        Neighbour(folder, edge.ws_url) as neighbour,
    ):
        yield Arena(edge, neighbour)


class Peak:
    """The most memory that a process has held since `reset` (proc(5): clear_refs, VmHWM)."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")
        self._before = self._resident("VmRSS")

    @property
    def growth(self) -> int:
        """Bytes beyond what it held at the beginning."""
        return self._resident("VmHWM") - self._before

    def _resident(self, field: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@pytest.mark.parametrize("attack", [*HANDSHAKES, *FRAMES, *PROTOCOL], ids=lambda attack: attack.name)
async def test_an_attack_is_ended_and_counted_and_costs_the_neighbour_nothing(
    arena: Arena, attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each socket hears why, and the edge counts it under that name; its memory stays within bounds."""
    if arena.quiet is None:
        arena.quiet = await arena.neighbour.watch(QUIET)
    found = [await attacked(arena, attack, capsys)]
    while found[-1] >= BOUND and len(found) < TRIES:
        found.append(await attacked(arena, attack, capsys))
    assert found[-1] < BOUND, found


async def attacked(arena: Arena, attack: Attack, capsys: pytest.CaptureFixture[str]) -> float:
    """Carry out an attack, and judge all but the neighbour's p99, which is returned."""
    peak = Peak(arena.edge.pid)
    before = await arena.edge.metrics()

    async def all_counted() -> Metrics | None:
        metrics = await arena.edge.metrics()
        return metrics if attack.counted.grown(before, metrics) >= endings.total() else None

    began = time.monotonic()
    endings = await attack.run(arena.edge.port)
    while time.monotonic() < began + SUSTAINED:
        endings += await attack.run(arena.edge.port)
    ended = time.monotonic()
    assert endings.keys() == {attack.ending}, endings
    after = await eventually(all_counted, message="the edge has counted every socket")
    span = await arena.neighbour.span(began, ended)
    with capsys.disabled():
        assert arena.quiet is not None
        print(
            f"\n{attack.name:40} {endings.total():5} sockets, {ended - began:5.1f} s, p99 {span.p99 * 1e3:6.1f} ms "
            f"(quiet {arena.quiet.p99 * 1e3:.1f} ms), lag {after.largest(LAG, before):g} s, "
            f"memory +{peak.growth >> 20} MiB, {dict(endings)}",
            end="",
        )
    assert peak.growth < MEMORY
    span.checker.check()
    return span.p99
