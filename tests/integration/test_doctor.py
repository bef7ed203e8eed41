"""`tidewire doctor` before real nats-servers, good and bad: what it finds, and that nobody hears of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.edge import edge_config
from tests.support.certificates import write_certificate
from tests.support.edges import SECRET, SERVICES, EdgeProcess, mapping
from tests.support.edges import edge_config as process_config
from tests.support.least_rights import PASSWORDS, VARIABLES, logged_in, printed
from tests.support.links import started
from tests.support.nats_client import flushed
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE
from tidewire.doctor import nats_facts
from tidewire.doctor.facts import NatsFacts
from tidewire.doctor.nats_facts import read_nats
from tidewire.doctor.rights import needed

EDGE = {"user": "edge", "password": PASSWORDS["edge"]}


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NatsServer]:
    """A nats-server as `tidewire nats-config` configures it."""
    for name, password in VARIABLES.items():
        monkeypatch.setenv(name, password)
    with NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", 16)) as server:
        yield server


async def ask(*urls: str, **settings: Any) -> tuple[NatsFacts, ...]:
    """What is read from NATS."""
    nats = {"urls": urls, **settings}
    return await read_nats(edge_config(nats=nats).nats)


def lacking(server: NatsServer, *lines: str) -> str:
    """The server's configuration without some of the lines of the edges' user."""
    edge, rest = server.config.split("user: app" if "user: app" in server.config else 'user: "app"', 1)
    for line in lines:
        assert f'"{line}"' in edge
        edge = edge.replace(f'"{line}"', f'"nothing.{line.replace(">", "x").replace("*", "x")}"')
    return f'{edge}user: "app"{rest}'


async def test_a_good_mesh(mesh: NatsServer) -> None:
    """Everything is as an edge needs it, and nothing more may be done."""
    (found,) = await ask(mesh.url, **EDGE)
    assert found == NatsFacts(
        server=mesh.url, version="2.15.1", jetstream=True, max_payload=262_144, mapped=16, may_forge=False
    )


async def test_nobody_hears_of_it(mesh: NatsServer) -> None:
    """A backend that answers RPC and hears events gets no message, and edges no publication."""
    refused: list[str] = []
    async with logged_in(mesh.url, "app", refused) as backend:
        heard = [await backend.subscribe(subject) for subject in ("tw.rpc.>", "tw.ev.>", "tw.in.*._.>")]
        await flushed(backend)
        (found,) = await ask(mesh.url, **EDGE)
        assert (found.missing, found.untried) == ((), ())
        await flushed(backend)
        assert [each.pending_msgs for each in heard] == [0, 0, 0]
        assert refused == []


async def test_missing_rights_are_named(mesh: NatsServer) -> None:
    """Those and no others, whether they are to publish or to subscribe."""
    lines = ("tw.ev.>", "tw.rpc.*", "tw.pub.> tw-map", "tw.out.>")
    config = lacking(mesh, *lines[:3]).replace('"tw.out.>"  # what', '"nothing.out"  # what', 1)
    mesh.restart(config)
    (found,) = await ask(mesh.url, **EDGE)
    assert [(right.verb, right.subject) for right in found.missing] == [
        ("publish", "tw.rpc.*"),
        ("publish", "tw.ev.>"),
        ("subscribe", "tw.out.>"),
        ("subscribe", "tw.pub.> tw-map"),
    ]
    assert (found.untried, found.mapped) == ((), 16)


async def test_without_the_right_to_publications_nothing_else_is_sure(mesh: NatsServer) -> None:
    """The probe of the mapping needs it; the other rights are tried all the same."""
    mesh.restart(mesh.config.replace('"tw.in.>"  # publications, each', '"nothing"  # publications, each'))
    (found,) = await ask(mesh.url, **EDGE)
    assert [right.subject for right in found.missing] == ["tw.in.>", "tw.pub._tw.chk.>"]
    assert (found.untried, found.mapped) == ((), None)


async def test_an_old_server_is_not_asked_what_backends_would_hear(
    mesh: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would deliver what is meant to be traced only."""
    monkeypatch.setattr(nats_facts, "TRACES_SINCE", (99, 0))
    (found,) = await ask(mesh.url, **EDGE)
    assert [right.subject for right in found.untried] == ["tw.rpc.*", "tw.hook.*", "tw.ev.>"]


@pytest.mark.parametrize(
    ("config", "mapped"), [("", 0), (mapping(16), 16), (mapping(32), 32), (mapping(3), 3)]
)
async def test_the_mapping(tmp_path: Path, config: str, mapped: int) -> None:
    """None, the right one, or the number that a wrong one has."""
    with NatsServer(tmp_path / "nats", config=config) as server:
        (found,) = await ask(server.url)
    assert (found.mapped, found.missing) == (mapped, ())


