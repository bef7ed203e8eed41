"""Attacks in WebSocket frames, most of them before any command: too long, never complete, never answered, never read."""

from __future__ import annotations

import asyncio

from websockets.frames import Opcode

from tests.support.attacks.attack import Act, Attack, closed
from tests.support.foe import CUT, Foe, deflated, frame, head

COMPRESSED = head("Sec-WebSocket-Extensions: permessage-deflate")
BOMB = deflated(bytes(64 << 20))
"""64 MiB in 64 KiB, the most that deflate can do."""
HALF_BOMB = BOMB[: len(BOMB) // 2]
PINGS = frame(b"p" * 125, Opcode.PING) * 500


def says(data: bytes, request: bytes = b"") -> Act:
    """Upgrade, send this, and wait."""

    async def act(foe: Foe) -> None:
        await foe.upgrade(request)
        await foe.send(data)

    return act


def never_ends(first: bytes, more: bytes, request: bytes = b"") -> Act:
    """Send `first`, then `more` until the edge has had enough."""

    async def act(foe: Foe) -> None:
        await foe.upgrade(request)
        await foe.send(first)
        while True:
            await foe.send(more)
            await asyncio.sleep(0)

    return act


async def trickle(foe: Foe) -> None:
    """One frame, a byte at a time."""
    await foe.upgrade()
    for byte in frame(b"x" * 100):
        await foe.send(bytes((byte,)))
        await asyncio.sleep(0.1)


async def ping_flood(foe: Foe) -> None:
    """Send pings as fast as they are taken, and read the pongs."""
    await foe.join()
    while True:
        await foe.send(PINGS)
        await asyncio.sleep(0)


async def unread_pongs(foe: Foe) -> None:
    """Send pings and read nothing."""
    foe.narrow = True
    await foe.join()
    foe.stop_reading()
    while True:
        await foe.send(PINGS)
        await asyncio.sleep(0)


DECLARED = frame(b"x" * 126)[:1] + b"\xff" + (1 << 62).to_bytes(8, "big") + bytes(4)

FRAMES = (
    Attack("silence after the upgrade", Foe.upgrade, "3502", closed(3502), crowd=50),
    Attack("no pong", Foe.join, "3012", closed(3012), crowd=50),
    Attack("frame byte by byte", trickle, "3502", closed(3502), crowd=50),
    Attack("message of 4 EiB by its length", says(DECLARED), "1009", closed(1009)),
    Attack("message over the limit", says(frame(bytes(65_537))), "1009", closed(1009)),
    Attack(
        "endless fragments",
        never_ends(frame(b"x" * 1000, fin=False), frame(b"x" * 1000, Opcode.CONT, fin=False)),
        "1009",
        closed(1009),
    ),
    Attack(
        "endless empty fragments",
        never_ends(frame(b"", fin=False), frame(b"", Opcode.CONT, fin=False) * 700),
        "3502",
        closed(3502),
    ),
    Attack("compression bomb", says(frame(BOMB[:65_000], rsv1=True), COMPRESSED), "1009", closed(1009)),
    Attack(
        "compression bomb in fragments",
        never_ends(
            frame(BOMB[:100], fin=False, rsv1=True), frame(BOMB[100:200], Opcode.CONT, fin=False), COMPRESSED
        ),
        "1009",
        closed(1009),
    ),
    Attack("no deflate", says(frame(b"\xff" * 100, rsv1=True), COMPRESSED), "1002", closed(1002)),
    Attack("compressed without leave", says(frame(deflated(b"{}"), rsv1=True)), "1002", closed(1002)),
    Attack("unmasked frame", says(b"\x81\x02{}"), "1002", closed(1002)),
    Attack("ping flood", ping_flood, "3012", closed(3012), crowd=10),
    Attack("ping flood, pongs unread", unread_pongs, CUT, closed(3008), crowd=1),
)
