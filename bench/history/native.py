"""Acknowledged publications by nats-py itself, pipelined: what a Python program gets from JetStream with nobody between.

`python -m bench.history.native URL WAY CHANNELS WINDOW WARMUP SECONDS` keeps WINDOW publications under way, on the channels
in turn, and says `measuring` and `measured` as the load generator does. WAY is `raw`, plain publications with a reply
subject each, the answers to which are only counted; or `publish_async` of nats-py's JetStream context, with `Nats-Msg-Id`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import IO, Any, Self, cast

import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.history.mesh import streams
from bench.load.machine import bind, cpu_seconds
from bench.load.measure import Measurement, Plan
from bench.load.servers import PREFIX
from tests.support.edges import PARTITIONS
from tests.support.nats_client import connected
from tidewire.kernel.subjects import in_subject

PAYLOAD = b'"' + b"x" * 126 + b'"'


class Pipeline:
    """Publications under way, and how long each took."""

    def __init__(self, client: Client, subjects: list[str]) -> None:
        self._client = client
        self._subjects = subjects
        self._sent: dict[str, float] = {}
        self._number = 0
        self.latencies: list[float] = []
        self.over = False

    async def raw(self, window: int) -> None:
        """Keep so many under way for ever."""
        inbox = self._client.new_inbox()
        await self._client.subscribe(f"{inbox}.*", cb=self._answered)
        self._inbox = inbox
        for _ in range(window):
            await self._publish()

    async def _publish(self) -> None:
        self._number += 1
        reply = f"{self._inbox}.{self._number}"
        self._sent[reply] = time.perf_counter()
        await self._client.publish(self._subjects[self._number % len(self._subjects)], PAYLOAD, reply)

    async def _answered(self, message: Msg) -> None:
        if b'"error"' in message.data:
            raise RuntimeError(message.data)
        self.latencies.append(time.perf_counter() - self._sent.pop(message.subject))
        if not self.over:
            await self._publish()

    async def publish_async(self, window: int) -> None:
        """Publish by the JetStream context until it is over."""
        js = self._client.jetstream(publish_async_max_pending=window)
        while not self.over:
            self._number += 1
            began = time.perf_counter()
            subject = self._subjects[self._number % len(self._subjects)]
            future = await js.publish_async(
                subject, PAYLOAD, headers={"Nats-Msg-Id": f"native-{self._number}"}
            )
            future.add_done_callback(lambda done, began=began: self._done(done, began))

    def _done(self, future: asyncio.Future[Any], began: float) -> None:
        future.result()
        self.latencies.append(time.perf_counter() - began)


async def main(url: str, way: str, channels: int, window: int, warmup: float, seconds: float) -> None:
    """Publish, and print what was measured."""
    subjects = [in_subject(f"{PREFIX}{number}", PARTITIONS).decode() for number in range(channels)]
    async with connected(url) as client:
        pipeline = Pipeline(client, subjects)
        running = asyncio.ensure_future(getattr(pipeline, way)(window))
        await asyncio.sleep(warmup)
        pipeline.latencies.clear()
        began = time.perf_counter()
        print("measuring", flush=True)
        await asyncio.sleep(seconds)
        print("measured", flush=True)
        taken = time.perf_counter() - began
        found = sorted(pipeline.latencies)
        pipeline.over = True
        await running
    quantiles = {f"ack_p{name}_us": found[int(len(found) * share)] * 1e6 for name, share in SHARES.items()}
    print(json.dumps({"acks": len(found), "seconds": taken, "deliveries": 0, **quantiles}))


SHARES = {"50": 0.5, "99": 0.99, "999": 0.999}


class NativeSide:
    """Stands where a `Side` does: nats-py against streams of its own."""

    def __init__(self, way: str, plan: Plan) -> None:
        self._way = way
        self._plan = plan
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = self._plan.tools.folder / self._way
        folder.mkdir()
        self._nats = self._stack.enter_context(streams(folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, order: Mapping[str, Any], counts: str) -> Measurement:
        """Keep as many publications under way, on as many channels, as the connections of an order do together."""
        window = int(order["publishers"] * order["window"])
        channels = int(order["publishers"] * order["spread"])
        numbers = [channels, window, order["warmup"], order["seconds"]]
        command = [
            sys.executable,
            "-m",
            "bench.history.native",
            self._nats.url,
            self._way,
            *map(str, numbers),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            bind(process.pid, self._plan.server_cpu)
            lines = cast("IO[bytes]", process.stdout)
            spent = []
            for expected in (b"measuring\n", b"measured\n"):
                if lines.readline() != expected:
                    raise RuntimeError(f"nats-py ended with status {process.wait()}")
                spent.append((cpu_seconds(process.pid), cpu_seconds(self._nats.pid)))
            said = json.loads(lines.readline())
        client, broker = (after - before for before, after in zip(*spent, strict=True))
        return Measurement(said[counts], client, broker, 0, said)


if __name__ == "__main__":
    url, way, *numbers = sys.argv[1:]
    uvloop.run(main(url, way, int(numbers[0]), int(numbers[1]), float(numbers[2]), float(numbers[3])))
