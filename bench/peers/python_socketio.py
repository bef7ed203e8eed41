"""python-socketio with its Redis manager on uvicorn, as its documentation shows it: one process, WebSocket only.

Usage: python python_socketio.py REDIS_URL; prints {"port":N}. No tokens, no checks.
"""

from __future__ import annotations

import json
import socket
import sys

import socketio
import uvicorn

server = socketio.AsyncServer(
    async_mode="asgi", client_manager=socketio.AsyncRedisManager(sys.argv[1]), transports=["websocket"]
)


@server.event
async def subscribe(sid: str, channel: str) -> None:
    """Join a room; what is returned is the acknowledgement."""
    await server.enter_room(sid, channel)


@server.event
async def publish(sid: str, channel: str, data: object) -> None:
    """Send to a room."""
    del sid
    await server.emit("publication", data, to=channel)


listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
config = uvicorn.Config(socketio.ASGIApp(server), loop="uvloop", ws="websockets-sansio", log_level="warning")
uvicorn.Server(config).run(sockets=[listener])
