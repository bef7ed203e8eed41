from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette

from tests.support.certificates import write_certificate
from tests.support.jwks_server import serving
from tests.support.keys import jwk, jwks, pem
from tidewire.doctor.edge_facts import read_edge
from tidewire.doctor.facts import EdgeFacts, FileFacts, FileKind
from tidewire.edge.config import EdgeConfig
from tidewire.platform.health import internal_app
from tidewire.platform.http import http_protocol, listen
from tidewire.platform.metrics import Registry
from tidewire.platform.settings import load

KEY = "a key for tests only, 32 bytes long"
TOKEN = {"hmac_secret_key_file": "token.key"}
DAYS = timedelta(days=1)


async def read(folder: Path, *, token: dict[str, Any] = TOKEN, **settings: Any) -> EdgeFacts:
    """The facts of an edge whose configuration is in `folder`."""
    secret = folder / "token.key"
    if not secret.exists():
        secret.write_text(KEY)
        secret.chmod(0o600)
    file = folder / "tidewire.yaml"
    base = {"http": {"port": 0, "internal_port": 0}, "client": {"token": token}}
    file.write_text(yaml.safe_dump({**base, **settings}))
    return await read_edge(load(EdgeConfig, file, {}), file, {})


def only(facts: EdgeFacts, name: str) -> FileFacts:
    """The file of this name."""
    (found,) = (file for file in facts.files if file.name == name)
    return found


async def test_settings_that_checks_speak_of(tmp_path: Path) -> None:
    """As the configuration has them."""
    facts = await read(tmp_path, node_name="edge-1", nats={"partitions": 4})
    assert (facts.connection_limit, facts.needed_payload, facts.partitions) == (15_000, 135_168, 4)
    assert (facts.node_name, facts.nats_user, facts.own_keys, facts.anonymous) == ("edge-1", "edge", 1, False)


async def test_a_secret_files_mode_is_read(tmp_path: Path) -> None:
    """Of the file behind a link, too, as Kubernetes mounts them."""
    assert only(await read(tmp_path), "secret file").mode == 0o600
    (tmp_path / "token.key").rename(tmp_path / "real.key")
    (tmp_path / "real.key").chmod(0o644)
    (tmp_path / "token.key").symlink_to("real.key")
    facts = only(await read(tmp_path), "secret file")
    assert (facts.mode, facts.kind, facts.path) == (0o644, FileKind.SECRET, str(tmp_path / "token.key"))


async def test_a_public_key_is_no_secret(tmp_path: Path) -> None:
    """It may be read by everybody."""
    (tmp_path / "public.pem").write_text(pem("P-256"))
    facts = await read(tmp_path, token={"public_keys": [{"key_file": "public.pem"}]})
    assert only(facts, "secret file").kind is FileKind.PUBLIC


@pytest.mark.parametrize(("days", "last"), [((-1,), -1), ((3, 90), 3)])
async def test_a_chain_ends_with_its_first_certificate(
    tmp_path: Path, days: tuple[int, ...], last: int
) -> None:
    """And authorities with their last, since the new one is added before the old one ends."""
    now = datetime.now(UTC).replace(microsecond=0)
    for name in ("client", "ca"):
        write_certificate(tmp_path / f"{name}.pem", [now + day * DAYS for day in days], tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o640)
    tls = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "key.pem"}
    facts = await read(tmp_path, nats={"tls": tls})
    assert only(facts, "nats.tls.cert_file").certificate_end == (now + last * DAYS).timestamp()
    assert only(facts, "nats.tls.ca_file").certificate_end == (now + max(days) * DAYS).timestamp()
    assert only(facts, "nats.tls.key_file").mode == 0o640