async def test_an_open_server_tells_its_clock_and_lets_everybody_forge(nats_server: NatsServer) -> None:
    """It has the clock of this machine; there is no certificate, and no JetStream."""
    (found,) = await ask(nats_server.url)
    assert found.may_forge
    assert found.skew is not None
    assert abs(found.skew) <= found.skew_error + 0.01
    assert (found.certificate_end, found.jetstream) == (None, False)


async def test_servers_that_are_away_or_refuse(mesh: NatsServer, tmp_path: Path) -> None:
    """Each server is asked for itself; the sentence never holds a password."""
    away = NatsServer(tmp_path / "away").start()
    away.stop()
    gone, refusing = await ask(away.url, mesh.url, user="edge", password="wrong-one", connect_timeout="1s")
    assert gone.problem.startswith(f"nothing answers at {away.url}")
    assert f"{mesh.url} refused user edge" in refusing.problem
    assert "wrong-one" not in refusing.problem


async def test_a_server_that_hangs_is_given_up(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While connecting, and at any time after."""
    nats_server.pause()
    (found,) = await asyncio.wait_for(ask(nats_server.url, connect_timeout="500ms"), PATIENCE)
    assert "did not answer" in found.problem
    nats_server.resume()
    monkeypatch.setattr(nats_facts, "SERVER_TIMEOUT", 0.0)
    (found,) = await ask(nats_server.url)
    assert found.problem == "did not answer every question within 0 s"


async def test_a_right_is_not_missing_because_nobody_answers(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs between two questions has refused nothing."""
    async with started(nats_server.url) as (link, _):
        rights = list(needed("edge"))
        assert await nats_facts._may(link, rights[0])
        nats_server.pause()
        monkeypatch.setattr(nats_facts, "ANSWER_TIMEOUT", 0.1)
        assert await nats_facts._may(link, rights[0]) is None
        assert await nats_facts._may(link, rights[-1]) is None
        nats_server.resume()


async def test_a_certificate_that_ends_soon(tmp_path: Path) -> None:
    """As the server shows it; one that has expired is a connection that fails."""
    pem, key, now = tmp_path / "server.pem", tmp_path / "key.pem", datetime.now(UTC).replace(microsecond=0)
    tls = f'tls {{ cert_file: "{pem}", key_file: "{key}" }}'
    for end in (now + timedelta(days=5), now - timedelta(days=1)):
        write_certificate(pem, [end], key)
        with NatsServer(tmp_path / "nats", config=tls) as server:
            (found,) = await ask(server.url, tls={"ca_file": str(pem)})
        if end > now:
            assert found.certificate_end == end.timestamp()
        else:
            assert "certificate has expired" in found.problem


def doctor(config: dict[str, Any], folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and what it found, by check."""
    file = folder / "doctor.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEWIRE_")}
    environment["PYTHONPATH"] = str(SERVICES)
    command = [sys.executable, "-m", "tidewire", "doctor", "-c", str(file), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)["findings"]}


def test_the_command_beside_a_running_edge(tmp_path: Path) -> None:
    """The edge's ports are no problem, and it goes on as before: nothing was delivered or rescued."""
    with (
        NatsServer(tmp_path / "nats", config=mapping()) as server,
        EdgeProcess(tmp_path / "edge", process_config(server.url)) as edge,
    ):
        http = {"port": edge.port, "internal_port": edge.internal_port}
        _, found = doctor(process_config(server.url, {"http": http}), tmp_path, "--connections", "100")
        assert found["http.port"]["found"] == f"port {edge.port} is taken, by an edge that runs"
        assert found["mapping"]["level"] == "ok"
        assert found["right to forge"]["level"] == "warn"
        assert edge.running
        assert not edge.logged("nats.unmapped_node")


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    """A secret that everybody may read, an expired certificate, and NATS away: exit code 69."""
    secret, pem = tmp_path / "token.key", tmp_path / "client.pem"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    write_certificate(pem, [datetime.now(UTC) - timedelta(days=1)], tmp_path / "client.key")
    away = NatsServer(tmp_path / "away").start()
    away.stop()
    tls = {"cert_file": str(pem), "key_file": str(tmp_path / "client.key")}
    config = {
        "client": {"token": {"hmac_secret_key_file": str(secret)}},
        "http": {"port": 0, "internal_port": 0},
        "nats": {"urls": [away.url], "connect_timeout": "200ms", "tls": tls},
    }
    code, found = doctor(config, tmp_path, "--connections", "100")
    assert code == 69
    assert (found["secret file"]["level"], found["secret file"]["do"][0]) == ("warn", f"chmod o-rwx {secret}")
    assert "expired on" in found["certificate file"]["found"]
    assert found["certificate file"]["level"] == found["NATS"]["level"] == "fail"
    assert found["NATS"]["found"].startswith(f"nothing answers at {away.url}")
