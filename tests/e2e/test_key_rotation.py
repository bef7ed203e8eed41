"""Every kind of key is rotated under 500 connected clients, while a publisher goes on: no client goes, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.checker import Checker, payload, record
from tests.support.edges import OPEN, PATIENT, EdgeProcess, Mesh, running_mesh
from tests.support.jwks_server import JwksServer, serving
from tests.support.keys import jwk, jwks, pem, signed
from tests.support.protocol import protocol
from tests.support.raw_client import Clients, RawClient, publication
from tests.support.wait import PATIENCE, eventually

CLIENTS = 500
CHANNEL = "$live:room"
SECRETS = {
    "old": "the old secret, thirty-two bytes and more",
    "new": "the new secret, thirty-two bytes and more",
}
SUBSCRIPTIONS = {
    "old": "the old key of subscription tokens, long",
    "new": "the new key of subscription tokens, long",
}
NUMBERS = {"old": 0, "new": 1}
TTL = 3600
PAUSE = 0.02
BATCH = 50


def _secret(generation: str, user: str) -> str:
    return jwt.encode(_claims(user), SECRETS[generation], algorithm="HS256")


def _named(generation: str, user: str) -> str:
    return jwt.encode(
        _claims(user), SECRETS[generation], algorithm="HS256", headers={"kid": f"h-{generation}"}
    )


def _public(generation: str, user: str) -> str:
    return signed("ES256", f"p-{generation}", NUMBERS[generation], user=user, exp=_expiry())


def _issued(generation: str, user: str) -> str:
    return signed("EdDSA", f"j-{generation}", NUMBERS[generation], user=user, exp=_expiry())


def _subscription(generation: str, user: str) -> str:
    headers = {"kid": f"s-{generation}"}
    return jwt.encode({**_claims(user), "channel": CHANNEL}, SUBSCRIPTIONS[generation], "HS256", headers)


def _claims(user: str) -> dict[str, Any]:
    return {"sub": user, "exp": _expiry()}


def _expiry() -> int:
    return int(time.time()) + TTL


KINDS: dict[str, Callable[[str, str], str]] = {
    "secret": _secret,
    "named": _named,
    "public": _public,
    "issued": _issued,
}


def trusted(*generations: str) -> dict[str, Any]:
    """The keys of a configuration."""
    token = {
        "hmac_secret_key": SECRETS[
            generations[-1]
        ],  # one secret cannot be two: the old tokens are worth nothing then
        "hmac_keys": [{"kid": f"h-{each}", "secret": SECRETS[each]} for each in generations],
        "public_keys": [
            {"kid": f"p-{each}", "key": pem("P-256", NUMBERS[each]), "algorithms": ["ES256"]}
            for each in generations
        ],
    }
    keys = [{"kid": f"s-{each}", "secret": SUBSCRIPTIONS[each]} for each in generations]
    return {"client": {"token": token, "subscription_token": {"hmac_keys": keys}}}


def key_set(*generations: str) -> bytes:
    """What the issuer publishes."""
    return jwks(*(jwk("Ed25519", f"j-{each}", NUMBERS[each]) for each in generations))


class Crowd:
    """The connected clients, each with a token of one kind, and what they are given."""

    def __init__(self, clients: Clients, checker: Checker) -> None:
        self._clients = clients
        self._checker = checker
        self.members: list[tuple[str, Callable[[str, str], str], RawClient]] = []

    async def join(self, edge: EdgeProcess, kind: str, user: str) -> None:
        """Connect and subscribe with tokens of the old keys."""
        issue = KINDS[kind]

        def on_push(line: bytes) -> None:
            found = publication(line)
            assert found is not None, line
            self._checker.received(user, record(found[0], found[1]["data"]))

        client = await self._clients.open(edge.ws_url, on_push)
        self.members.append((user, issue, client))
        await client.connect(issue("old", user))
        self._checker.subscribed(user, [CHANNEL])
        reply = await client.command(subscribe={"channel": CHANNEL, "token": _subscription("old", user)})
        assert reply["subscribe"]["expires"] is True, reply

    async def refresh(self) -> None:
        """Each brings new tokens, for its connection and its subscription."""
        for start in range(0, len(self.members), BATCH):
            batch = self.members[start : start + BATCH]
            await asyncio.gather(*(self._refresh(*member) for member in batch))

    async def _refresh(self, user: str, issue: Callable[[str, str], str], client: RawClient) -> None:
        refreshed = await client.command(refresh={"token": issue("new", user)})
        assert refreshed["refresh"]["expires"] is True, refreshed
        token = _subscription("new", user)
        renewed = await client.command(sub_refresh={"channel": CHANNEL, "token": token})
        assert renewed["sub_refresh"]["expires"] is True, renewed

    @property
    def gone(self) -> list[str]:
        """Who is not connected any more, and why."""
        return [f"{user}: {client.close_code}" for user, _, client in self.members if client.gone.is_set()]


@contextlib.asynccontextmanager
async def publishing(edge: EdgeProcess, clients: Clients, checker: Checker) -> AsyncIterator[list[int]]:
    """Publish all the time, from a connection of its own; yields the numbers that were acknowledged."""
    done: list[int] = []
    client = await clients.open(edge.ws_url)
    await client.connect(_secret("old", "publisher"))
    subscribe = {"channel": CHANNEL, "token": _subscription("old", "publisher")}
    assert "subscribe" in await client.command(subscribe=subscribe)

    async def run() -> None:
        for number in itertools.count(1):
            data = payload("publisher", number)
            reply = await client.command(publish={"channel": CHANNEL, "data": data})
            assert "publish" in reply, reply
            checker.acknowledged(record(CHANNEL, data))
            done.append(number)
            await asyncio.sleep(PAUSE)  # the pace of a publisher, nothing waits for it

    task = asyncio.get_running_loop().create_task(run())
    try:
        yield done
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reloaded(mesh: Mesh, changes: dict[str, Any], times: float) -> None:
    """Give both edges a new configuration, and wait until each has taken it."""
    for edge in mesh.edges:
        edge.configure(changes)
        edge.hang_up()
    for edge in mesh.edges:
        await eventually(partial(_reloads, edge, times), message=f"the reload of {edge.name}")


async def _reloads(edge: EdgeProcess, times: float) -> bool:
    return (await edge.metrics()).value("tidewire_config_reloads_total", outcome="done") == times


async def verdict(edge: EdgeProcess, token: str) -> int:
    """Connect with a token: 0, or the code of the close."""
    client = await RawClient(edge.ws_url).open()
    try:
        reply = await client.command(connect={"token": token})
    except ConnectionError:
        return client.close_code
    finally:
        client.abort()
    return 0 if "connect" in reply else int(reply["error"]["code"])


@protocol("token.rotation", "token.hmac", "token.kid", "token.public", "token.subscription")
async def test_rotation_of_every_kind_of_key_drops_nobody(
    tmp_path: Path, clients: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one secret without a name, secrets and public keys by kid, an issuer's key set, and the keys of subscription tokens."""
    async with serving(key_set("old")) as issuer:
        await rotation(issuer, tmp_path, clients, capsys)


