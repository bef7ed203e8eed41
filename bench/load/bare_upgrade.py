"""A server that only upgrades, by websockets' `ServerProtocol` on uvloop: what a connect with JWT is held against.

Usage: python bare_upgrade.py; prints {"port":N}.
"""

from __future__ import annotations

import asyncio
import json
from typing import cast

import uvloop
from websockets.http11 import Request
from websockets.server import ServerProtocol


class BareUpgrade(asyncio.Protocol):
    """One connection: the bytes of the request in, the answer out."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._core = ServerProtocol()

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self._core.receive_data(data)
        for event in self._core.events_received():
            if isinstance(event, Request):
                self._core.send_response(self._core.accept(event))
        self._transport.write(b"".join(self._core.data_to_send()))


async def main() -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(BareUpgrade, "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
