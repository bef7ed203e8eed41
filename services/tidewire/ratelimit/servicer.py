"""The gRPC service for edges: its messages into calls of buckets and places, and answers into its messages."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final

from tidewire.kernel import errors
from tidewire.kernel.call_errors import refusal
from tidewire.platform import rpc_library as _grpc_first  # noqa: F401 - before the generated code, which imports gRPC
from tidewire.platform.rpc_server import Service
from tidewire.ratelimit.places import Holding
from tidewire.rpc.ratelimit.v1 import ratelimit_pb2 as pb
from tidewire.rpc.ratelimit.v1 import ratelimit_pb2_grpc as generated

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidewire.ratelimit.places import Places
    from tidewire.ratelimit.rulebook import Rulebook

NAME: Final = "tidewire.rpc.ratelimit.v1.RateLimit"
MOST_KEYS: Final = 1_000
"""In one call."""
LONGEST_KEY: Final = 128
"""Bytes; edges send a digest of what is longer."""
LONGEST_EDGE: Final = 128
_MS: Final = 1000
_MOST_MS: Final = 2**32 - 1


class RateLimitServicer:
    """Implements `tidewire.rpc.ratelimit.v1.RateLimit`; what goes wrong is a CallError."""

    def __init__(self, rulebook: Rulebook, places: Places, monotonic: Callable[[], float]) -> None:
        self._rulebook = rulebook
        self._places = places
        self._now = monotonic
        self.unspent = 0
        """Tokens that came back."""

    def service(self) -> Service:
        """Return what a server takes."""
        return Service(NAME, self._add)

    def _add(self, server: Any) -> None:  # noqa: ANN401 - gRPC's server
        generated.add_RateLimitServicer_to_server(self, server)  # type: ignore[no-untyped-call] # generated

    async def Lease(self, request: pb.LeaseRequest, _context: object) -> pb.LeaseReply:  # noqa: N802 - the method's name
        """Tokens of many keys; first what comes back is put back."""
        _bounded([*request.asks, *request.unspent])
        now = self._now()
        for back in request.unspent:
            self._take_back(back)
        return pb.LeaseReply(grants=[self._grant(ask, now) for ask in request.asks])

    def _grant(self, ask: pb.Ask, now: float) -> pb.Grant:
        rule = self._rulebook.rules.get(ask.rule)
        if rule is None:
            return pb.Grant(unknown=True)
        granted = rule.buckets.grant(ask.key, now, ask.tokens)
        rule.outcomes["granted" if granted.tokens else "refused"] += 1
        rule.outcomes["tokens"] += granted.tokens
        if granted.tokens:
            return pb.Grant(tokens=granted.tokens)
        return pb.Grant(retry_after_ms=min(_MOST_MS, max(1, ceil(granted.wait * _MS))))

    def _take_back(self, back: pb.Unspent) -> None:
        rule = self._rulebook.rules.get(back.rule)
        if rule is not None:
            rule.buckets.give_back(back.key, back.tokens, back.age_ms / _MS)
            self.unspent += back.tokens

    async def Hold(self, request: pb.HoldRequest, _context: object) -> pb.HoldReply:  # noqa: N802 - as above
        """Places for connections."""
        _bounded(request.holds)
        if not 0 < len(request.edge) <= LONGEST_EDGE:
            raise refusal(errors.BAD_REQUEST.saying(f"edge: a name of 1 to {LONGEST_EDGE} characters"))
        if not self._places.takes(request.edge):
            raise refusal(errors.LIMIT_EXCEEDED.saying("more edges than there is room for"))
        holdings = [
            Holding(each.rule, each.key, each.held, each.wanted, each.moved) for each in request.holds
        ]
        found = self._places.hold(request.edge, request.sequence, holdings, self._now(), anew=request.anew)
        if found is None:
            raise refusal(errors.EXPIRED.saying("a later call of this edge came before"))
        life, places = found
        told = [
            pb.Place(granted=place.granted, learning=place.learning, unknown=not place.known, over=place.over)
            for place in places
        ]
        return pb.HoldReply(places=told, life=life)


def _bounded(items: Any) -> None:  # noqa: ANN401 - repeated messages with a key
    if len(items) > MOST_KEYS:
        raise refusal(errors.BAD_REQUEST.saying(f"more than {MOST_KEYS} keys"))
    if any(len(item.key) > LONGEST_KEY for item in items):
        raise refusal(errors.BAD_REQUEST.saying(f"a key of more than {LONGEST_KEY} bytes"))
