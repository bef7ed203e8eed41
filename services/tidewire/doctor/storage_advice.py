"""Are the streams there that namespaces with history need? Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tidewire.doctor.facts import StorageFacts
from tidewire.doctor.findings import Finding, fail, ok, skip, warn

_PLAN: Final = "tidewire migrate --dry-run, and if that is what you want: tidewire migrate"


def advise_storage(storage: StorageFacts) -> Iterator[Finding]:
    """Yield the findings; none where nothing is stored."""
    if not storage.namespaces:
        return
    if storage.problem:
        yield fail(
            "TW_META",
            storage.problem,
            "an edge does not start where channels have history",
            "nats-server: JetStream on, and the rights of this user as printed by: tidewire nats-config",
        )
        return
    yield from _record(storage)
    yield _streams(storage)


def _record(storage: StorageFacts) -> Iterator[Finding]:
    why = "an edge with this configuration refuses to start"
    for line in storage.differing:
        cure = (
            "set nats.partitions, and nats-server's mapping" if line.startswith("nats.partitions") else _PLAN
        )
        yield fail("TW_META", line, why, cure)
    if not storage.differing:
        yield ok("TW_META", f"as configured: {', '.join(storage.namespaces)}")


def _streams(storage: StorageFacts) -> Finding:
    name = "streams"
    if storage.work is None:
        return skip(
            name, f"this NATS user may not list them, as it should be; with that of migrations: {_PLAN}"
        )
    if not storage.work:
        return ok(name, "as configured")
    found = "; ".join(" ".join(line.split()) for line in storage.work)
    if any(line.startswith("create") for line in storage.work):
        return fail(name, found, "publications to what has no stream are refused", _PLAN)
    return warn(name, found, "they are not as configured", _PLAN)
