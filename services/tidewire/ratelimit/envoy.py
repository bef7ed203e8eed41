"""Envoy's rate limit service (version 3): descriptors to rules, hits to tokens."""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from tidewire.kernel import errors
from tidewire.kernel.call_errors import refusal
from tidewire.platform import rpc_library as _grpc_first  # noqa: F401 - before the generated code, which imports gRPC
from tidewire.platform.rpc_server import Service
from tidewire.ratelimit.rulebook import UNITS
from tidewire.rpc.envoy.v3 import rls_pb2 as pb
from tidewire.rpc.envoy.v3 import rls_pb2_grpc as generated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidewire.ratelimit.rulebook import Pattern, Rulebook

NAME: Final = "envoy.service.ratelimit.v3.RateLimitService"
MOST_DESCRIPTORS: Final = 100
MOST_ENTRIES: Final = 16
_MOST: Final = 2**32 - 1


class EnvoyServicer:
    """Implements `envoy.service.ratelimit.v3.RateLimitService`. Either all descriptors of a request are counted, or none is."""

    def __init__(self, rulebook: Rulebook, monotonic: Callable[[], float]) -> None:
        self._rulebook = rulebook
        self._now = monotonic

    def service(self) -> Service:
        """Return what a server takes."""
        return Service(NAME, self._add)

    def _add(self, server: Any) -> None:  # noqa: ANN401 - gRPC's server
        generated.add_RateLimitServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call] # generated

    async def ShouldRateLimit(  # noqa: N802 - the method's name
        self, request: pb.RateLimitRequest, _context: object
    ) -> pb.RateLimitResponse:
        """Judge a request of a gateway."""
        _refuse_odd(request)
        now = self._now()
        hits = request.hits_addend or 1
        found = [self._counted(request.domain, descriptor, hits) for descriptor in request.descriptors]
        waits: list[float] = [0.0 if one is None else one.take(now) for one in found]
        over = [
            wait > 0 and one is not None and not one.dry_run for one, wait in zip(found, waits, strict=True)
        ]
        for one, wait in zip(found, waits, strict=True):
            if one is not None:
                one.settle(wait, undone=any(over))
        codes = pb.RateLimitResponse
        statuses = [
            _status(one, wait, now, codes.OVER_LIMIT if is_over else codes.OK)
            for one, wait, is_over in zip(found, waits, over, strict=True)
        ]
        return pb.RateLimitResponse(
            overall_code=codes.OVER_LIMIT if any(over) else codes.OK, statuses=statuses
        )

    def _counted(self, domain: str, descriptor: pb.RateLimitDescriptor, hits: int) -> _Counted | None:
        keys = tuple(entry.key for entry in descriptor.entries)
        values = [entry.value for entry in descriptor.entries]
        pattern = self._rulebook.find(domain, keys, values)
        if pattern is None:
            return None
        own = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else hits
        return _Counted(pattern, _key(values), own)


class _Counted:
    """A descriptor with the rule that is for it."""

    __slots__ = ("_hits", "_key", "_pattern", "dry_run")

    def __init__(self, pattern: Pattern, key: bytes, hits: int) -> None:
        self._pattern = pattern
        self._key = key
        self._hits = hits
        self.dry_run = pattern.rule.dry_run

    def take(self, now: float) -> float:
        """Count it; return the seconds until it could be counted, 0.0 where it was."""
        return self._pattern.counted.buckets.take(self._key, now, self._hits)

    def settle(self, wait: float, *, undone: bool) -> None:
        """Say what became of it; where another descriptor is over its limit, what was counted is `undone`."""
        counted = self._pattern.counted
        if wait:
            counted.outcomes["would_be_refused" if self.dry_run else "refused"] += 1
        elif undone:
            counted.buckets.put_back(self._key, self._hits)
        else:
            counted.outcomes["granted"] += 1

    def tell(self, status: pb.RateLimitResponse.DescriptorStatus, wait: float, now: float) -> None:
        """Say what the limit is and what is left; the reset is when it would pass, or when all is there again."""
        rule = self._pattern.rule
        left, full = self._pattern.counted.buckets.left(self._key, now)
        status.current_limit.name = rule.name
        status.current_limit.requests_per_unit = min(rule.limit, _MOST)
        unit: Any = UNITS.get(float(rule.period), 0)
        status.current_limit.unit = unit
        status.limit_remaining = min(int(left), _MOST)
        status.duration_until_reset.FromTimedelta(timedelta(seconds=min(wait or full, 86400 * 365)))


def _status(
    one: _Counted | None, wait: float, now: float, code: pb.RateLimitResponse.Code
) -> pb.RateLimitResponse.DescriptorStatus:
    status = pb.RateLimitResponse.DescriptorStatus(code=code)
    if one is not None:
        one.tell(status, wait, now)
    return status


def _key(values: Sequence[str]) -> bytes:
    """Return the bucket's key: the values, of whatever length, none of which can be taken for two others."""
    parts = [value.encode() for value in values]
    return blake2b(b"".join(b"%d:%b" % (len(part), part) for part in parts), digest_size=16).digest()


def _refuse_odd(request: pb.RateLimitRequest) -> None:
    """Raise CallError for what the API does not allow, is more than anybody needs, or would be counted wrongly."""
    if not request.domain:
        raise refusal(errors.BAD_REQUEST.saying("a request has a domain"))
    if not 0 < len(request.descriptors) <= MOST_DESCRIPTORS:
        raise refusal(errors.BAD_REQUEST.saying(f"a request has 1 to {MOST_DESCRIPTORS} descriptors"))
    if not all(0 < len(each.entries) <= MOST_ENTRIES for each in request.descriptors):
        raise refusal(errors.BAD_REQUEST.saying(f"a descriptor has 1 to {MOST_ENTRIES} entries"))
    if any(each.is_negative_hits for each in request.descriptors):
        raise refusal(errors.BAD_REQUEST.saying("negative hits are not counted: nothing gives tokens back"))
