"""A native NATS publisher, as a backend is one: it publishes to `tw.pub` at one node and waits for JetStream's word."""

from __future__ import annotations

import itertools
import json

import nats.errors

from tests.chaos.crowd import CHAT, Crowd
from tests.support.checker import payload, record
from tests.support.nats_client import connected
from tests.support.nats_server import NatsServer
from tidewire.kernel.subjects import encode_channel

_runs = itertools.count(1)
ANSWER = 3.0


async def publish_natively(crowd: Crowd, node: NatsServer, count: int) -> int:
    """Publish so many, one after the other, and return how many were acknowledged."""
    name = f"native-{next(_runs)}"
    acknowledged = 0
    async with connected(node.url) as client:
        for number in range(1, count + 1):
            channel = CHAT[number % len(CHAT)]
            data = payload(name, number)
            sent = record(channel, data)
            headers = {"Nats-Msg-Id": f"{name}-{number}"}
            try:
                answer = await client.request(
                    f"tw.pub.{encode_channel(channel)}", json.dumps(data).encode(), ANSWER, headers=headers
                )
            except nats.errors.NoRespondersError:
                crowd.refused(sent)
            except (TimeoutError, nats.errors.TimeoutError):
                crowd.unknown()
            else:
                if "error" in json.loads(answer.data):
                    crowd.unknown()
                else:
                    crowd.acknowledged(sent)
                    acknowledged += 1
    return acknowledged
