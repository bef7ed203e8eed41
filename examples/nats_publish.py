"""A backend publishes to a channel with a plain NATS client: everybody who is subscribed receives it.

Run it beside `make run`: .venv/bin/python examples/nats_publish.py [channel] [text]
"""

import asyncio
import json
import re
import sys
from pathlib import Path
from urllib.parse import quote

import nats


def subject_of(channel: str) -> str:
    """Return the subject of a channel, `chat:room-1` is `tw.pub.chat.room-1`; see docs/nats-interop.md."""
    rest = channel.removeprefix("$")
    namespace, colon, name = rest.partition(":")
    if not colon:
        namespace, name = "_", rest
    tokens = quote(name, safe=".").replace("~", "%7E")
    tokens = re.sub(r"^\.|(?<=\.)\.|\.$", "%2E", tokens)  # a dot that would make an empty token
    private = "%." if channel.startswith("$") else ""
    return f"tw.pub.{namespace}.{private}{tokens}"


async def main() -> None:
    """Publish one message and wait until the server has it."""
    channel = sys.argv[1] if len(sys.argv) > 1 else "chat:lobby"
    text = sys.argv[2] if len(sys.argv) > 2 else "Hello from a backend"
    try:
        dev = json.loads(Path(".tidewire/dev.json").read_text())
    except FileNotFoundError:
        sys.exit("no mesh runs here: start `make run` first, and run this from the same folder")
    client = await nats.connect(dev["nats"])
    tags = {"source": "example"}
    await client.publish(
        subject_of(channel), json.dumps({"text": text}).encode(), headers={"Tw-Tags": json.dumps(tags)}
    )
    await client.flush()
    await client.close()
    print(f"published to {channel} on {subject_of(channel)}")


if __name__ == "__main__":
    asyncio.run(main())
