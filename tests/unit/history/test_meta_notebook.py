from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.fakes.nats import FakeLink
from tidewire.history.adapters.meta_notebook import MetaNotebook
from tidewire.history.ports import StoreAway
from tidewire.history.records import ABSENT, Record
from tidewire.kernel.streams import new_door

DOOR = new_door("secret")
"""Where the bucket is written."""


async def asked(work: Any, answer: dict[str, Any] | bytes, link: FakeLink) -> Any:
    """What becomes of a request with this answer."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    link.requests[-1][2](b"", payload)
    return await task


@pytest.fixture
def link() -> FakeLink:
    """Whose requests the test answers."""
    return FakeLink()


@pytest.fixture
def notebook(link: Any) -> MetaNotebook:
    """A notebook on it."""
    return MetaNotebook(link, "_INBOX_x")


def message(header: str, data: bytes = b"v") -> dict[str, Any]:
    """A leader's answer."""
    encoded = {"hdrs": base64.b64encode(header.encode()).decode(), "data": base64.b64encode(data).decode()}
    return {"message": {"seq": 7, "time": "2026-01-01T00:00:00Z", "subject": "x", **encoded}}


async def test_a_record_has_its_life_and_its_revision(notebook: MetaNotebook, link: FakeLink) -> None:
    """One that was deleted has no value, but a revision: the next one is written behind it."""
    read = await asked(notebook.read("nonce.s"), message("NATS/1.0\r\nTw-Epoch: e\r\n\r\n"), link)
    assert read == Record(b"v", 7, "e")
    deleted = await asked(notebook.read("nonce.s"), message("NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"), link)
    assert deleted == Record(b"", 7, "")


async def test_no_record(notebook: MetaNotebook, link: FakeLink) -> None:
    """404 is that there is none; any other error is that nobody knows."""
    error = {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}
    assert await asked(notebook.read("nonce.s"), error, link) is ABSENT
    with pytest.raises(StoreAway, match="no leader"):
        await asked(notebook.read("nonce.s"), {"error": {"code": 503, "description": "no leader"}}, link)


async def test_a_record_is_replaced_as_it_was_read(notebook: MetaNotebook, link: FakeLink) -> None:
    """Where somebody else was faster nothing is written; and an answer that is none is no success."""
    bucket = {"config": {"subjects": ["$KV.TW_META.>", f"{DOOR}.>"]}}
    with pytest.raises(StoreAway, match="did not take notes"):
        await asked(notebook.write("notes.s", b"[]", 7), {"config": {"subjects": []}}, link)
    task = asyncio.ensure_future(notebook.write("notes.s", b"[]", 7, "e"))
    await asyncio.sleep(0)
    link.requests[-1][2](b"", json.dumps(bucket).encode())
    await asyncio.sleep(0)
    assert await asked(task, {"stream": "KV_TW_META", "seq": 8}, link)
    sent = link.requests[-1][0]
    assert sent.subject == f"{DOOR}.notes.s".encode()
    assert b"Nats-Expected-Last-Subject-Sequence: 7\r\nTw-Epoch: e\r\n" in sent.header
    outrun = {"error": {"code": 400, "err_code": 10071, "description": "wrong last sequence"}}
    assert not await asked(notebook.write("notes.s", b"[]", 7), outrun, link)
    for answer in ({"error": {"code": 500, "err_code": 10077, "description": "full"}}, b"", b"x"):
        notebook._door = DOOR
        with pytest.raises(StoreAway, match="did not take notes"):
            await asked(notebook.write("notes.s", b"[]", 7), answer, link)
