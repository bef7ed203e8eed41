from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from tidewire.kernel.meta import Held, Meta, MetaError
from tidewire.kernel.streams import META_STREAM
from tidewire.options.storage_options import StorageProfile
from tidewire.platform.jetstream import STREAM_NOT_FOUND, JetStream, JetStreamError, UnansweredError
from tidewire.storage.apply import apply
from tidewire.storage.cluster import NO_MESSAGE, TRIES, StorageError
from tidewire.storage.steps import Create, Delete, Purge, Step
from tidewire.storage.wanted import StreamConfig, stream_config

CONFIG = stream_config(StorageProfile(), 0, ["chat"])
META = Meta(partitions=1, namespaces={}, secret="")
CREATE = Create(stream="TW_default_0", config=CONFIG)


class Server:
    """Answers in JetStream's place; `passes_over` are settings that it does not know."""

    def __init__(
        self, sequence: int, passes_over: tuple[str, ...] = (), *, missing: bool = False, silent: int = 0
    ) -> None:
        self.calls: list[str] = []
        self._sequence = sequence
        self._passes_over = passes_over
        self._missing = missing
        self.silent = silent
        """How many calls get no answer; `unanswered` is what happens meanwhile."""
        self.unanswered: Callable[[], None] = lambda: None

    async def call(self, name: str, request: StreamConfig | None = None) -> dict[str, Any]:
        """One call."""
        if name == f"STREAM.MSG.GET.{META_STREAM}":
            if not self._sequence:
                raise JetStreamError(404, NO_MESSAGE, "no message found")
            data = base64.b64encode(msgspec.json.encode(META)).decode()
            return {"message": {"seq": self._sequence, "data": data}}
        self.calls.append(name)
        if self.silent:
            self.silent -= 1
            self.unanswered()
            raise UnansweredError(name, 1.0)
        if self._missing:
            raise JetStreamError(404, STREAM_NOT_FOUND, "stream not found")
        return {
            "config": {key: value for key, value in (request or {}).items() if key not in self._passes_over}
        }


async def applied(server: Server, *steps: Step, after: int = 0) -> None:
    """Carry out steps of a plan that was made after the record with this sequence."""
    await apply(cast("JetStream", server), steps, Held(META, after) if after else None, lambda _step: None)


async def test_what_an_older_server_passes_over_is_told() -> None:
    """It leaves out what it does not know, without a word."""
    await applied(Server(0), CREATE)
    with pytest.raises(
        StorageError, match=r"TW_default_0: nats-server passes over allow_atomic: 2\.12 or newer"
    ):
        await applied(Server(0, ("allow_atomic",)), CREATE)


@pytest.mark.parametrize(("now", "after"), [(2, 1), (1, 0), (0, 1)])
async def test_nothing_is_begun_after_somebody_else_has_written_the_record(now: int, after: int) -> None:
    """Also where it was the first one, or has gone."""
    server = Server(now)
    with pytest.raises(MetaError, match="run `tidewire migrate` again"):
        await applied(server, CREATE, after=after)
    assert server.calls == []


async def test_what_is_gone_already_is_deleted() -> None:
    """Somebody did it before; any other step has an error with the stream's name."""
    server = Server(3, missing=True)
    await applied(server, Delete(stream="TW_default_0"), after=3)
    assert server.calls == ["STREAM.DELETE.TW_default_0"]
    with pytest.raises(StorageError, match=r"^TW_default_0: stream not found \(404, 10059\)$"):
        await applied(server, Purge(stream="TW_default_0", subject="x"), after=3)


async def test_what_gets_no_answer_is_asked_again() -> None:
    """As often as `TRIES`; then the stream is named."""
    server = Server(0, silent=TRIES - 1)
    await applied(server, CREATE)
    assert server.calls == ["STREAM.CREATE.TW_default_0"] * TRIES
    with pytest.raises(StorageError, match=r"^TW_default_0: STREAM\.CREATE\.TW_default_0: no answer"):
        await applied(Server(0, silent=TRIES), CREATE)


async def test_nothing_is_asked_again_after_somebody_else_has_written_the_record() -> None:
    """What is wanted may be something else by then."""
    server = Server(1, silent=1)
    server.unanswered = lambda: setattr(server, "_sequence", 2)
    with pytest.raises(MetaError, match="run `tidewire migrate` again"):
        await applied(server, CREATE, after=1)
    assert len(server.calls) == 1
