"""A first program: say hello in chat:lobby, and hear it come back through NATS.

Run it beside `make run`: .venv/bin/python examples/hello.py
"""

import asyncio
import json
import sys
from pathlib import Path

from centrifuge import Client, PublicationContext, SubscriptionEventHandler


class Lobby(SubscriptionEventHandler):
    """Prints the first publication."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    async def on_publication(self, ctx: PublicationContext) -> None:
        """Print who said what."""
        who = ctx.pub.info.user if ctx.pub.info else "a backend"
        print(f"{who}: {ctx.pub.data['text']}")
        self.heard.set()


async def main() -> None:
    """Connect to the second edge, subscribe, publish, listen."""
    try:
        dev = json.loads(Path(".tidewire/dev.json").read_text())
    except FileNotFoundError:
        sys.exit("no mesh runs here: start `make run` first, and run this from the same folder")
    url = dev["edges"][1].replace("http", "ws") + "/connection/websocket"
    client = Client(url, token=dev["token"])
    lobby = Lobby()
    subscription = client.new_subscription("chat:lobby", events=lobby)
    await client.connect()
    await subscription.subscribe()
    await subscription.ready()
    await subscription.publish({"text": "Hello from Python"})
    await asyncio.wait_for(lobby.heard.wait(), 5)
    await client.disconnect()


asyncio.run(main())