async def test_files_that_are_none(tmp_path: Path) -> None:
    """A pipe is not opened: it could keep the doctor waiting for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text.pem").write_text("no certificate")
    tls = {"ca_file": "gone.pem", "cert_file": "text.pem", "key_file": "pipe"}
    facts = await read(tmp_path, nats={"tls": tls})
    assert only(facts, "nats.tls.ca_file").problem == "cannot be read: No such file or directory"
    assert only(facts, "nats.tls.cert_file").problem == "holds no certificate in PEM"
    assert only(facts, "nats.tls.key_file").problem == "is no regular file"


async def test_key_sets_are_fetched_once_and_shown_without_their_query(tmp_path: Path) -> None:
    """Also where both kinds of tokens are checked with one."""
    async with serving(jwks(jwk("P-256", "one"))) as server:
        token = {"jwks": [{"url": server.url}]}
        client = {"token": token, "subscription_token": token}
        (good,) = (await read(tmp_path, client=client)).key_sets
        assert (good.keys, good.problem, server.requests) == (1, "", 1)
        assert good.url == server.url.partition("?")[0]
        server.status = 500
        (bad,) = (await read(tmp_path, token=token)).key_sets
        assert bad.problem == "HTTP 500"
        server.status, server.body = 200, b"<html>"
        (bad,) = (await read(tmp_path, token=token)).key_sets
        assert bad.problem == "not JSON"


async def test_a_key_set_that_hangs_is_given_up(tmp_path: Path) -> None:
    """After its own timeout."""
    async with serving(b"") as server:
        server.answering.clear()
        (bad,) = (await read(tmp_path, token={"jwks": [{"url": server.url, "timeout": "100ms"}]})).key_sets
        assert bad.problem == "no answer within 0.1 s"


async def test_a_taken_port(tmp_path: Path) -> None:
    """By anything but an edge it is a problem; the other one is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        public, internal = (
            await read(tmp_path, http={"port": taken.getsockname()[1], "internal_port": 0})
        ).listeners
    assert (public.setting, public.problem, public.edge_runs) == ("http.port", "is taken", False)
    assert (internal.setting, internal.problem) == ("http.internal_port", "")


@pytest.mark.parametrize(
    ("app", "edge"), [(internal_app(Registry(), lambda: None), True), (Starlette(), False)]
)
async def test_a_port_that_an_edge_has(tmp_path: Path, app: Starlette, *, edge: bool) -> None:
    """It says so at /live, which another server does not."""
    server = await listen(http_protocol(app), "127.0.0.1", 0, "x")
    facts = await read(tmp_path, http={"port": 0, "internal_port": server.port})
    server.close()
    assert [listener.edge_runs for listener in facts.listeners] == [edge, edge]


async def test_pages(tmp_path: Path) -> None:
    """A folder with a start page."""
    assert (await read(tmp_path)).pages_problem == ""
    assert (
        await read(tmp_path, http={"port": 0, "internal_port": 0, "pages": "web"})
    ).pages_problem == "is no folder"
    (tmp_path / "web").mkdir()
    facts = await read(tmp_path, http={"port": 0, "internal_port": 0, "pages": "web"})
    assert (facts.pages, facts.pages_problem) == (str(tmp_path / "web"), "has no index.html")
    (tmp_path / "web/index.html").touch()
    assert (await read(tmp_path, http={"port": 0, "internal_port": 0, "pages": "web"})).pages_problem == ""


async def test_public_certificate(tmp_path: Path) -> None:
    """Its files are looked at like others, and whether they fit."""
    write_certificate(tmp_path / "edge.pem", [datetime.now(UTC) + DAYS], tmp_path / "edge.key")
    tls = {"cert_file": "edge.pem", "key_file": "edge.key", "client_ca_file": "edge.pem"}
    facts = await read(tmp_path, http={"port": 0, "internal_port": 0, "tls": tls})
    assert only(facts, "http.tls.cert_file").certificate_end is not None
    assert only(facts, "http.tls.client_ca_file").kind is FileKind.AUTHORITIES
    assert only(facts, "http.tls.key_file").kind is FileKind.SECRET
    assert facts.tls is not None
    assert facts.tls.names == ("127.0.0.1",)