async def rotation(
    issuer: JwksServer, folder: Path, clients: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    """Connect everybody, rotate while one publishes, and see what arrived."""
    source = {
        "url": issuer.url,
        "algorithms": ["EdDSA"],
        "min_refetch_interval": "1s",
    }
    base = {
        "client": {**PATIENT, "token": {"jwks": [source]}},
        "channel": {"namespaces": [{"name": "live", **OPEN}]},
    }
    checker = Checker()
    crowd = Crowd(clients, checker)
    with running_mesh(folder, merged_keys(base, trusted("old"))) as mesh:
        places = list(itertools.product(mesh.edges, KINDS))
        for number in range(CLIENTS):
            edge, kind = places[number % len(places)]
            await crowd.join(edge, kind, f"user-{number}")
        async with publishing(mesh.edges[0], clients, checker) as published:
            await rotate(mesh, crowd, issuer)
            at_end = len(published)
            await eventually(lambda: len(published) > at_end)
        await checker.check_when_complete(PATIENCE)
        assert crowd.gone == []
        with capsys.disabled():
            print(f"\nrotation: {CLIENTS} clients, {checker.counts}")


async def rotate(mesh: Mesh, crowd: Crowd, issuer: JwksServer) -> None:
    """Old and new keys side by side, new tokens for all, then the new keys alone."""
    new_comers = [(edge, kind) for edge in mesh.edges for kind in KINDS]
    issuer.body = key_set("old", "new")
    await reloaded(mesh, trusted("old", "new"), 1)
    await crowd.refresh()
    assert crowd.gone == []
    for edge, kind in new_comers:
        assert await verdict(edge, KINDS[kind]("new", "new-comer")) == 0, kind
        assert await verdict(edge, KINDS[kind]("old", "late-comer")) == (3500 if kind == "secret" else 0), (
            kind
        )
    issuer.body = key_set("new")
    await reloaded(mesh, trusted("new"), 2)
    for edge, kind in new_comers:
        if kind == "issued":  # forgotten when the edge next fetches the set
            await eventually(partial(_refused, edge))
        else:
            assert await verdict(edge, KINDS[kind]("old", "late-comer")) == 3500, kind
    await crowd.refresh()


async def _refused(edge: EdgeProcess) -> bool:
    """A kid that is not held makes the edge look at the set again, which has the old key no more."""
    await verdict(edge, signed("EdDSA", "j-unknown", exp=_expiry()))
    return await verdict(edge, _issued("old", "late-comer")) in {100, 3500}


def merged_keys(base: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """Both, section by section."""
    client = base["client"]
    token = {**client["token"], **keys["client"]["token"]}
    return {**base, "client": {**client, **keys["client"], "token": token}}
