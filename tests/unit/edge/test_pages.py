from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.http import HttpAnswer, request
from tests.support.wait import PATIENCE
from tidewire.edge import pages
from tidewire.edge.pages import MAX_BODY, MAX_USER, content_security_policy, public_app
from tidewire.kernel.errors import TidewireError
from tidewire.platform.http import http_protocol, listen

PORTS = [8000, 8001]
TOKENS = "token of {}".format


@contextlib.asynccontextmanager
async def serving(
    folder: Path, issue: Callable[[str], str] | None = TOKENS
) -> AsyncIterator[Callable[..., Any]]:
    """Serve the pages; yields a function that sends one request, by default for the host 127.0.0.1."""
    server = await listen(
        http_protocol(public_app(folder, "edge-1", "http", PORTS, issue)), "127.0.0.1", 0, ""
    )
    base = f"http://127.0.0.1:{server.port}"

    async def ask(path: str, method: str = "GET", body: bytes = b"", **headers: str) -> HttpAnswer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            return await post(base, path, body, fields)
        return await request(base + path, method=method, headers=fields)

    try:
        yield ask
    finally:
        server.close()
        answering = asyncio.all_tasks() - {asyncio.current_task()}
        if answering:  # an answer is read before its file is closed
            await asyncio.wait(answering, timeout=PATIENCE)


async def post(base: str, path: str, body: bytes, headers: dict[str, str], *, length: int = 0) -> HttpAnswer:
    """Send a body; `length` promises more bytes than are sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
    fields = {"Host": base[7:], "Connection": "close", "Content-Length": str(length or len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    try:
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
    first, _, rest = answer.partition(b"\r\n")
    return HttpAnswer(int(first.split()[1]), {}, rest.partition(b"\r\n\r\n")[2])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of pages with the SDK beside it, and a secret beside both."""
    web, sdk = tmp_path / "web", tmp_path / pages.SDK
    web.mkdir()
    sdk.mkdir(parents=True)
    (web / "index.html").write_text("<p>start</p>")
    (web / "app.js").write_text("start()")
    (sdk / "centrifuge.js").write_text("sdk")
    (tmp_path / "secret.txt").write_text("secret")
    return web


async def test_serves_the_pages_and_the_sdk(site: Path) -> None:
    """`/` is the folder's index.html; the SDK comes from node_modules beside the folder, as JavaScript."""
    async with serving(site) as ask:
        start, script, sdk = await ask("/"), await ask("/app.js"), await ask("/vendor/centrifuge.js")
    assert (start.status, start.body, start.headers["content-type"]) == (
        200,
        b"<p>start</p>",
        "text/html; charset=utf-8",
    )
    assert (script.status, script.body) == (200, b"start()")
    assert (sdk.status, sdk.body) == (200, b"sdk")
    assert "javascript" in script.headers["content-type"]
    assert "javascript" in sdk.headers["content-type"]


async def test_finds_the_sdk_from_a_relative_folder(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`http.pages: .` in the folder itself has its node_modules beside it all the same."""
    monkeypatch.chdir(site)
    async with serving(Path()) as ask:
        assert (await ask("/vendor/centrifuge.js")).body == b"sdk"


async def test_every_answer_carries_the_policy(site: Path) -> None:
    """A page, a file, a missing one and the dev endpoints tell the browser what is allowed; dev answers are not kept."""
    async with serving(site) as ask:
        answers = {path: await ask(path) for path in ("/", "/app.js", "/none", "/dev/info", "/dev/token")}
    for path, answer in answers.items():
        assert answer.headers["content-security-policy"] == content_security_policy("http", PORTS)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == ("no-store" if path.startswith("/dev/") else "no-cache")


def test_the_policy_allows_this_edge_and_the_edges_of_the_mesh() -> None:
    """No inline script, nothing from elsewhere; connections to the mesh's edges on this machine only."""
    policy = dict(rule.partition(" ")[::2] for rule in content_security_policy("http", [8001]).split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["connect-src"].split() == [
        "'self'",
        "http://127.0.0.1:8001",
        "ws://127.0.0.1:8001",
        "http://localhost:8001",
        "ws://localhost:8001",
    ]
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in str(policy)


def test_pages_behind_tls_connect_with_tls() -> None:
    """And to nothing without it."""
    policy = content_security_policy("https", [8001])
    assert "https://127.0.0.1:8001 " in policy
    assert " wss://localhost:8001" in policy
    assert "http:" not in policy
    assert "ws:" not in policy


async def test_head_and_get_only(site: Path) -> None:
    """HEAD answers without a body; what would change something is refused, with the methods that are allowed."""
    async with serving(site) as ask:
        head = await ask("/", "HEAD")
        refused = [await ask(path, method) for path in ("/", "/dev/info") for method in ("POST", "DELETE")]
        assert (await ask("/dev/token")).status == 405
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "12")
    assert {answer.status for answer in refused} == {405}
    assert all("GET" in answer.headers["allow"] for answer in refused)


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/%2e%2e/secret.txt", "/vendor/../../../secret.txt", "/..%2fsecret.txt", "/%00", "//"],
)
async def test_nothing_outside_the_folders_is_served(site: Path, path: str) -> None:
    """No way of writing a path leaves the folders, and none is an error."""
    (site / "link.txt").symlink_to(site.parent / "secret.txt")
    async with serving(site) as ask:
        answers = [await ask(path), await ask("/link.txt")]
    assert all(b"secret" not in answer.body for answer in answers)
    assert all(answer.status < 500 for answer in answers)


