"""What docs/nats-interop.md promises and shows, beyond tests/e2e/test_interop.py: its examples, its warnings, RPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import NoStreamResponseError
from nats.micro import add_service
from nats.micro.request import Request

from tests.support.channels import Vector, vectors
from tests.support.edges import OPEN, Mesh, mapping, native, running_mesh, token
from tests.support.examples import dev_file, example, running, said
from tests.support.least_rights import VARIABLES, logged_in, printed
from tests.support.nats_client import flushed
from tests.support.nats_server import NatsServer
from tests.support.raw_client import Clients, RawClient, publication
from tests.support.wait import PATIENCE, eventually

ANYBODY = {**OPEN, "allow_subscribe_for_anonymous": True, "allow_publish_for_anonymous": True}
CONFIG = {
    "client": {"allow_anonymous_connect_without_token": True},
    "channel": {"namespaces": [{"name": "chat", **ANYBODY}, {"name": "kept", **OPEN}]},
    "rpc": {
        "enabled": True,
        "timeout": "2s",
        "methods": [{"name": "*", "allow_for_client": True, "allow_for_anonymous": True}],
    },
    "send": {"enabled": True, "allow_for_anonymous": True},
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges and a nats-server with JetStream."""
    folder = tmp_path_factory.mktemp("examples")
    with running_mesh(folder, CONFIG, nats=f'{mapping()}jetstream {{ store_dir: "{folder}/js" }}\n') as found:
        yield found


@pytest.fixture
def folder(mesh: Mesh, tmp_path: Path) -> Path:
    """A folder in which examples find the mesh."""
    return dev_file(tmp_path, nats=mesh.nats.url)


@pytest.fixture
async def backend(mesh: Mesh) -> AsyncIterator[Client]:
    """A plain NATS client."""
    async with native(mesh) as client:
        yield client


class Heard:
    """The publications that a subscriber was pushed."""

    def __init__(self) -> None:
        self.pubs: list[dict[str, Any]] = []

    def __call__(self, line: bytes) -> None:
        found = publication(line)
        assert found is not None
        self.pubs.append(found[1])


@pytest.fixture
async def lobby(mesh: Mesh, clients: Clients) -> Heard:
    """What a client hears in chat:lobby."""
    heard = Heard()
    await clients.join(mesh.edges[1].ws_url, token(), "chat:lobby", "kept:x", on_push=heard)
    return heard


async def anonymous(mesh: Mesh, clients: Clients) -> RawClient:
    """Connect without a token."""
    client = await clients.open(mesh.edges[0].ws_url)
    assert "connect" in await client.command(connect={})
    return client


# The examples.


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector.tokens)
def test_examples_encode_and_decode_as_the_page_says(vector: Vector) -> None:
    """Both functions are there to be copied."""
    assert example("nats_publish").subject_of(vector.channel) == f"tw.pub.{vector.tokens}"
    subject = f"tw.in.{vector.partition}.{vector.tokens}"
    assert example("nats_follow").channel_of(subject) == vector.channel


async def test_publish_example_reaches_subscribers(folder: Path, lobby: Heard) -> None:
    """With its tags, and without saying who it is from."""
    async with running("nats_publish", folder) as process:
        assert await said(process) == "published to chat:lobby on tw.pub.chat.lobby"
        assert await process.wait() == 0
    await eventually(lambda: lobby.pubs)
    assert lobby.pubs == [{"data": {"text": "Hello from a backend"}, "tags": {"source": "example"}}]


async def test_follow_example_prints_what_is_published(
    mesh: Mesh, folder: Path, backend: Client, clients: Clients
) -> None:
    """By users, by anonymous clients and by backends, whatever the channel is called; other namespaces stay out."""
    async with running("nats_follow", folder) as process:
        assert await said(process) == "following chat"
        await eventually(lambda: has_interest(backend, "tw.in.0.chat.probe"))
        assert await said(process) == "chat:probe: a backend: "
        client = await clients.join(mesh.edges[0].ws_url, token("zoë"))
        await client.command(publish={"channel": "kept:x", "data": 0})
        await client.command(publish={"channel": "chat:a b/é", "data": {"n": 1}})
        assert await said(process) == 'chat:a b/é: zoë: {"n":1}'
        nobody = await anonymous(mesh, clients)
        await nobody.command(publish={"channel": "chat:x.y", "data": 2})
        assert await said(process) == "chat:x.y: somebody anonymous: 2"
        await backend.publish("tw.pub.chat.%.room", b"\xff")
        assert await said(process) == "$chat:room: a backend: \ufffd"


