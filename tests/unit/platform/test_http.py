from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.http import request
from tests.support.wait import PATIENCE
from tidewire.platform import http
from tidewire.platform.http import ACCEPTS_PER_TURN, ListenError, bind, http_protocol, listen, listen_at

HELLO = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """An application that can be held up and can fail."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waiting = 0
        routes = [
            Route("/hello", self.hello),
            Route("/wait", self.wait),
            Route("/fail", self.fail),
        ]
        self.asgi = Starlette(routes=routes)

    async def hello(self, _request: Request) -> Response:
        """Answer."""
        return PlainTextResponse("hello")

    async def wait(self, _request: Request) -> Response:
        """Answer when the test says so."""
        self.waiting += 1
        await self.go.wait()
        return PlainTextResponse("at last")

    async def fail(self, _request: Request) -> Response:
        """Fail."""
        raise RuntimeError("a mistake")


@contextlib.asynccontextmanager
async def listening(app: App) -> AsyncIterator[int]:
    """Serve on a free port."""
    server = await listen(http_protocol(app.asgi), "127.0.0.1", 0, "http.port")
    try:
        yield server.port
    finally:
        app.go.set()
        server.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer; its body has a length."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await asyncio.wait_for(reader.readexactly(int(length.split(b":")[1])), PATIENCE)


async def test_request_is_answered_without_naming_the_server() -> None:
    """Nobody learns what runs here, or which release of it."""
    async with listening(App()) as port:
        found = await request(f"http://127.0.0.1:{port}/hello")
    assert (found.status, found.body) == (200, b"hello")
    assert "server" not in found.headers


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
    ],
)
async def test_a_wrong_request_is_no_line_of_the_log(
    request_: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reaches the port could write as many lines as it sends requests."""
    async with listening(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_)
        first = await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert caplog.records == []


async def test_unknown_path_is_404() -> None:
    """And another method is 405."""
    async with listening(App()) as port:
        assert (await request(f"http://127.0.0.1:{port}/nothing")).status == 404
        assert (await request(f"http://127.0.0.1:{port}/hello", method="POST")).status == 405


async def test_connection_is_kept_for_further_requests() -> None:
    """One after the other, or sent without waiting."""
    async with listening(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(HELLO)
            assert (await answer(reader)).endswith(b"\r\n\r\nhello")
        writer.write(HELLO * 3)
        for _ in range(3):
            assert (await answer(reader)).endswith(b"\r\n\r\nhello")
        writer.close()
        await writer.wait_closed()


async def test_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After KEEP_ALIVE_SECONDS: sockets are bounded."""
    monkeypatch.setattr(http, "KEEP_ALIVE_SECONDS", 0.05)
    async with listening(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HELLO)
        await answer(reader)
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
        await writer.wait_closed()


async def test_idle_sockets_silence_nobody() -> None:
    """A leaking scraper must not make probes fail."""
    async with listening(App()) as port:
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.enter_context(contextlib.closing(writer))
            assert (await request(f"http://127.0.0.1:{port}/hello")).status == 200


@pytest.mark.parametrize("begun", [b"", HELLO[:10]])
async def test_connection_has_an_end(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    """Also one that never asks for anything, or never ends asking."""
    monkeypatch.setattr(http, "LIFETIME", 0.05)
    async with listening(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()


async def test_failing_handler_is_500_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The stack goes to the log."""
    async with listening(App()) as port:
        found = await request(f"http://127.0.0.1:{port}/fail")
    assert found.status == 500
    assert b"mistake" not in found.body
    assert "a mistake" in caplog.text


async def test_what_is_not_http_is_400(caplog: pytest.LogCaptureFixture) -> None:
    """And the connection ends."""
    async with listening(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 hello?\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), PATIENCE)).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()
    assert "Traceback" not in caplog.text


