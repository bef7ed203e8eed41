"""Migrations and storage with the users that `tidewire nats-config` prints: what they need they may, and nobody else may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.least_rights import PASSWORDS, VARIABLES, printed
from tests.support.links import NotingListener, Received, settled, started
from tests.support.nats_server import NatsServer
from tests.support.storage import PARTITIONS, migrated, published, storage_config
from tests.support.wait import eventually
from tidewire.kernel.nats_config import inbox_prefix
from tidewire.kernel.streams import META_STREAM
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.meta import read_meta
from tidewire.platform.nats_link import NatsLink


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NatsServer]:
    """A server with these users alone."""
    for name, password in VARIABLES.items():
        monkeypatch.setenv(name, password)
    with NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", PARTITIONS)) as server:
        yield server


@asynccontextmanager
async def logged_in(server: NatsServer, user: str) -> AsyncIterator[tuple[NatsLink, NotingListener]]:
    """A link of one of the users."""
    login = {"user": user, "password": PASSWORDS[user], "inbox_prefix": inbox_prefix(user)}
    async with started(server.url, **login) as (link, listener):
        yield link, listener


def as_user(server: NatsServer, user: str, **profiles: str) -> dict[str, object]:
    """The configuration of a migration by a user; namespaces with their profiles."""
    namespaces = {name: {"storage_profile": profile} for name, profile in profiles.items()}
    return storage_config(server.url, namespaces, nats={"user": user, "password": PASSWORDS[user]})


async def test_a_whole_migration_needs_no_other_right(strict: NatsServer, tmp_path: Path) -> None:
    """Creation, change, move, generation, and the end of a profile: the server refuses nothing."""
    for arguments, profiles in [
        ((), {"chat": "default"}),
        ((), {"chat": "default", "live": "default"}),
        (("--move", "chat", "--settle", "0"), {"chat": "fast", "live": "default"}),
        (("--new-generation",), {"chat": "fast", "live": "default"}),
        (("--force", "--settle", "0"), {"chat": "fast"}),
    ]:
        code, _, errors = migrated(tmp_path, as_user(strict, "migrate", **profiles), *arguments)
        assert (code, errors) == (0, "")
        async with logged_in(strict, "edge") as (link, _listener):
            assert "seq" in await published(JetStream(link), "chat:a")
    assert "Permissions Violation" not in strict.log


@pytest.mark.parametrize("user", ["edge", "history", "app"])
def test_nobody_else_migrates(strict: NatsServer, tmp_path: Path, user: str) -> None:
    """And is told so at once, with the user to take."""
    code, _, errors = migrated(tmp_path, as_user(strict, user, chat="default"))
    assert code == 69
    assert errors == (
        f"Error: NATS user '{user}' may not use $JS.API.STREAM.NAMES: give that of `tidewire nats-config --migrate-user`\n"
    )


async def test_what_is_stored_is_published_again_although_nobody_may(
    strict: NatsServer, tmp_path: Path
) -> None:
    """JetStream is no user: an edge hears it on `tw.out`, where every user is denied publishing."""
    assert migrated(tmp_path, as_user(strict, "migrate", chat="default"))[0] == 0
    async with logged_in(strict, "edge") as (edge, heard), logged_in(strict, "app") as (app, _):
        out = Received()
        edge.subscribe(b"tw.out.>", out)
        assert await settled(edge)
        assert "seq" in await published(JetStream(edge), "chat:a", b"of an edge")
        app.publish(b"tw.pub.chat.a", b"of a backend")
        await eventually(lambda: out.payloads == [b"of an edge", b"of a backend"])
        edge.publish(out.messages[0][0], b"forged")
        assert not await settled(edge)
        assert heard.heard("error:permissions") == 1
        assert len(out.messages) == 2


async def test_an_edge_reads_what_all_agree_on_and_nothing_else(strict: NatsServer, tmp_path: Path) -> None:
    """Through the one subject of the API that it may use; it hears of changes."""
    assert migrated(tmp_path, as_user(strict, "migrate", chat="default"))[0] == 0
    async with logged_in(strict, "edge") as (edge, listener):
        meta = await read_meta(JetStream(edge))
        assert meta is not None
        assert meta.namespaces == {"chat": "default"}
        changes = Received()
        edge.subscribe(b"$KV.TW_META.layout", changes)
        assert await settled(edge)
        assert listener.heard("error:permissions") == 0
        assert migrated(tmp_path, as_user(strict, "migrate", chat="default", live="default"))[0] == 0
        await eventually(lambda: len(changes.messages) == 1)
        for word in ("STREAM.CREATE.X", "STREAM.INFO.TW_default_0", "DIRECT.GET.TW_default_0"):
            with pytest.raises(JetStreamError, match="no answer"):
                await JetStream(edge, 0.5).call(word, {"name": "X", "subjects": ["x"]})


async def test_a_backend_cannot_aim_an_ack_at_a_delivery(strict: NatsServer, tmp_path: Path) -> None:
    """JetStream answers on any reply subject: what then comes on `tw.out` lacks what an edge believes a message by."""
    assert migrated(tmp_path, as_user(strict, "migrate", chat="default"))[0] == 0
    async with logged_in(strict, "edge") as (edge, _), logged_in(strict, "app") as (app, _):
        out = Received()
        edge.subscribe(b"tw.out.0.live.a", out)
        assert await settled(edge)
        app.publish(b"tw.pub.chat.a", b"x", reply=b"tw.out.0.live.a")
        await eventually(lambda: len(out.messages) == 1)
        assert b"Nats-Subject" not in out.messages[0][2]


@pytest.mark.parametrize("key", ["layout", "nonce.TW_default_0", "purges.TW_default_1", "notes.TW_default_0"])
async def test_nor_at_what_all_agree_on(strict: NatsServer, tmp_path: Path, key: str) -> None:
    """Where the bucket is read it takes nothing, and where it is written nobody can guess: else one backend stops all edges."""
    assert migrated(tmp_path, as_user(strict, "migrate", chat="default"))[0] == 0
    async with logged_in(strict, "migrate") as (migrate, _), logged_in(strict, "app") as (app, _):
        js = JetStream(migrate)
        before = await js.call(f"STREAM.INFO.{META_STREAM}")
        stored = (await js.call("STREAM.INFO.TW_default_0"))["state"]["last_seq"]
        for aimed in (
            f"$KV.TW_META.{key}",
            f"tw.meta.{key}",
            f"tw.meta.{'0' * 32}.{key}",
            f"tw.meta.*.{key}",
        ):
            app.publish(b"tw.in.0.chat.a", b"x", reply=aimed.encode())
        assert await settled(app)

        async def all_stored() -> bool:
            return bool((await js.call("STREAM.INFO.TW_default_0"))["state"]["last_seq"] == stored + 4)

        await eventually(all_stored)
        after = await js.call(f"STREAM.INFO.{META_STREAM}")
        assert after["state"] == before["state"]
    async with logged_in(strict, "edge") as (edge, _):
        assert await read_meta(JetStream(edge)) is not None