async def test_answer_example_greets_people_with_a_name(
    mesh: Mesh, folder: Path, backend: Client, clients: Clients
) -> None:
    """It learns the name from the edge; its own error reaches the client; gone, the method is not found."""
    client = await clients.join(mesh.edges[0].ws_url, token("zoë & co"))
    nobody = await anonymous(mesh, clients)
    async with running("nats_answer", folder) as process:
        assert await said(process) == "answering greet"
        await eventually(lambda: has_interest(backend, "tw.rpc.greet"))
        reply = await client.command(rpc={"method": "greet", "data": {"polite": True}})
        assert reply["rpc"]["data"] == {"text": "Good day, zoë & co"}
        reply = await nobody.command(rpc={"method": "greet", "data": {}})
        assert reply["error"] == {"code": 403, "message": "I greet only people with a name"}

    async def gone() -> bool:
        reply = await client.command(rpc={"method": "greet", "data": {}})
        return "error" in reply and bool(reply["error"]["code"] == 104)

    await eventually(gone)


async def has_interest(client: Client, subject: str) -> bool:
    """Whether nats-server knows somebody who subscribes to a subject; otherwise it says so before anything else.

    A program may say that it listens before its subscription has been processed: see `flushed`.
    """
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    await client.publish(subject, b"", reply=inbox)
    await flushed(client)
    found = [await answers.next_msg() for _ in range(answers.pending_msgs)]
    await answers.unsubscribe()
    return all((each.headers or {}).get("Status") != "503" for each in found)


# Warnings to native publishers.


async def test_jetstream_publish_without_history_is_delivered_and_ends_in_an_error(
    backend: Client, lobby: Heard
) -> None:
    """A timeout where somebody listens, no response otherwise; so the page says: plain publish."""
    jetstream = backend.jetstream()
    with pytest.raises(NatsTimeout):
        await jetstream.publish("tw.pub.chat.lobby", b"1", timeout=0.3)
    with pytest.raises(NoStreamResponseError):
        await jetstream.publish("tw.pub.chat.empty", b"1", timeout=PATIENCE)
    with pytest.raises(NoRespondersError):
        await backend.request("tw.pub.chat.empty", b"1", timeout=PATIENCE)
    await eventually(lambda: lobby.pubs)
    assert lobby.pubs == [{"data": 1}]


async def test_wildcard_publication_is_acknowledged_by_a_stream_and_reaches_no_client(
    backend: Client, lobby: Heard
) -> None:
    """A native follower sees it, under its odd subject."""
    jetstream = backend.jetstream()
    await jetstream.add_stream(name="KEPT", subjects=["tw.in.*.kept.>"])
    try:
        follower = await backend.subscribe("tw.in.*.kept.>")
        await flushed(backend)
        for number, subject in enumerate(("tw.pub.kept.*", "tw.pub.kept.>"), 1):
            assert (await jetstream.publish(subject, b'"lost"', timeout=PATIENCE)).seq == number
            assert (await follower.next_msg(PATIENCE)).subject.endswith(subject.removeprefix("tw.pub"))
        await jetstream.publish("tw.pub.kept.x", b'"end"', timeout=PATIENCE)
        await eventually(lambda: lobby.pubs)
        assert lobby.pubs == [{"data": "end"}]
    finally:
        await jetstream.delete_stream("KEPT")


async def test_header_values_may_be_utf_8_and_false_ones_are_left_out(backend: Client, lobby: Heard) -> None:
    """Tw-Info is believed when it is one; a time that is none is ignored; other headers stay on NATS."""
    info = {"user": "zoë", "client": "c", "conn_info": {"a": 1}}
    given: list[dict[str, str]] = [
        {"Tw-Tags": '{"who":"zoë"}', "Tw-Info": json.dumps(info, ensure_ascii=False)},
        {"Tw-Info": '{"user":"zoë"}', "Tw-Time": "now", "X-Own": "1", "Nats-Msg-Id": "2"},
        {"Tw-Info": "zoë"},
    ]
    for headers in given:
        await backend.publish("tw.pub.chat.lobby", b"1", headers=headers)
    await eventually(lambda: len(lobby.pubs) == 3)
    assert lobby.pubs == [{"data": 1, "info": info, "tags": {"who": "zoë"}}, {"data": 1}, {"data": 1}]


