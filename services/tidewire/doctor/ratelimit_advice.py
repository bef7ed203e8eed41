"""Are the replicas there that count for rate limits? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tidewire.doctor.findings import Finding, ok, warn


def advise_ratelimit(replicas: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is to be said of each replica, whose problem is "" where it answers."""
    for replica, problem in replicas.items():
        if not problem:
            yield ok("rate-limit service", f"{replica} answers")
            continue
        yield warn(
            "rate-limit service",
            f"{replica}: {problem}",
            "its keys go to the next replica; without one, when_down of each rule decides",
            "tidewire ratelimit; rate_limits.replicas and rate_limits.tls as rate_limit_service.rpc has them",
        )
    if len(replicas) == 1:
        yield warn(
            "rate-limit service",
            "there is one replica",
            "while it is away, when_down of each rule decides",
            "a second one in rate_limits.replicas",
        )
