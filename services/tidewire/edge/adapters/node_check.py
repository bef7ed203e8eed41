"""Proves the nats-server behind the link, at the start and after each reconnect: its size of messages, and its mapping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tidewire.edge.adapters.mapping import MAPPING_PROBLEMS, Mapping, probe
from tidewire.edge.config import HEADER_ROOM
from tidewire.platform.lifecycle import StartError
from tidewire.platform.nats_types import LinkState

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.adapters.nats_broker import NatsBroker
    from tidewire.edge.nats_telemetry import NatsTelemetry
    from tidewire.platform.nats_link import NatsLink

PROBES_AT_START: Final = 3
PROBE_PAUSE = 1.0
"""Seconds between probes of a node that did not answer one."""


class NodeCheck:
    """`proved` is called when a node behind a new connection has proved its mapping."""

    def __init__(
        self,
        link: NatsLink,
        broker: NatsBroker,
        partitions: int,
        telemetry: NatsTelemetry,
        log: FilteringBoundLogger,
        proved: Callable[[], None],
    ) -> None:
        self._link = link
        self._broker = broker
        self._partitions = partitions
        self._telemetry = telemetry
        self._log = log
        self._proved = proved
        self._checking: asyncio.Task[None] | None = None

    async def prove(self, largest: int) -> None:
        """Check the first node; `largest` is what a message may have in bytes. Raises StartError."""
        if self._link.max_payload < largest:
            raise StartError(
                f"nats-server's max_payload is {self._link.max_payload} bytes: it must be at least {largest} "
                f"(twice websocket.message_size_limit, for data and connection info, and {HEADER_ROOM} for headers)"
            )
        found = await self._probe()
        for _ in range(PROBES_AT_START - 1):
            if found is Mapping.UNKNOWN:
                found = await self._probe()
        if found is not Mapping.RIGHT:
            said = (
                f"; NATS said: {self._link.last_error}"
                if found is Mapping.UNKNOWN and self._link.last_error
                else ""
            )
            raise StartError(f"{MAPPING_PROBLEMS[found]} (nats.partitions is {self._partitions}){said}")

    def again(self) -> None:
        """Check another node, and no longer the one before: until it has proved its mapping, this edge treats NATS as away."""
        self._broker.mapped = False
        if self._checking is not None:
            self._checking.cancel()
        self._checking = asyncio.ensure_future(self._prove_again())

    async def _prove_again(self) -> None:
        found = await self._probe()
        while found is Mapping.UNKNOWN and self._link.state is LinkState.CONNECTED:
            await asyncio.sleep(PROBE_PAUSE)
            found = await self._probe()
        self._broker.mapped = found is Mapping.RIGHT
        if self._broker.mapped:
            self._proved()
        if found in {Mapping.MISSING, Mapping.OTHER_PARTITIONS}:
            self._telemetry.mapping_failed()
            self._log.error(
                "nats.mapping_failed", problem=MAPPING_PROBLEMS[found], nats=self._link.server_name
            )
            self._link.reconnect("the node does not map tw.pub")

    async def _probe(self) -> Mapping:
        return await probe(self._link, self._partitions)
