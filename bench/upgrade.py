"""Answering upgrade requests: ours beside websockets' `ServerProtocol`, on the same requests, runs alternated.

CPU is that of the process, in microseconds for each upgrade: medians and spread of the rounds. `bare` is ServerProtocol
with nothing else; the two others judge the request besides, as the edge does, and agree on compression where that is on.
Memory is what is left of an upgrade (tracemalloc) when its response is sent: of ServerProtocol where it is kept, as
websockets' own servers do.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

from websockets.server import ServerProtocol

from tests.support.reference_upgrade import bare_upgrade, reference_answer
from tests.support.upgrade_requests import CLIENTS
from tidewire.edge.handshake import Accept, HeaderFields, Readiness, Refuse, decide
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.request_head import RequestHead
from tidewire.edge.upgrade import answer_to

UPGRADES = 2_000
ROUNDS = 9
ORIGINS = OriginPolicy([])


def judge(target: str, fields: HeaderFields) -> Accept | Refuse:
    """What the edge asks about each request."""
    return decide(target, fields, ORIGINS, Readiness(0, 1, broker=True))


def judge_head(request: RequestHead) -> Accept | Refuse:
    """The same, of a request that the edge has read itself."""
    return judge(request.target, request)


def reference(head: bytes, *, compress: bool) -> bytes:
    """The edge's verdict between ServerProtocol's reading and answering."""
    return reference_answer(head, judge, compress=compress).response


def tidewire(head: bytes, *, compress: bool) -> bytes:
    """What the edge does."""
    return answer_to(head, judge_head, compress=compress).response


VARIANTS: dict[str, Callable[[bytes], object]] = {
    "ServerProtocol, bare": bare_upgrade,
    "ServerProtocol": partial(reference, compress=False),
    "tidewire": partial(tidewire, compress=False),
    "ServerProtocol, deflate": partial(reference, compress=True),
    "tidewire, deflate": partial(tidewire, compress=True),
}


def cost(upgrade: Callable[[bytes], object], head: bytes) -> float:
    """Return CPU microseconds for one upgrade."""
    began = time.process_time()
    for _ in range(UPGRADES):
        upgrade(head)
    return (time.process_time() - began) / UPGRADES * 1e6


def kept_protocol(head: bytes) -> ServerProtocol:
    """An upgrade whose ServerProtocol goes on to read the frames."""
    protocol = ServerProtocol()
    protocol.receive_data(head)
    (request,) = protocol.events_received()
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    return protocol


def accepted(head: bytes) -> Accept | None:
    """What the edge keeps: the verdict, until the session has begun."""
    return answer_to(head, judge_head, compress=True).accept


def left_bytes(upgrade: Callable[[bytes], object], head: bytes) -> float:
    """Return what one upgrade leaves behind."""
    gc.collect()
    tracemalloc.start()
    kept = [upgrade(head) for _ in range(UPGRADES)]
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / len(kept)


def main() -> None:
    """Alternate them, and print a line for each case."""
    for client in ("Chrome", "Node ws"):
        head = CLIENTS[client]
        results: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(ROUNDS):
            for variant, upgrade in VARIANTS.items():
                results[variant].append(cost(upgrade, head))
        for variant, costs in results.items():
            middle, least, most = statistics.median(costs), min(costs), max(costs)
            print(f"{client:8} {variant:24} {middle:6.1f} us an upgrade  ({least:.1f} to {most:.1f})")
        for name, upgrade in {"ServerProtocol, kept": kept_protocol, "tidewire": accepted}.items():
            print(f"{client:8} {name:24} {left_bytes(upgrade, head):6.0f} bytes left")


if __name__ == "__main__":
    main()
