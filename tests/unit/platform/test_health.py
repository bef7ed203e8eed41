from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

from prometheus_client.parser import text_string_to_metric_families

from tests.support.http import HttpAnswer, request
from tidewire.platform.health import internal_app
from tidewire.platform.http import http_protocol, listen
from tidewire.platform.metrics import CONTENT_TYPE, Counter, Registry


class Internal:
    """The internal port of a process whose readiness the test decides."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.reason: str | None = None
        self.port = 0

    async def get(self, path: str, method: str = "GET") -> HttpAnswer:
        """Ask."""
        return await request(f"http://127.0.0.1:{self.port}{path}", method=method)


@contextlib.asynccontextmanager
async def internal() -> AsyncIterator[Internal]:
    """Serve on a free port."""
    found = Internal()
    app = internal_app(found.registry, lambda: found.reason)
    server = await listen(http_protocol(app), "127.0.0.1", 0, "http.internal_port")
    found.port = server.port
    try:
        yield found
    finally:
        server.close()


async def test_ready_follows_what_the_process_says() -> None:
    """200, or 503 with the reason; asked anew each time."""
    async with internal() as process:
        for reason in (None, "starting", None, "draining"):
            process.reason = reason
            answer = await process.get("/ready")
            assert answer.status == (200 if reason is None else 503)
            expected = {"ready": True} if reason is None else {"ready": False, "reason": reason}
            assert json.loads(answer.body) == expected


async def test_live_asks_nothing_but_the_loop() -> None:
    """A process that is not ready must not be restarted for it."""
    async with internal() as process:
        process.reason = "starting"
        answer = await process.get("/live")
    assert (answer.status, json.loads(answer.body)) == (200, {"live": True})


async def test_metrics_are_what_prometheus_reads() -> None:
    """With its content type and one charset."""
    async with internal() as process:
        things = Counter("tidewire_things", "Things.")
        process.registry.add([things])
        things.inc(3)
        answer = await process.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["content-type"].count("charset=utf-8") == 1
    found = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert found["tidewire_things"].samples[0].value == 3
    assert "process_resident_memory_bytes" in found


async def test_nothing_else_is_there_and_nothing_can_be_changed() -> None:
    """404 and 405."""
    async with internal() as process:
        assert [(await process.get(path)).status for path in ("/", "/metrics/x", "/docs")] == [404] * 3
        assert [(await process.get(path, "POST")).status for path in ("/ready", "/live", "/metrics")] == [
            405
        ] * 3
