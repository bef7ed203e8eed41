"""Carries a plan out. Each step can be done again, and none is begun after somebody else has written the record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from tidewire.kernel.meta import Held, MetaError
from tidewire.kernel.streams import META_BUCKET
from tidewire.platform.jetstream import STREAM_NOT_FOUND, JetStream, JetStreamError
from tidewire.platform.meta import write_meta
from tidewire.storage.cluster import StorageError, ask, read_leader
from tidewire.storage.differences import differences
from tidewire.storage.steps import Create, Delete, Purge, Record, Settle, Step, Update
from tidewire.storage.wanted import StreamConfig

Tell = Callable[[Step], None]


async def apply(js: JetStream, steps: tuple[Step, ...], held: Held | None, tell: Tell) -> None:
    """Carry out the steps of a plan that was made when the record was `held`; `tell` hears of each before it is done.

    Raises StorageError with the stream and JetStream's reason, MetaError where somebody else migrates at the same time.
    What was done until then stays: a new plan goes on from there.
    """
    builder = _Builder(js, 0 if held is None else held.sequence)
    for step in steps:
        tell(step)
        try:
            await builder.carry_out(step)
        except JetStreamError as error:
            raise StorageError(f"{step.stream}: {error}") from error


class _Builder:
    def __init__(self, js: JetStream, sequence: int) -> None:
        self._js = js
        self._sequence = sequence

    async def carry_out(self, step: Step) -> None:
        if isinstance(step, Record):
            self._sequence = await write_meta(self._js, step.meta, self._sequence)
            return
        if isinstance(step, Settle):
            await asyncio.sleep(step.seconds)
            return
        await self._alone()
        match step:
            case Create():
                await self._put("CREATE", step.config)
            case Update():
                await self._put("UPDATE", step.config)
            case Purge():
                await self._ask(f"STREAM.PURGE.{step.stream}", {"filter": step.subject})
            case Delete():
                await self._delete(step.stream)

    async def _alone(self) -> None:
        """See that the record is the one that the plan was made from."""
        held = await read_leader(self._js)
        if (0 if held is None else held.sequence) != self._sequence:
            raise MetaError(
                f"{META_BUCKET} was written by somebody else meanwhile: run `tidewire migrate` again"
            )

    async def _ask(self, name: str, request: object = None) -> dict[str, Any]:
        return await ask(self._js, name, request, self._alone)

    async def _put(self, verb: str, config: StreamConfig) -> None:
        answer = await self._ask(f"STREAM.{verb}.{config['name']}", config)
        if lacking := ", ".join(_lacking(answer["config"], config)):
            raise StorageError(
                f"{config['name']}: nats-server passes over {lacking}: 2.12 or newer is needed"
            )

    async def _delete(self, stream: str) -> None:
        try:
            await self._ask(f"STREAM.DELETE.{stream}")
        except JetStreamError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise


def _lacking(made: StreamConfig, config: StreamConfig) -> Iterator[str]:
    """Settings that an older server does not know and leaves out without a word."""
    return (change.setting for change in differences(made, config))
