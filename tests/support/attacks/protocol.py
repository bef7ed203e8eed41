"""Attacks in commands of the client protocol: bombs, lies, floods, and replies that nobody reads."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping

import jwt

from tests.support.attacks.attack import Act, Attack, closed
from tests.support.foe import CUT, PATH, Foe, frame, head, text
from tests.support.keys import KINDS, pem, private

COMMANDS = 1000
"""Commands in a frame, near the most that one may hold."""
ALGORITHMS = ("RS512", "PS512", "ES512", "ES256", "EdDSA")
BUSY = "live:busy"
PROTOBUF = head(target=f"{PATH}?cf_protocol=protobuf")
KEYS = {"client": {"token": {"public_keys": [{"kid": each, "key": pem(KINDS[each])} for each in ALGORITHMS]}}}
"""What an edge must be configured with to be attacked so."""

Commands = Callable[[int], Mapping[str, object]]
"""What the command of a number says."""


def says(data: bytes, request: bytes = b"") -> Act:
    """Send this instead of a connect command, and wait."""

    async def act(foe: Foe) -> None:
        await foe.upgrade(request)
        await foe.send(data)

    return act


def later_says(data: bytes) -> Act:
    """Send this after a connect command, and wait."""

    async def act(foe: Foe) -> None:
        await foe.join()
        await foe.send(data)

    return act


def frames(commands: Commands) -> list[bytes]:
    """Return frames full of commands, to be sent over and over."""
    numbers = iter(range(10, 10 + 4 * COMMANDS))
    return [text(*({"id": n, **commands(n)} for n in itertools.islice(numbers, COMMANDS))) for _ in range(4)]


def flood(commands: Commands) -> Act:
    """Send commands as fast as they are taken, and read what comes."""
    load = frames(commands)

    async def act(foe: Foe) -> None:
        await foe.join()
        for each in itertools.cycle(load):
            await foe.send(each)
            await asyncio.sleep(0)

    return act


def unread(commands: Commands) -> Act:
    """Send commands and read no reply."""
    load = frames(commands)

    async def act(foe: Foe) -> None:
        foe.narrow = True
        await foe.join()
        foe.stop_reading()
        for each in itertools.cycle(load):
            await foe.send(each)
            await asyncio.sleep(0)

    return act


def bad_tokens(algorithm: str) -> Act:
    """Send a token with the right `kid` that another key has signed: the edge has to verify it."""
    forged = jwt.encode(
        {"sub": "foe"}, private(KINDS[algorithm], 1), algorithm=algorithm, headers={"kid": algorithm}
    )
    return says(text({"id": 1, "connect": {"token": forged}}))


async def deaf(foe: Foe) -> None:
    """Listen to a busy channel, keep it busy, and read nothing."""
    foe.narrow = True
    await foe.join("deaf", BUSY)
    foe.stop_reading()
    publish = {"publish": {"channel": BUSY, "data": "x" * 60_000}}
    for number in itertools.count(10):
        await foe.send(text({"id": number, **publish}))
        await asyncio.sleep(0)


def nested(depth: int) -> bytes:
    """Return a command with data of this depth."""
    return frame(b'{"id":2,"rpc":{"data":' + b"[" * depth + b"]" * depth + b"}}")


def lies(*sizes: bytes) -> bytes:
    """Return a Protobuf frame whose lengths are not those of what follows."""
    return frame(b"".join(sizes), 2)


BAD = closed(3501)
DENIED = {"rpc": {}}

PROTOCOL = (
    Attack(
        "commands before connect", says(text(*({"id": n, "rpc": {}} for n in range(1, 1000)))), "3501", BAD
    ),
    Attack("connect without a token", says(text({"id": 1, "connect": {}})), "3501", BAD, crowd=40),
    Attack("second connect", later_says(text({"id": 2, "connect": {}})), "3501", BAD),
    Attack("1,025 commands in a frame", later_says(text(*[{"id": 2, **DENIED}] * 1025)), "3501", BAD),
    Attack("pongs without a ping", later_says(text({}, {}, {})), "3501", BAD),
    Attack("deep JSON", later_says(nested(30_000)), "3501", BAD),
    Attack("deep JSON before connect", says(nested(30_000)), "3501", BAD),
    Attack("number of 60,000 digits", later_says(frame(b'{"id":' + b"9" * 60_000 + b"}")), "3501", BAD),
    Attack(
        "number of 60,000 digits in data",
        later_says(frame(b'{"id":2,"rpc":{"data":1' + b"0" * 60_000 + b"}}")),
        "3501",
        BAD,
    ),
    Attack("exponent of a million", later_says(frame(b'{"id":1e1000000,"rpc":{}}')), "3501", BAD),
    Attack("blank lines", later_says(frame(b'{"id":2,"rpc":{}}' + b"\n" * 60_000 + b"{}")), "3501", BAD),
    Attack("Protobuf length beyond the frame", says(lies(b"\x7f\x08"), PROTOBUF), "3501", BAD),
    Attack("Protobuf length of 4 GiB", says(lies(b"\xff\xff\xff\xff\x0f\x08"), PROTOBUF), "3501", BAD),
    Attack("Protobuf length without an end", says(lies(b"\xff" * 60_000), PROTOBUF), "3501", BAD),
    Attack("Protobuf length inside a message", says(lies(b"\x04\x22\x7f\x0a\x01"), PROTOBUF), "3501", BAD),
    *(
        Attack(f"forged {each} tokens", bad_tokens(each), "3500", closed(3500), crowd=40)
        for each in ALGORITHMS
    ),
    Attack("command flood", flood(lambda _: DENIED), "3013", closed(3013), crowd=10),
    Attack(
        "subscribe and unsubscribe flood",
        flood(lambda n: {("subscribe", "unsubscribe")[n % 2]: {"channel": f"live:churn-{n // 2}"}}),
        "3013",
        closed(3013),
        crowd=5,
    ),
    Attack(
        "publish flood",
        flood(lambda n: {"publish": {"channel": "live:flood", "data": n}}),
        "3013",
        closed(3013),
        crowd=5,
    ),
    Attack("publications unread", deaf, CUT, closed(3008)),
    Attack("replies unread", unread(lambda _: DENIED), CUT, closed(3013), crowd=1),
)
