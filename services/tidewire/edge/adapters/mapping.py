"""Does the NATS node behind the link map `tw.pub` to the partitions that this edge computes?

Proved by probe messages after each (re)connect. A node without the mapping would lose native publications silently, so
edges also stand in for it: as one queue group they hear `tw.pub.>`, which on a mapped node nobody ever receives on, and
put what they find there where it belongs.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from typing import TYPE_CHECKING, NamedTuple

from tidewire.kernel.subjects import PROBE, in_subject_of_tokens
from tidewire.platform.nats_types import LinkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidewire.platform.nats_link import NatsLink

NONCES = 8
TIMEOUT = 2.0
RESCUE_GROUP = b"tw-map"
PUBLISH_PREFIX = b"tw.pub."
INTERNAL_PREFIX = b"tw.pub._tw."
UNMAPPED_HEADER = b"Tw-Unmapped: 1\r\n"
EMPTY_HEADER = b"NATS/1.0\r\n\r\n"


class Mapping(enum.Enum):
    """What a probe found. UNKNOWN: the link was lost meanwhile."""

    RIGHT = "right"
    MISSING = "missing"
    OTHER_PARTITIONS = "other_partitions"
    UNKNOWN = "unknown"


MAPPING_PROBLEMS = {
    Mapping.MISSING: "nats-server does not map tw.pub.>: add the mapping that `tidewire nats-config` prints",
    Mapping.OTHER_PARTITIONS: "nats-server maps tw.pub.> to another number of partitions than this edge",
    Mapping.UNKNOWN: "nats-server did not take the probe of its mapping",
}


class Sample(NamedTuple):
    """The channels that were probed, as subject tokens, and the subjects on which they came out."""

    probed: frozenset[str]
    seen: frozenset[bytes]

    def verdict(self, partitions: int) -> Mapping:
        """Return what this means for who computes so many partitions."""
        expected = {in_subject_of_tokens(tokens.encode(), partitions) for tokens in self.probed}
        if self.seen == expected:
            return Mapping.RIGHT
        return Mapping.OTHER_PARTITIONS if self.seen - expected else Mapping.MISSING


async def probe(link: NatsLink, partitions: int) -> Mapping:
    """Publish 8 nonces on `tw.pub._tw.chk.<nonce>` and judge where they come out, within about 2 s."""
    found = await sample(link)
    return Mapping.UNKNOWN if found is None else found.verdict(partitions)


async def sample(link: NatsLink) -> Sample | None:
    """Publish 8 nonces and see where they come out; None where the link was lost or the server does not answer.

    The server delivers to this link before it answers the PING behind the nonces: only what is missing after that answer
    is the mapping's fault. Without the answer nothing is known.
    """
    probed = frozenset(f"{PROBE}.{secrets.token_hex(8)}" for _ in range(NONCES))
    seen: set[bytes] = set()
    processed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def receive(subject: bytes, _reply: bytes, _header: bytes, _payload: bytes) -> None:
        if subject.split(b".", 3)[3].decode("latin-1") in probed:
            seen.add(subject)

    def answered(passed: bool) -> None:
        if not processed.done():
            processed.set_result(passed)

    handle = link.subscribe(f"tw.in.*.{PROBE}.*".encode(), receive)
    try:
        for tokens in probed:
            link.publish(f"tw.pub.{tokens}".encode(), b"")
        link.barrier(answered, TIMEOUT)
        return Sample(probed, frozenset(seen)) if await processed else None
    except LinkError:
        return None
    finally:
        link.unsubscribe(handle)


def rescue(
    link: NatsLink, partitions: int, found: Callable[[], None], lost: Callable[[LinkError], None]
) -> None:
    """Re-publish what appears on `tw.pub` to its partition, with reply and headers and `Tw-Unmapped: 1`.

    `found` hears of each, and `lost` why one could not be sent on: with the mark it may be over max_payload.
    """

    def receive(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        if subject.startswith(INTERNAL_PREFIX):
            return
        target = in_subject_of_tokens(subject[len(PUBLISH_PREFIX) :], partitions)
        marked = (header or EMPTY_HEADER)[:-2] + UNMAPPED_HEADER + b"\r\n"
        found()
        try:
            link.publish(target, payload, marked, reply)
        except LinkError as error:
            lost(error)

    link.subscribe(b"tw.pub.>", receive, RESCUE_GROUP)
