"""The thundering herd: clients cut all at once, and how long they take to be back, by what has cut them.

`python -m bench.herd [clients]`; each line has the times since the first was cut until so many were connected and
subscribed again, and what the edge that took them in spent and refused.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support.checker import Checker
from tests.support.edges import mapping
from tests.support.herd import running_herd
from tests.support.herd_scenarios import comebacks
from tests.support.nats_server import NatsServer

CLIENTS = 10_000


async def main(clients: int) -> None:
    """Cut a herd in every way, and print a line for each."""
    checker = Checker()
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder) / "nats", config=mapping()) as nats:
        async with running_herd() as herd:
            async for comeback in comebacks(Path(folder), nats.url, herd, clients, checker):
                print(comeback, flush=True)
    checker.check()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else CLIENTS))
