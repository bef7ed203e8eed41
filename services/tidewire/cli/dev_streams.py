"""The streams of `tidewire dev`: what `tidewire migrate` does, before edges start and before they reload."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tidewire.cli.dev_mesh import MeshError
from tidewire.edge.config import EdgeConfig
from tidewire.storage.migration import connected, orders, prepare
from tidewire.storage.report import lines


async def migrate(config: EdgeConfig, nats_url: str, show: Callable[[str], None], *, force: bool) -> None:
    """Make the streams as configured; `show` gets a line for each change. Raises MeshError where that is refused.

    `force`: what is stored may go. It is a mesh for trying things, in which no edge runs yet that could be surprised.
    """
    nats = msgspec.structs.replace(config.nats, urls=(nats_url,))
    async with connected(nats) as js:
        deployment = msgspec.structs.replace(config, nats=nats)
        migration = await prepare(js, deployment, orders(settle=0.0))
        if against := migration.plan.against(force=force):
            cure = (
                f"delete {config.dev.data_dir} to start afresh"
                if force
                else "end the mesh and start it again"
            )
            raise MeshError("\n  ".join(["the streams cannot be as configured:", *against, cure]))
        for line in lines(migration.plan.work):
            show(line)
        await migration.carry_out(js, lambda _step: None)
