"""Reading frames: our reader beside websockets' `ServerProtocol`, on the same bytes, runs alternated.

CPU is that of the process, in inbound frames per second: a client's frames of 128 bytes, one in a read as most clients
send, and as many as a flood puts into one slice of the transport. Memory is what an idle connection's reader holds
(tracemalloc), after a message has come. Then what it costs to compress a publication, by the window. Medians and spread
of the rounds.
"""

from __future__ import annotations

import gc
import json
import random
import secrets
import statistics
import string
import time
import tracemalloc
from collections.abc import Callable
from typing import Protocol

from websockets.frames import Frame, Opcode

from tests.support.reference_reader import ReferenceReader
from tidewire.edge.deflate import deflate
from tidewire.edge.frames import FrameReader
from tidewire.edge.transport import SLICE

LIMIT = 65_536
FRAMES = 40_000
ROUNDS = 9
READERS = 2_000
PAYLOADS = {"text": (Opcode.TEXT, b"x" * 128), "binary": (Opcode.BINARY, secrets.token_bytes(128))}


class Reader(Protocol):
    """What both have in common."""

    def feed(self, data: bytes) -> list[bytes]:
        """See FrameReader."""

    def outgoing(self) -> bytes:
        """See FrameReader."""


VARIANTS: dict[str, Callable[[], Reader]] = {
    "ServerProtocol": lambda: ReferenceReader(LIMIT),
    "tidewire": lambda: FrameReader(LIMIT),
}


def rate(reader: Reader, chunk: bytes, frames: int) -> float:
    """Return frames per CPU second; `chunk` holds so many."""
    found = 0
    began = time.process_time()
    for _ in range(FRAMES // frames):
        found += len(reader.feed(chunk))
        reader.outgoing()
    spent = time.process_time() - began
    if found != FRAMES // frames * frames:
        raise AssertionError(f"{found} messages")
    return found / spent


def idle_bytes(create: Callable[[], Reader], chunk: bytes) -> float:
    """Return what one reader holds that has read `chunk`."""
    gc.collect()
    tracemalloc.start()
    readers = [create() for _ in range(READERS)]
    for reader in readers:
        reader.feed(chunk)
        reader.outgoing()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / READERS


def deflate_cost(payload: bytes, window_bits: int) -> tuple[float, float]:
    """Return the median of CPU microseconds for one payload, and the share of its bytes that is left."""
    costs = []
    for _ in range(101):
        began = time.process_time_ns()
        deflated = deflate(payload, window_bits)
        costs.append((time.process_time_ns() - began) / 1e3)
    return statistics.median(costs), len(deflated) / len(payload)


def document(size: int) -> bytes:
    """Return JSON of that many bytes, as varied as chat is."""
    chance = random.Random(1)
    words = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(3, 9))) for _ in range(300)]
    rows: list[dict[str, object]] = []
    while len(encoded := json.dumps(rows).encode()) < size:
        rows.append({"id": chance.randint(1, 10**6), "text": " ".join(chance.choices(words, k=6))})
    return encoded[:size]


def main() -> None:
    """Alternate the two, and print a line for each case."""
    for name, (opcode, payload) in PAYLOADS.items():
        frame = Frame(opcode, payload).serialize(mask=True)
        for frames in (1, SLICE // len(frame)):
            results: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
            for _ in range(ROUNDS):
                for variant, create in VARIANTS.items():
                    results[variant].append(rate(create(), frame * frames, frames))
            for variant, rates in results.items():
                middle, least, most = statistics.median(rates), min(rates), max(rates)
                print(
                    f"{name:7} {frames:3} a read  {variant:15} {middle / 1e3:7.0f}k frames/s"
                    f"  ({least / 1e3:.0f}k to {most / 1e3:.0f}k)"
                )
    frame = Frame(*PAYLOADS["text"]).serialize(mask=True)
    for variant, create in VARIANTS.items():
        print(f"idle                {variant:15} {idle_bytes(create, frame):7.0f} bytes a reader")
    for size in (128, 512, 4096, 65_536):
        for window_bits in (9, 12, 15):
            cost, left = deflate_cost(document(size), window_bits)
            print(f"deflate {size:6} bytes, window of {window_bits:2} bits {cost:7.1f} us, {left:4.0%} left")


if __name__ == "__main__":
    main()
