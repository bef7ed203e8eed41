"""The driver of the official Python SDK, for versions that are installed in an environment of their own."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

import msgspec

from tests.support.sdk import Event, Json, SdkError
from tests.support.sdk_python import PythonClient

LINE_LIMIT = 4 * 1024 * 1024
ASKED_BY_NAME = frozenset({"history", "presence", "presence_stats"})


def write(message: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def report(name: str, event: Event) -> None:
    """Pass an event on."""
    write({"client": name, **msgspec.structs.asdict(event)})


class Operations:
    """The clients, and what is done with them."""

    def __init__(self) -> None:
        self._clients: dict[str, PythonClient] = {}

    async def perform(self, call: int, op: str, client: str, **fields: Any) -> None:
        """Perform an operation and answer the call, whatever becomes of it."""
        try:
            result = await self._result(op, client, fields)
        except SdkError as error:
            what = {"code": error.code, "message": error.message, "temporary": error.temporary}
            write({"call": call, "error": what})
        except Exception as error:  # noqa: BLE001  # the test is to see it
            write({"call": call, "error": {"code": 0, "message": repr(error)}})
        else:
            write({"call": call, "result": result})

    async def _result(self, op: str, name: str, fields: dict[str, Any]) -> Json:
        if op == "create":
            wanted = {"wire": fields["format"], "token": fields["token"], "tokens": fields["tokens"]}
            self._clients[name] = PythonClient(fields["url"], **wanted, **fields["options"])
            self._clients[name].on_event = partial(report, name)
            return None
        if op in ASKED_BY_NAME:
            return await self._clients[name].call(op, **fields)
        return await getattr(self._clients[name], op)(**fields)


async def main() -> None:
    """Perform what comes in until the input ends; calls may wait for one another, so each is a task."""
    lines = asyncio.StreamReader(limit=LINE_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    operations = Operations()
    running: set[asyncio.Task[None]] = set()
    while line := await lines.readline():
        task = asyncio.create_task(operations.perform(**msgspec.json.decode(line)))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main())