async def test_what_is_missing_is_said(site: Path, tmp_path: Path) -> None:
    """A missing file, SDK or folder is a 404 that says where clients connect; nothing needs a restart once it is there."""
    (tmp_path / pages.SDK / "centrifuge.js").unlink()
    (tmp_path / pages.SDK).rmdir()
    async with serving(site) as ask:
        none, sdk = await ask("/none"), await ask("/vendor/centrifuge.js")
        (tmp_path / pages.SDK).mkdir()
        (tmp_path / pages.SDK / "centrifuge.js").write_text("sdk")
        assert (await ask("/vendor/centrifuge.js")).body == b"sdk"
    async with serving(tmp_path / "nowhere") as ask:
        folder = await ask("/")
    assert [answer.status for answer in (none, sdk, folder)] == [404, 404, 404]
    assert b"/connection/websocket" in none.body
    assert b"run `make setup`" in sdk.body
    assert b"http.pages" in folder.body


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1:9", "127.0.0.1"),
        ("localhost:9", "localhost"),
        ("LOCALHOST", "localhost"),
        ("[::1]:9", "[::1]"),
    ],
)
async def test_info_tells_the_mesh_under_the_name_that_was_used(site: Path, host: str, name: str) -> None:
    """A page on localhost is told of edges on localhost, so that its origin and theirs are of one kind."""
    async with serving(site) as ask:
        answer = json.loads((await ask("/dev/info", Host=host)).body)
    assert answer == {
        "node": "edge-1",
        "edges": [f"http://{name}:8000", f"http://{name}:8001"],
        "tokens": True,
    }


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::1", "", "::1"]
)
async def test_dev_endpoints_answer_on_loopback_names_only(site: Path, host: str) -> None:
    """A name that an attacker points at this machine gets neither information nor a token."""
    async with serving(site) as ask:
        assert (await ask("/dev/info", Host=host)).status in {400, 403}
        assert (await ask("/dev/token", body=b'{"user":"ada"}', Host=host)).status in {400, 403}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:8001", True),
        ("http://localhost:8000", True),
        ("http://127.0.0.1:8002", False),
        ("https://127.0.0.1:8001", False),
        ("http://evil.example", False),
        ("null", False),
    ],
)
async def test_info_may_be_read_by_the_pages_of_the_other_edges(
    site: Path, origin: str, allowed: bool
) -> None:
    """Only origins of the mesh's own edges are allowed to read it across origins; tokens never are."""
    async with serving(site) as ask:
        answer = await ask("/dev/info", Origin=origin)
        token = await ask("/dev/token", "OPTIONS", Origin=origin, Access_Control_Request_Method="POST")
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in token.headers


async def test_tokens_for_a_user(site: Path) -> None:
    """POST {"user": name} answers with a token for this user."""
    async with serving(site) as ask:
        answer = await ask("/dev/token", body='{"user": "Åda Ω"}'.encode())
    assert (answer.status, json.loads(answer.body)) == (200, {"token": "token of Åda Ω"})


async def test_without_an_issuer_there_are_no_tokens(site: Path) -> None:
    """The page learns it from `tokens`; the endpoint does not exist."""
    async with serving(site, None) as ask:
        assert json.loads((await ask("/dev/info")).body)["tokens"] is False
        assert (await ask("/dev/token", body=b'{"user":"ada"}')).status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b'{"user": 7}', 400),
        (b'{"user": ""}', 400),
        (b'{"user": "a\\u0000b"}', 400),
        (b'{"user": "\\ud800"}', 400),
        (b'{"user": "a", "admin": true}', 400),
        (b"[" * MAX_BODY, 400),
        (b'{"x":' + b"[" * (MAX_BODY - 5), 400),
        (json.dumps({"user": "a" * (MAX_USER + 1)}).encode(), 400),
        (b" " * (MAX_BODY + 1), 413),
    ],
)
async def test_a_bad_token_request_is_refused(site: Path, body: bytes, status: int) -> None:
    """What is not exactly a user name of printable characters is refused with a sentence, never with an error."""
    async with serving(site) as ask:
        answer = await ask("/dev/token", body=body)
    assert answer.status == status
    assert answer.body


async def test_a_body_that_does_not_come_is_not_waited_for(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token request whose body stays away ends after a bounded time."""
    monkeypatch.setattr(pages, "BODY_TIMEOUT", 0.05)
    server = await listen(
        http_protocol(public_app(site, "edge-1", "http", PORTS, TOKENS)), "127.0.0.1", 0, ""
    )
    with contextlib.closing(server):
        base = f"http://127.0.0.1:{server.port}"
        assert (await post(base, "/dev/token", b"{", {}, length=100)).status == 408


async def test_no_key_to_sign_with_is_said(site: Path) -> None:
    """Where the configuration has no key the answer is the issuer's sentence."""

    def refuse(_user: str) -> str:
        raise TidewireError("no key to sign with")

    async with serving(site, refuse) as ask:
        answer = await ask("/dev/token", body=b'{"user": "ada"}')
    assert (answer.status, answer.body) == (501, b"no key to sign with")
