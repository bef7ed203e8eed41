"""A backend follows a namespace with a plain NATS client: all that clients and other backends publish in it.

Run it beside `make run`, until Ctrl-C: .venv/bin/python examples/nats_follow.py [namespace]
"""

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import unquote

import nats
from nats.aio.msg import Msg


def channel_of(subject: str) -> str:
    """Return the channel of a subject: `tw.in.7.chat.room-1` is `chat:room-1`; see docs/nats-interop.md."""
    namespace, *tokens = subject.split(".")[3:]
    private = tokens[0] == "%"
    name = unquote(".".join(tokens[private:]))
    return ("$" if private else "") + ("" if namespace == "_" else f"{namespace}:") + name


async def show(message: Msg) -> None:
    """Print a publication: who it is from stands in a header, the data are the payload."""
    headers = message.headers or {}
    info = json.loads(headers.get("Tw-Info", "{}"))
    who = info.get("user", "a backend") or "somebody anonymous"
    print(f"{channel_of(message.subject)}: {who}: {message.data.decode(errors='replace')}", flush=True)


async def main() -> None:
    """Follow until somebody ends the program."""
    namespace = sys.argv[1] if len(sys.argv) > 1 else "chat"
    try:
        dev = json.loads(Path(".tidewire/dev.json").read_text())
    except FileNotFoundError:
        sys.exit("no mesh runs here: start `make run` first, and run this from the same folder")
    client = await nats.connect(dev["nats"])
    await client.subscribe(f"tw.in.*.{namespace}.>", cb=show)
    await client.flush()
    await client.flush()  # nats-py may answer the first one before it has written the subscription
    print(f"following {namespace}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
