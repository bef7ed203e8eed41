"""Each service as a real process whose work fails: it drains, says why, and ends, so that whoever runs it starts it anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.history import HistoryProcess, history_config, migrated
from tests.support.nats_server import NatsServer
from tests.support.presence import PresenceProcess, presence_config
from tests.support.ratelimit import RateLimitProcess

FAILING = """
import asyncio
from tidewire.cli.main import main
from {module} import {name}

async def run(self):
    await asyncio.sleep(0)
    raise ZeroDivisionError("a mistake")

{name}.run = run
main(prog_name="tidewire")
"""


async def failing_history(server: NatsServer, folder: Path) -> HistoryProcess:
    """A history process."""
    config = history_config(server.url)
    await migrated(config)
    return HistoryProcess(folder, config)


async def failing_presence(server: NatsServer, folder: Path) -> HistoryProcess:
    """A presence process."""
    return PresenceProcess(folder, presence_config(server.url))


async def failing_ratelimit(_server: NatsServer, folder: Path) -> HistoryProcess:
    """A rate-limit process."""
    return RateLimitProcess(folder)


@pytest.mark.parametrize(
    ("create", "module", "name"),
    [
        (failing_history, "tidewire.history.app", "History"),
        (failing_presence, "tidewire.presence.app", "Presence"),
        (failing_ratelimit, "tidewire.ratelimit.app", "RateLimit"),
    ],
)
async def test_a_service_whose_work_fails_ends(
    create: Callable[[NatsServer, Path], Awaitable[HistoryProcess]], module: str, name: str, tmp_path: Path
) -> None:
    """After a drain, with exit code 70, and the stack in the log."""
    with NatsServer(tmp_path / "nats", jetstream=True) as server:
        process = await create(server, tmp_path / "service")
        process.program = ("-c", FAILING.format(module=module, name=name))
        process.launch()
        try:
            assert await process.exit_code() == 70
        finally:
            process.kill()
    (failed,) = process.logged("process.failed")
    assert failed["exception"].endswith("ZeroDivisionError: a mistake")
    assert process.logged("process.stopped"), "it ended in order"
    assert process.logged(f"{process.command}.drained"), "calls that there were have ended"
