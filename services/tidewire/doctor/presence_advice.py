"""Is the service there that knows who is in channels? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tidewire.doctor.findings import Finding, ok, warn


def advise_presence(problem: str | None) -> Iterator[Finding]:
    """Yield what is to be said of the presence service: nothing where edges announce nobody."""
    if problem is None:
        return
    if not problem:
        yield ok("presence service", "answers at presence.target")
        return
    yield warn(
        "presence service",
        problem,
        "clients get error 100 for presence, and nobody tells the leaves of an edge that dies",
        "tidewire presence; presence.target and presence.tls as presence_service.rpc has them",
    )