# RPC and events.


async def answer_not_json(request: Request) -> None:
    """Answer what no JSON client can be given."""
    await request.respond(b"not JSON")


async def answer_nothing(request: Request) -> None:
    """Answer with an empty payload."""
    await request.respond(b"")


async def answer_late(_request: Request) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def answer_code(request: Request) -> None:
    """Answer with the error that the caller asks for."""
    code = json.loads(request.data)
    await request.respond_error(str(code), f"error {code}")


async def test_clients_get_what_responders_answer(mesh: Mesh, backend: Client, clients: Clients) -> None:
    """The page's table, row by row."""
    service = await add_service(backend, name="tests", version="1.0.0")
    handlers = {
        "not%2Ejson": answer_not_json,
        "nothing": answer_nothing,
        "late": answer_late,
        "code": answer_code,
    }
    for number, (method, handler) in enumerate(handlers.items()):
        await service.add_endpoint(name=f"e{number}", subject=f"tw.rpc.{method}", handler=handler)
    await flushed(backend)
    client = await clients.join(mesh.edges[0].ws_url, token())

    async def outcome(method: str, data: object = None) -> object:
        reply = await client.command(rpc={"method": method, "data": data})
        return reply["rpc"] if "rpc" in reply else reply["error"]

    assert await outcome("nothing") == {"data": None}
    for code in (400, 1999):
        assert await outcome("code", code) == {"code": code, "message": f"error {code}"}
    codes = [await outcome("code", code) for code in (399, 2000, 0)]
    codes += [await outcome("not.json"), await outcome("late")]
    assert [isinstance(each, dict) and each["code"] for each in codes] == [100] * 5
    assert codes[-1] == {"code": 100, "message": "the method did not answer in time", "temporary": True}
    for method in ("unknown", "tw.unknown", "not"):
        assert (await outcome(method)) == {"code": 104, "message": "method not found"}


async def test_calls_and_messages_carry_the_caller_in_headers(
    mesh: Mesh, backend: Client, clients: Clients
) -> None:
    """The user percent-encoded, empty for an anonymous one; the connection's id as the connect reply tells it."""
    calls: list[Msg] = []

    async def call(message: Msg) -> None:
        calls.append(message)
        await message.respond(b"1")

    await backend.subscribe("tw.rpc.who", cb=call)
    events = await backend.subscribe("tw.ev.message")
    await flushed(backend)
    named = await clients.open(mesh.edges[0].ws_url)
    nobody = await clients.open(mesh.edges[0].ws_url)
    for client, connect, user in (
        (named, {"token": token("zoë 100%")}, "zo%C3%AB%20100%25"),
        (nobody, {}, ""),
    ):
        connection = (await client.command(connect=connect))["connect"]["client"]
        await client.command(rpc={"method": "who", "data": {"a": 1}})
        client.frame(b'{"send":{"data":"hello"}}')
        message = await events.next_msg(PATIENCE)
        assert (message.data, calls[-1].data) == (b'"hello"', b'{"a":1}')
        expected = {"Tw-V": "1", "Tw-User": user, "Tw-Client": connection}
        for headers in (message.headers, calls[-1].headers):
            assert headers is not None
            assert {name: headers.get(name, "") for name in expected} == expected


async def test_microservices_answer_with_the_least_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discovery on $SRV is refused, which changes nothing for the method itself."""
    for name, password in VARIABLES.items():
        monkeypatch.setenv(name, password)
    refused: list[str] = []
    with NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", 16)) as server:
        async with (
            logged_in(server.url, "app", refused) as app,
            logged_in(server.url, "edge", refused) as edge,
        ):
            service = await add_service(app, name="tests", version="1.0.0")
            await service.add_endpoint(name="nothing", subject="tw.rpc.nothing", handler=answer_nothing)
            await flushed(app)  # the endpoint's own subscription comes after those that are refused
            await eventually(lambda: len(refused) == 9)
            assert all("$srv" in error for error in refused)
            assert (await edge.request("tw.rpc.nothing", b"", timeout=PATIENCE)).data == b""