async def test_taken_port_is_a_listen_error_that_names_the_setting() -> None:
    """One line, for the person who has to change it."""
    async with listening(App()) as port:
        with pytest.raises(ListenError) as error:
            await listen(asyncio.Protocol, "127.0.0.1", port, "http.internal_port")
    text = str(error.value)
    assert text.startswith(f"cannot listen on 127.0.0.1:{port} (http.internal_port): ")
    assert "in use" in text
    assert "\n" not in text


@pytest.mark.parametrize("address", ["192.0.2.1", "no.such.host.invalid"])
async def test_foreign_address_is_a_listen_error(address: str) -> None:
    """An address of another machine, or a name that is none."""
    with pytest.raises(ListenError, match=rf"cannot listen on {address}:0 \(http.port\): \w"):
        await listen(asyncio.Protocol, address, 0, "http.port")


class Greeter(asyncio.Protocol):
    """Greets who comes, and ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


def connected(port: int, count: int) -> list[socket.socket]:
    """Connections that the kernel has made, while the loop stands still."""
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]


async def test_close_in_order_serves_who_waits() -> None:
    """However many have queued up, and nobody after them."""
    listener = await listen(Greeter, "127.0.0.1", 0, "http.port")
    waiting = connected(listener.port, 50)
    await listener.close_in_order()
    with contextlib.ExitStack() as stack:
        for sock in waiting:
            stack.enter_context(sock)
            assert await asyncio.to_thread(sock.recv, 100) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        connected(listener.port, 1)


def test_a_busy_loop_accepts_several_connections_in_each_turn() -> None:
    """An edge whose turns are long, because it writes much, would let hardly anyone in."""
    assert uvloop.run(_turns_for(10 * ACCEPTS_PER_TURN)) < 40


async def _turns_for(count: int) -> int:
    """Return in how many turns of the loop so many waiting connections are accepted."""
    accepted: list[asyncio.BaseTransport] = []

    class Waiter(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(transport)

    listener = await listen(Waiter, "127.0.0.1", 0, "http.port")
    clients = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(count)]
    turns = 0
    while len(accepted) < count:
        await asyncio.sleep(0)
        turns += 1
    listener.close()
    for client in clients:
        client.close()
    return turns


async def test_close_is_at_once() -> None:
    """Who waits is reset: the end of a process that has no time."""
    listener = await listen(Greeter, "127.0.0.1", 0, "http.port")
    (sock,) = connected(listener.port, 1)
    listener.close()
    with sock, pytest.raises(ConnectionResetError):
        await asyncio.to_thread(sock.recv, 100)


async def test_shared_port_is_for_those_who_share_it() -> None:
    """The kernel gives both some; who does not share gets nothing."""
    first = await listen(Greeter, "127.0.0.1", 0, "http.port", shared=True)
    second = await listen(Greeter, "127.0.0.1", first.port, "http.port", shared=True)
    with pytest.raises(ListenError, match=r"http\.port"):
        await listen(Greeter, "127.0.0.1", first.port, "http.port")
    first.close()
    second.close()


async def test_name_is_listened_on_at_each_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `localhost`, which is two on most machines; where one cannot be had none is left open."""
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.1", "127.0.0.2")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: found)
    sockets = bind("name", 0, shared=False)
    assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1", "127.0.0.2"]
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_args, **_kwargs: [(*found[0][:4], sock.getsockname()) for sock in sockets],
    )
    for sock in sockets:
        sock.listen()
    with pytest.raises(OSError, match="in use"):
        bind("name", 0, shared=False)
    for sock in sockets:
        sock.close()


async def test_socket_in_the_file_system_replaces_one_that_was_left(tmp_path: Path) -> None:
    """By a process that was killed."""
    path = str(tmp_path / "1.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    listener = await listen_at(Greeter, path)
    reader, writer = await asyncio.open_unix_connection(path)
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b"hello"
    writer.close()
    listener.close()


async def test_path_that_cannot_be_listened_at_is_named(tmp_path: Path) -> None:
    """Such as one in a folder that is gone."""
    with pytest.raises(ListenError, match=r"missing/1\.sock: No such file"):
        await listen_at(Greeter, str(tmp_path / "missing" / "1.sock"))
