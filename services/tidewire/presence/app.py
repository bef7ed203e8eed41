"""The presence service put together: the only module that knows every part. `platform.service` is the process around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from tidewire.kernel.channels import split_channel
from tidewire.kernel.subjects import NO_NAMESPACE, encode_token
from tidewire.options.nats_options import link_options
from tidewire.options.stored import options_by_token
from tidewire.platform.lifecycle import StartError
from tidewire.platform.nats_watch import WatchedLink
from tidewire.presence.adapters.nats_mesh import Ears, NatsVoice
from tidewire.presence.answers import Answers
from tidewire.presence.ports import Settings
from tidewire.presence.replica import Replica
from tidewire.presence.servicer import PresenceServicer
from tidewire.presence.telemetry import Telemetry

if TYPE_CHECKING:
    from tidewire.platform.metrics import Registry
    from tidewire.platform.service import Surroundings
    from tidewire.presence.config import PresenceConfig

TICK: Final = 0.05
"""Seconds between two looks at what is due."""
SUBSCRIBED_WITHIN: Final = 5.0
"""Seconds that nats-server has to take the subscriptions at the start."""


class Presence:
    """What the presence service does; implements `platform.service.Core`."""

    def __init__(self, config: PresenceConfig, around: Surroundings) -> None:
        own, clock = config.presence_service, around.clock
        self._partitions = own.partitions
        self._log = around.log
        self._clock = clock
        self._telemetry = Telemetry(around.log, clock.monotonic)
        self._watched = WatchedLink(
            link_options(config.nats, around.node, config.service),
            around.log,
            clock.monotonic,
            self._link_turned,
        )
        self._link = self._watched.link
        name = f"{encode_token(around.node)}-{token_hex(4)}"
        partitions, now = config.nats.partitions, clock.monotonic()
        self._told = _told(config)
        self._replica = Replica(
            Settings(
                name, config.served, own.partitions, own.max_entries, own.max_seen_users, own.listening_time
            ),
            self._is_told,
            NatsVoice(self._link, name, partitions, self._telemetry, clock.wall),
            self._telemetry,
            now,
            int(clock.wall() * 1000),
        )
        self._ears = Ears(partitions, self._replica, self._telemetry, clock.monotonic)
        answers = Answers(self._replica, partitions, clock.monotonic, clock.wall)
        self.services = [PresenceServicer(answers, self._telemetry.answered).service()]

    def _is_told(self, channel: str) -> bool:
        """Whether joins and leaves of a channel are told, as it is configured now."""
        return self._told(channel)

    def _link_turned(self, is_up: bool) -> None:
        """While it is away nothing is answered and nobody's lease ends; then edges' heartbeats tell what was missed."""
        if is_up:
            self._replica.link_up(self._clock.monotonic())
        else:
            self._replica.link_down()

    # platform.service.Core

    def register(self, registry: Registry) -> None:
        """Expose what it counts."""
        self._telemetry.register(registry, self._replica)
        registry.add(self._watched.metrics())

    async def start(self) -> None:
        """Reach NATS, and hear all edges."""
        await self._link.start()
        await self._subscribe()
        self._replica.link_up(self._clock.monotonic())

    async def run(self) -> None:
        """Do what is due, and tell the log whenever it can answer, or cannot any more."""
        told = False
        while True:
            self._replica.tick(self._clock.monotonic(), int(self._clock.wall() * 1000))
            why = self._replica.why_unready
            if (why is None) is not told:
                told = why is None
                if told:
                    self._log.info("presence.ready", edges=len(self._replica.mesh.lives))
                else:
                    self._log.warning("presence.not_ready", reason=why)
            await asyncio.sleep(TICK)

    def started(self, **process: object) -> None:
        """Say so; it is ready when it has heard all edges."""
        self._log.info(
            "presence.started", **process, nats=self._link.server_name, replica=self._replica.peers.own
        )

    def why_unready(self) -> str | None:
        """Return why it cannot answer at all."""
        return self._replica.why_unready

    def configure(self, config: PresenceConfig) -> None:
        """Take other bounds, and whose leaves are told."""
        self._told = _told(config)
        self._replica.mesh.most_entries = config.presence_service.max_entries
        self._replica.seen.most = config.presence_service.max_seen_users

    async def close(self) -> None:
        """Tell the other replicas, and leave NATS."""
        self._replica.end()
        await self._link.close()

    async def _subscribe(self) -> None:
        """Have what edges say. Raises StartError: nats-server does not give it, and an empty mesh is no reason to think so."""
        self._ears.subscribe(self._link, self._partitions)
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answered(passed: bool) -> None:
            if not taken.done():
                taken.set_result(passed)

        self._link.barrier(answered, SUBSCRIBED_WITHIN)
        if not await taken:
            raise StartError(
                f"nats-server does not take the subscriptions ({self._link.last_error or 'it did not answer'}): give the "
                "user of `tidewire nats-config --presence-user`"
            )


def _told(config: PresenceConfig) -> Callable[[str], bool]:
    """Return whether joins and leaves of a channel are told."""
    tellers = {token for token, options in options_by_token(config.channel).items() if options.join_leave}
    return lambda channel: (split_channel(channel).namespace or NO_NAMESPACE) in tellers
