"""A backend signs tokens for alice; she connects, subscribes to a private channel, and is sent away by an order.

Run it beside `make run`: .venv/bin/python examples/authorization.py
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import jwt
import nats
from centrifuge import Client, ClientEventHandler, DisconnectedContext, ServerSubscribedContext

PRIVATE = "$chat:board"


class Backend:
    """What your backend does: it holds the key, and says who may do what."""

    def __init__(self, key: str) -> None:
        self._key = key

    def connection_token(self, user: str) -> str:
        """Let the user in for an hour, subscribed to chat:news from the start."""
        return self._signed(sub=user, channels=["chat:news"], info={"name": user.title()})

    def subscription_token(self, user: str, channel: str) -> str:
        """Let the user subscribe to one channel, and publish there."""
        return self._signed(sub=user, channel=channel, allow=["pub"])

    def _signed(self, **claims: object) -> str:
        hour = int(time.time()) + 3600  # seconds, not milliseconds
        return jwt.encode({"exp": hour, **claims}, self._key, algorithm="HS256")


class Alice(ClientEventHandler):
    """Prints what the server does with the connection."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def on_subscribed(self, ctx: ServerSubscribedContext) -> None:
        """Print a subscription that the token asked for."""
        print(f"subscribed by the server to {ctx.channel}")

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        """Print why; with this code the SDK does not come back."""
        print(f"disconnected: {ctx.code} {ctx.reason}")
        self.gone.set()


async def ban(url: str, user: str) -> None:
    """Close the user's connections, on whichever edge they are."""
    order = {"v": 1, "type": "disconnect", "user": user, "code": 4501, "reason": "banned"}
    client = await nats.connect(url)
    await client.publish("tw.ctl.all", json.dumps(order).encode())
    await client.flush()
    await client.close()


async def main() -> None:
    """Ask the backend for tokens as a page would by HTTP."""
    try:
        dev = json.loads(Path(".tidewire/dev.json").read_text())
    except FileNotFoundError:
        sys.exit("no mesh runs here: start `make run` first, and run this from the same folder")
    backend = Backend(Path(".tidewire/token.key").read_text().strip())

    async def get_token() -> str:
        return backend.connection_token("alice")

    async def get_subscription_token(channel: str) -> str:
        return backend.subscription_token("alice", channel)

    alice = Alice()
    url = dev["edges"][0].replace("http", "ws") + "/connection/websocket"
    client = Client(url, get_token=get_token, events=alice)
    board = client.new_subscription(PRIVATE, get_token=get_subscription_token)
    await client.connect()
    await board.subscribe()
    await board.ready()
    await board.publish({"text": "for members only"})
    print(f"published to {PRIVATE}")
    await ban(dev["nats"], "alice")
    await asyncio.wait_for(alice.gone.wait(), 5)


asyncio.run(main())
