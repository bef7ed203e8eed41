"""Several edges on one public port: what each of them is told, and how their supervisor is put together."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewire import __version__
from tidewire.cli.options import config_failure, worker_count
from tidewire.edge.app import Edge
from tidewire.edge.seat import Seat
from tidewire.kernel.config import ConfigError
from tidewire.kernel.config_share import share
from tidewire.platform import lifecycle, logs
from tidewire.platform.board import Board
from tidewire.platform.http import bind, port_of
from tidewire.platform.overview import FRONT, Overview, socket_of
from tidewire.platform.supervisor import Supervisor, Work

if TYPE_CHECKING:
    import socket

    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.config import EdgeConfig, HttpConfig

STOP_MARGIN = 5.0
"""Seconds that a worker may take beyond all that its end waits for, before it is killed."""


def run_workers(config: EdgeConfig, load: Callable[[], EdgeConfig]) -> int:
    """Run as many edges as `config` asks for until a signal ends them, and return the exit code. Raises ConfigFailure."""
    if sys.platform != "linux":
        raise config_failure("workers", "more than 1 needs Linux, which spreads clients over them")
    return Fleet(config, load).run()


class Fleet:
    """The edges of one configuration. Numbers of workers begin with 1, and so do their names and their places on the board."""

    def __init__(self, config: EdgeConfig, load: Callable[[], EdgeConfig]) -> None:
        self._config = config
        self._load = load
        self._count = worker_count(config)
        self._name = lifecycle.node_name(config.node_name)
        self._board = Board(1 + self._count)
        self._port = 0
        self._folder = Path()

    def run(self) -> int:
        """Take the public port, and supervise."""
        log = self._log(self._name)
        try:
            reserved = reserve(self._config.http)
        except OSError as error:
            http = self._config.http
            problem = f"cannot listen on {http.address}:{http.port} (http.port): {error.strerror or error}"
            log.error("process.refused", problem=problem)  # noqa: TRY400 - one clear line, no stack
            return lifecycle.EXIT_UNAVAILABLE
        self._port = port_of(reserved)
        self._folder = Path(tempfile.mkdtemp(prefix="tidewire-"))
        try:
            return Supervisor(
                Work(FRONT, self._run_front, signal.SIGTERM),
                [Work(str(number), partial(self._run_worker, number)) for number in self._numbers],
                self._board,
                log,
                self._stop_seconds,
            ).run()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def portion(self, number: int, config: EdgeConfig) -> EdgeConfig:
        """Return what worker `number` takes of a configuration: its part of limits, a name of its own, the port that we hold."""
        http = config.http
        return msgspec.structs.replace(
            share(config, number - 1, self._count),
            node_name=f"{self._name}-{number}",
            http=msgspec.structs.replace(http, port=http.port or self._port),
        )

    @property
    def _numbers(self) -> range:
        return range(1, self._count + 1)

    def _log(self, node: str) -> FilteringBoundLogger:
        return logs.configure(self._config.log.level, self._config.log.format, service="edge", node=node)

    def _run_worker(self, number: int) -> int:
        seat = Seat(socket_of(self._folder, str(number)), partial(self.portion, number))
        log = self._log(f"{self._name}-{number}")
        return lifecycle.run(
            lambda: Edge(self._config, log, self._load, seat),
            log,
            partial(self._board.ready, number),
        )

    def _run_front(self) -> int:
        http, log = self._config.http, self._log(self._name)
        overview = Overview(
            self._folder,
            list(map(str, self._numbers)),
            self._board,
            (http.internal_address, http.internal_port),
            log,
            {"version": __version__, "port": self._port},
        )
        return lifecycle.run(lambda: overview, log, partial(self._board.ready, 0))

    def _stop_seconds(self) -> float:
        """The longest that a worker's end may take, by the configuration that we know or by what its file says now."""
        known = stop_seconds(self._config)
        try:
            return max(known, stop_seconds(self._load()))
        except ConfigError:
            return known


def stop_seconds(config: EdgeConfig) -> float:
    """Return how long an edge may take from SIGTERM to its end."""
    bounds = (
        config.drain.delay,
        config.drain.window,
        config.nats.publish_timeout,
        config.websocket.close_timeout,
        config.tracing.flush_timeout,
    )
    return sum(bounds) + STOP_MARGIN


def reserve(http: HttpConfig) -> list[socket.socket]:
    """Bind the public port for workers to share, and listen on nothing. Raises OSError, also where another edge shares it."""
    if http.port:
        for sock in bind(http.address, http.port, shared=False):
            sock.close()
    return bind(http.address, http.port, shared=True)
