"""Are the services there that edges ask? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tidewire.doctor.findings import Finding, ok, warn


def advise_history(problem: str | None) -> Iterator[Finding]:
    """Yield what is to be said of the history service: nothing where no namespace needs it."""
    if problem:
        yield warn(
            "history service",
            problem,
            "clients get error 100 for positions, recovery and history",
            "tidewire history; history.target and history.tls as history_service.rpc has them",
        )
    elif problem is not None:
        yield ok("history service", "answers at history.target")


def advise_presence(problem: str | None) -> Iterator[Finding]:
    """Yield what is to be said of the presence service: nothing where edges announce nobody."""
    if problem:
        yield warn(
            "presence service",
            problem,
            "clients get error 100 for presence, and nobody tells the leaves of an edge that dies",
            "tidewire presence; presence.target and presence.tls as presence_service.rpc has them",
        )
    elif problem is not None:
        yield ok("presence service", "answers at presence.target")


def advise_ratelimit(replicas: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is to be said of each replica, whose problem is "" where it answers."""
    for replica, problem in replicas.items():
        if problem:
            yield warn(
                "rate-limit service",
                f"{replica}: {problem}",
                "its keys go to the next replica; without one, when_down of each rule decides",
                "tidewire ratelimit; rate_limits.replicas and rate_limits.tls as rate_limit_service.rpc has them",
            )
        else:
            yield ok("rate-limit service", f"{replica} answers")
    if len(replicas) == 1:
        yield warn(
            "rate-limit service",
            "there is one replica",
            "while it is away, when_down of each rule decides",
            "a second one in rate_limits.replicas",
        )
