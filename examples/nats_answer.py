"""A backend answers the RPC method `greet` of clients, as a NATS microservice.

Run it beside `make run`, until Ctrl-C: .venv/bin/python examples/nats_answer.py
A client then calls `await client.rpc("greet", {"polite": True})`.
"""

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import unquote

import nats
from nats.micro import add_service
from nats.micro.request import Request


async def greet(request: Request) -> None:
    """Answer a call; who calls stands in the headers, written by the edge."""
    user = unquote((request.headers or {}).get("Tw-User", ""))
    if not user:
        await request.respond_error("403", "I greet only people with a name")
        return
    wish = json.loads(request.data or b"{}")
    word = "Good day" if wish.get("polite") else "Hi"
    await request.respond(json.dumps({"text": f"{word}, {user}"}).encode())


async def main() -> None:
    """Answer until somebody ends the program."""
    try:
        dev = json.loads(Path(".tidewire/dev.json").read_text())
    except FileNotFoundError:
        sys.exit("no mesh runs here: start `make run` first, and run this from the same folder")
    client = await nats.connect(dev["nats"])
    service = await add_service(client, name="greeter", version="1.0.0")
    await service.add_endpoint(name="greet", subject="tw.rpc.greet", handler=greet)
    await client.flush()
    print("answering greet", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
