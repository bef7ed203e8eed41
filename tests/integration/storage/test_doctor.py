"""What the doctor finds of streams, on a real nats-server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fakes.edge import KEY
from tests.support.least_rights import PASSWORDS, VARIABLES, printed
from tests.support.nats_server import NatsServer
from tests.support.storage import PARTITIONS, migrate, migrated, storage_config
from tidewire.doctor.facts import StorageFacts
from tidewire.doctor.storage_facts import read_storage
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode
from tidewire.platform.jetstream import JetStream


async def found(config: dict[str, Any]) -> StorageFacts:
    """The facts for an edge with this configuration."""
    key = {"client": {"token": {"hmac_secret_key": KEY}}}
    return await read_storage(decode(EdgeConfig, {**msgspec.to_builtins(config), **key}))


async def test_it_finds_what_a_migration_would_do(server: NatsServer, js: JetStream) -> None:
    """Before the first one, after it, and after another change."""
    config = storage_config(server.url, {"chat": {}})
    before = await found(config)
    assert before.namespaces == ("chat",)
    assert before.differing[0].startswith("there is no TW_META in JetStream")
    assert before.work is not None
    assert any(line.startswith("create  TW_default_0 to 1") for line in before.work)
    await migrate(js, config)
    assert await found(config) == StorageFacts(namespaces=("chat",), work=())
    changed = await found(storage_config(server.url, {"chat": {}, "live": {}}))
    assert changed.differing == ("namespace live has no stream yet: run `tidewire migrate`",)
    assert changed.work is not None
    assert changed.work[0].endswith("takes live")
    assert await found(storage_config("nats://127.0.0.1:1", {})) == StorageFacts()


async def test_with_an_edges_rights_it_finds_what_an_edge_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says that it may not list the streams, without waiting for an answer that will not come."""
    for name, password in VARIABLES.items():
        monkeypatch.setenv(name, password)
    with NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", PARTITIONS)) as server:

        def config(user: str) -> dict[str, Any]:
            login = {"user": user, "password": PASSWORDS[user]}
            return storage_config(server.url, {"chat": {}}, nats=login)

        assert (await found(config("edge"))).differing != ()
        assert migrated(tmp_path, config("migrate"))[0] == 0
        assert await found(config("edge")) == StorageFacts(namespaces=("chat",), work=None)


async def test_what_cannot_be_asked_is_a_problem(server: NatsServer) -> None:
    """In the words of who said so."""
    config = storage_config(server.url, {"chat": {}}, nats={"connect_timeout": "100ms"})
    server.kill()
    facts = await found(config)
    assert facts.problem.startswith("nothing answers at")
