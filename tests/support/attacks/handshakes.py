"""Attacks on the upgrade: slow, oversized, ambiguous, smuggled."""

from __future__ import annotations

import asyncio

from tests.support.attacks.attack import Act, Attack, refused
from tests.support.foe import CUT, PATH, UPGRADE, Foe, frame, head

THOUSANDS = 2000
TRICKLE = 0.2
"""Seconds between two bytes of a slow handshake."""
HIDDEN = head(fields={**UPGRADE, "Origin": "https://evil.example"})
"""A request behind another one; answered, it would be one answer too many."""
HEX = b"0;x=\xff\r\n\r\n"


def says(data: bytes) -> Act:
    """Send this and wait."""

    async def act(foe: Foe) -> None:
        await foe.open()
        await foe.send(data)

    return act


def without(name: str, *more: str) -> bytes:
    """Return an upgrade that lacks a field, with more lines."""
    return head(*more, fields={field: value for field, value in UPGRADE.items() if field != name})


async def trickle(foe: Foe) -> None:
    """Slowloris: one byte at a time."""
    await foe.open()
    for byte in head():
        await foe.send(bytes((byte,)))
        await asyncio.sleep(TRICKLE)


async def second_in_its_own_packet(foe: Foe) -> None:
    """A frame that is not one, after the upgrade was accepted."""
    await foe.upgrade()
    await foe.send(head())


async def leave_after(foe: Foe, request: bytes) -> None:
    """Upgrade with an odd request that is a correct one, and go."""
    await foe.upgrade(request)
    await foe.leave()


BAD = refused("bad_request")

HANDSHAKES = (
    Attack("slowloris", trickle, CUT, refused("timeout"), crowd=THOUSANDS),
    Attack("idle sockets", Foe.open, CUT, refused("timeout"), crowd=THOUSANDS),
    Attack(
        "head without an end",
        says(head("A: b")[:-2] + b"C: " + b"d" * 20_000),
        "431",
        refused("head_too_large"),
    ),
    Attack(
        "cross-origin page", says(head("Origin: https://evil.example")), "403", refused("origin"), crowd=100
    ),
    Attack("origin null", says(head("Origin: null")), "403", refused("origin")),
    Attack("two origins", says(head("Origin: http://edge", "Origin: http://edge")), "403", refused("origin")),
    Attack("token in the URL", says(head(target=f"{PATH}?token=a")), "400", refused("token_in_url")),
    Attack("body by length", says(head("Content-Length: 5") + b"GET /"), "400", BAD),
    Attack("two lengths", says(head("Content-Length: 0", "Content-Length: 5") + b"GET /"), "400", BAD),
    Attack("chunked body", says(head("Transfer-Encoding: chunked") + HEX), "400", BAD),
    Attack(
        "length and chunked", says(head("Content-Length: 0", "Transfer-Encoding: chunked") + HEX), "400", BAD
    ),
    Attack("second request behind a refused one", says(head("Host: edge") + HIDDEN), "400", BAD),
    Attack("second request behind the 101", says(head() + HIDDEN), "1002", refused("accepted")),
    Attack("second request after the 101", second_in_its_own_packet, "1002", refused("accepted")),
    Attack("two hosts", says(head("Host: evil.example")), "400", BAD),
    Attack("no host", says(without("Host")), "400", BAD),
    Attack("folded line", says(head("X: a\r\n b")), "400", BAD),
    Attack("space before the colon", says(head("Origin : http://edge")), "400", BAD),
    Attack("bare LF between fields", says(head("X: a\nOrigin: http://edge")), "400", BAD),
    Attack("bare CR in a field", says(head("X: a\rOrigin: http://edge")), "400", BAD),
    Attack("bare LF throughout", says(head().replace(b"\r\n", b"\n")), CUT, refused("timeout")),
    Attack("NUL in a field", says(head("X: a\0b")), "400", BAD),
    Attack("129 fields", says(head(*["X: y"] * 129)), "400", BAD),
    Attack("line of 9 KiB", says(head("X: " + "y" * 9 * 1024)), "400", BAD),
    Attack("upgrade twice", says(head("Upgrade: websocket")), "426", refused("bad_upgrade")),
    Attack(
        "upgrade to h2c as well",
        says(without("Upgrade", "Upgrade: websocket, h2c")),
        "426",
        refused("bad_upgrade"),
    ),
    Attack(
        "key twice", says(head("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")), "400", refused("bad_upgrade")
    ),
    Attack("POST", says(head().replace(b"GET", b"POST")), "405", refused("bad_upgrade")),
    Attack("HTTP/1.0", says(head().replace(b"HTTP/1.1", b"HTTP/1.0")), "505", refused("bad_upgrade")),
    Attack("two tokens", says(head("Authorization: Bearer a", "Authorization: Bearer b")), "400", BAD),
    Attack(
        "absolute form",
        lambda foe: leave_after(foe, head(target=f"http://evil.example{PATH}")),
        "1000",
        refused("accepted"),
    ),
    Attack("frame without an upgrade", says(frame(b"{}") * 5000), "431", refused("head_too_large")),
)
