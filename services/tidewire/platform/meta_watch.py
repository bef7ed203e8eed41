"""Tells a process that the record in TW_META has changed, within a moment where NATS is well and within half a minute where it was not.

The bucket publishes each record again where it is read, but others can put messages there, so one only says that it is
time to read. A server may answer with an older record than it has told of: the one with the higher sequence
counts, and after a message the record is read more than once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tidewire.kernel.meta import LOOKS, REFRESH, Held, Meta, MetaError
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.meta import LAYOUT_SUBJECT, read_held
from tidewire.platform.nats_link import NatsLink


class MetaWatch:
    """Calls `changed` with each newer record, in the event loop, and `failed` for one that cannot be understood.

    `held` is what the process started with.
    """

    def __init__(
        self,
        link: NatsLink,
        held: Held | None,
        changed: Callable[[Meta], None],
        failed: Callable[[MetaError], None],
    ) -> None:
        self._link = link
        self._js = JetStream(link)
        self._sequence = 0 if held is None else held.sequence
        self._changed = changed
        self._failed = failed
        self._told = asyncio.Event()

    def look(self) -> None:
        """Read the record soon: for `link_back`."""
        self._told.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        sid = self._link.subscribe(LAYOUT_SUBJECT.encode(), lambda *_message: self.look())
        try:
            while True:
                await self._wait()
                for delay in LOOKS:
                    await asyncio.sleep(delay)
                    await self._read()
        finally:
            self._link.unsubscribe(sid)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(REFRESH):
                await self._told.wait()
        except TimeoutError:
            return
        self._told.clear()

    async def _read(self) -> None:
        try:
            held = await read_held(self._js)
        except JetStreamError:
            return  # read again within REFRESH, or when the link is back
        except MetaError as error:
            self._failed(error)
            return
        if held is not None and held.sequence > self._sequence:
            self._sequence = held.sequence
            self._changed(held.meta)
