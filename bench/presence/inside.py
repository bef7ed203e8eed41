"""A replica without NATS and gRPC, in a process of its own: what changes cost it, and what members take.

As a program it reads from standard input what NATS would bring (`messages`), and prints one `Inside` as JSON.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec

from bench.load.machine import private_bytes
from bench.presence.crowd import EDGES, PARTITIONS, Crowd, said
from tests.fakes.presence import Bench
from tidewire.platform.garbage import settle
from tidewire.presence.adapters.nats_mesh import Ears

PIECE = 200
"""Messages between two looks at the clock."""
JOINS, LEAVES = b"j", b"l"


class Inside(msgspec.Struct, frozen=True):
    """One run: seconds of CPU for all joins (with what goes along) and for all leaves, and bytes that the entries took."""

    members: int
    entries: int
    joins: float
    leaves: float
    bytes: float


class _Link:
    """Takes subscriptions."""

    def __init__(self) -> None:
        self.callbacks: dict[bytes, Any] = {}

    def subscribe(self, subject: bytes, callback: Any) -> int:  # noqa: ANN401 - as NatsLink has it
        """Keep it."""
        self.callbacks[subject] = callback
        return 0


class _Complaints:
    """Hears of dropped messages: there are none."""

    def dropped(self, reason: str) -> None:
        """End."""
        raise AssertionError(reason)


def messages(crowd: Crowd) -> Iterator[bytes]:
    """Yield all joins of all edges and then all leaves, each message with its kind, its subject and their lengths."""
    gone: list[bytes] = []
    for edge in range(EDGES):
        for partition, each in said(crowd, edge).items():
            subject = f"tw.pres.d.{partition}.edge-{edge}".encode()
            for payload in each.deltas:
                yield _framed(JOINS, subject, payload)
            gone += [_framed(LEAVES, subject, payload) for payload in each.leaves]
    yield from gone


def _framed(kind: bytes, subject: bytes, payload: bytes) -> bytes:
    return b"%b%04d%08d%b%b" % (kind, len(subject), len(payload), subject, payload)


def run(crowd: Crowd) -> Inside:
    """Measure one crowd in a process of its own."""
    command = [sys.executable, "-m", "bench.presence.inside"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        if child.stdin is None or child.stdout is None:
            raise AssertionError("it was started with pipes")
        child.stdin.writelines(messages(crowd))
        child.stdin.close()
        return msgspec.json.decode(child.stdout.read(), type=Inside)


def measure(source: IO[bytes]) -> Inside:
    """Give a replica what is read, and say what that took."""
    bench = Bench(partitions=range(PARTITIONS), most_entries=10**9)
    link: Any = _Link()
    Ears(PARTITIONS, bench.replica, _Complaints(), lambda: bench.now).subscribe(link, ())
    take = link.callbacks[b"tw.pres.d.*.*"]
    settle()
    before, after = private_bytes(os.getpid()), 0
    spent = {JOINS: 0.0, LEAVES: 0.0}
    members = entries = 0
    for kind, piece in _pieces(source):
        if kind == LEAVES and not after:
            gc.collect()
            after = private_bytes(os.getpid())
            counts = bench.replica.mesh.counts()
            members, entries = counts["members"], sum(counts.values())
        began = time.process_time()
        for subject, payload in piece:
            take(subject, b"", b"", payload)
        spent[kind] += time.process_time() - began
    if bench.replica.mesh.counts()["members"]:
        raise AssertionError("somebody has not left")
    return Inside(members, entries, spent[JOINS], spent[LEAVES], after - before)


def _pieces(source: IO[bytes]) -> Iterable[tuple[bytes, list[tuple[bytes, bytes]]]]:
    """Yield messages of one kind, not too many at once."""
    kind, piece = JOINS, list[tuple[bytes, bytes]]()
    while head := source.read(13):
        if piece and (head[:1] != kind or len(piece) >= PIECE):
            yield kind, piece
            piece = []
        kind = head[:1]
        piece.append((source.read(int(head[1:5])), source.read(int(head[5:]))))
    yield kind, piece


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measure(sys.stdin.buffer)))
