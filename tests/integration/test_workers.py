"""Several edges on one port: they share clients and limits, one that ends costs only its own, and none stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checker import Checker, payload, record
from tests.support.edges import PATIENT, EdgeProcess, Metrics, edge_config, mapping, token
from tests.support.http import request
from tests.support.nats_server import NatsServer
from tests.support.ports import free_ports
from tests.support.raw_client import Clients, RawClient, joined, publication
from tests.support.wait import PATIENCE, eventually

WORKERS = 3
NUMBERS = ("1", "2", "3")
CLIENTS = 300
FEWEST = CLIENTS // 10
"""Of 300 clients that the kernel spreads by a hash over three workers, each has more than this."""
CHANNEL = "live:all"
UNAVAILABLE, CONFIG_ERROR = 69, 78
SHUTDOWN = 3001


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with the mapping."""
    with NatsServer(tmp_path / "nats", config=mapping()) as server:
        yield server


@pytest.fixture
def edge(nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EdgeProcess]:
    """An edge of three workers; its private folder is in the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    config = edge_config(nats.url, {"client": {"connection_limit": 1000, **PATIENT}})
    with EdgeProcess(tmp_path, config, workers=WORKERS) as process:
        yield process


class Crowd:
    """Clients that listen to one channel, and what each of them was pushed."""

    def __init__(self) -> None:
        self.clients: list[RawClient] = []
        self.checker = Checker()

    async def join(self, edge: EdgeProcess, count: int) -> None:
        """Connect that many more."""
        for _ in range(count):
            name = f"client-{len(self.clients)}"
            self.checker.subscribed(name, [CHANNEL])

            def heard(line: bytes, name: str = name) -> None:
                found = publication(line)
                assert found is not None
                self.checker.received(name, record(found[0], found[1]["data"]))

            self.clients.append(await joined(edge.ws_url, token(name), CHANNEL, on_push=heard))

    async def publish(self, count: int) -> None:
        """Every client publishes; each waits for its acknowledgements."""

        async def one(number: int, client: RawClient) -> None:
            for sequence in range(count):
                data = payload(f"client-{number}", sequence)
                assert "publish" in await client.command(publish={"channel": CHANNEL, "data": data})
                self.checker.acknowledged(record(CHANNEL, data))

        await asyncio.gather(*(one(number, client) for number, client in enumerate(self.clients)))

    @property
    def gone(self) -> list[RawClient]:
        """Those whose connection has ended."""
        return [client for client in self.clients if client.gone.is_set()]


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    """Nobody yet."""
    found = Crowd()
    yield found
    for client in found.clients:
        client.abort()


def is_there(pid: int) -> bool:
    """Whether a process runs (one that has ended and waits for its parent does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def everybody(edge: EdgeProcess) -> list[int]:
    """The processes of an edge."""
    return [edge.pid, *(edge.worker_pid(worker) for worker in ("internal", *NUMBERS))]


def private_folders(folder: Path) -> list[Path]:
    """Where workers answer the process that has the internal port."""
    return list(folder.glob("tidewire-*"))


def up(metrics: Metrics) -> dict[str, float]:
    """Which workers answered a scrape."""
    return {number: metrics.value("tidewire_worker_up", worker=number) for number in NUMBERS}


async def whole(edge: EdgeProcess) -> Metrics:
    """A scrape that every worker has answered: on a busy machine one may be too late for the first."""

    async def scrape() -> Metrics | None:
        metrics = await edge.metrics()
        return metrics if all(up(metrics).values()) else None

    return await eventually(scrape, message="all workers answer")


# Together.


async def test_clients_are_spread_over_all_workers_and_hear_each_other(
    edge: EdgeProcess, crowd: Crowd, tmp_path: Path
) -> None:
    """300 clients on one port: each worker has some, what one publishes all receive, and one scrape counts them all."""
    before = await whole(edge)
    await crowd.join(edge, CLIENTS)
    await crowd.publish(1)
    await crowd.checker.check_when_complete(60)
    after = await whole(edge)
    for number in NUMBERS:
        more = [each.value("process_open_fds", worker=number) for each in (before, after)]
        assert more[1] - more[0] > FEWEST
    assert after.value("tidewire_connections") == CLIENTS
    assert after.value("tidewire_deliveries_total") == CLIENTS * CLIENTS
    assert after.value("tidewire_publications_received_total") == CLIENTS * WORKERS
    assert after.value("tidewire_connection_limit") == 1000
    for one_for_all in ("nats_connected", "build_info", "config_info", "config_last_reload_successful"):
        assert after.value(f"tidewire_{one_for_all}") == 1
    assert abs(after.value("tidewire_config_last_success_timestamp_seconds") - time.time()) < 60
    (folder,) = private_folders(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_limit_is_divided(nats: NatsServer, tmp_path: Path, crowd: Crowd) -> None:
    """Whichever worker a client comes to, all of them together have no more than the limit; it is reached."""
    config = edge_config(nats.url, {"client": {"connection_limit": 10}})
    with EdgeProcess(tmp_path, config, workers=WORKERS) as edge:
        refused = 0
        for _ in range(100):
            try:
                crowd.clients.append(await joined(edge.ws_url, token()))
            except Exception:  # noqa: BLE001 - counted
                refused += 1
        assert len(crowd.clients) == 10
        assert refused == 90
        assert (await whole(edge)).value("tidewire_connections") == 10


async def test_workers_draw_different_numbers_and_have_names_of_their_own(
    edge: EdgeProcess, clients: Clients
) -> None:
    """Connections' ids differ between processes that were one; logs tell whose line it is."""
    ids = set()
    for _ in range(60):
        client = await clients.open(edge.ws_url)
        ids.add((await client.connect(token()))["client"])
    assert len(ids) == 60
    assert {line["node"] for line in edge.logged("edge.ready")} == {f"edge-{number}" for number in NUMBERS}
    assert all(line.get("node", "").startswith("edge") for line in edge.lines)


# One of them.


async def test_a_killed_worker_costs_its_own_clients_only_and_comes_back(
    edge: EdgeProcess, crowd: Crowd
) -> None:
    """Kill -9: the others' connections stay, it is started again, who lost a connection finds another worker."""
    await crowd.join(edge, CLIENTS)
    before = await whole(edge)
    victim = edge.worker_pid(2)
    os.kill(victim, signal.SIGKILL)

    async def lost_their_connection() -> int:
        left = (await edge.metrics()).value("tidewire_connections")
        return len(crowd.gone) if left == CLIENTS - len(crowd.gone) < CLIENTS else 0

    lost = await eventually(lost_their_connection)
    assert lost > FEWEST
    await crowd.join(edge, lost)
    await eventually(lambda: edge.worker_pid(2) != victim, message=f"worker 2:\n{edge.log}")
    after = await whole(edge)
    assert len(crowd.gone) == lost
    (line,) = edge.logged("worker.exited")
    assert (line["worker"], line["problem"], line["starts_again_in"]) == ("2", "was ended by signal 9", 0.5)
    assert after.value("tidewire_worker_restarts_total") == 1
    assert after.value("tidewire_worker_restarts_total", worker="2") == 1
    assert after.value("tidewire_connections") == CLIENTS
    opened = "tidewire_connections_opened_total"
    assert after.value(opened) == before.value(opened) + lost  # the sum knows what the dead one had counted


async def test_a_worker_that_is_asked_to_go_drains_and_is_replaced(edge: EdgeProcess, crowd: Crowd) -> None:
    """SIGTERM of one: a way to renew it."""
    await crowd.join(edge, 60)
    os.kill(edge.worker_pid(1), signal.SIGTERM)
    await eventually(lambda: len(edge.logged("worker.started")) == 5, message=edge.log)
    await eventually(lambda: crowd.gone)
    assert {client.close_code for client in crowd.gone} == {SHUTDOWN}
    assert 0 < len(crowd.gone) < 60
    assert edge.running


async def test_a_worker_that_stands_still_holds_up_no_scrape(edge: EdgeProcess) -> None:
    """It is named by /live and the metrics; the others go on, so readiness stays; all is well once it moves again."""
    before = (await whole(edge)).value("tidewire_handshakes_total")
    still = edge.worker_pid(3)

    async def scraped_without_it() -> Metrics | None:
        metrics = await edge.metrics()
        return metrics if up(metrics) == {"1": 1, "2": 1, "3": 0} else None

    async def live() -> tuple[int, object]:
        answer = await request(f"{edge.internal_url}/live")
        return answer.status, json.loads(answer.body).get("reason")

    async def named() -> bool:
        return await live() == (503, "no answer from worker 3")

    async def all_live() -> bool:
        return (await live())[0] == 200

    os.kill(still, signal.SIGSTOP)
    try:
        metrics = await eventually(scraped_without_it)
        assert metrics.value("tidewire_handshakes_total") == before
        await eventually(named)
        assert (await edge.ready()).status == 200
    finally:
        os.kill(still, signal.SIGCONT)
    await whole(edge)
    await eventually(all_live)
    assert edge.logged("worker.exited") == []


async def test_the_internal_port_comes_back(nats: NatsServer, crowd: Crowd, tmp_path: Path) -> None:
    """Its process is kept like the workers', and their clients do not notice."""
    (port,) = free_ports(1)
    config = edge_config(nats.url, {"http": {"internal_port": port}})
    with EdgeProcess(tmp_path, config, workers=WORKERS) as edge:
        await crowd.join(edge, 30)
        os.kill(edge.worker_pid("internal"), signal.SIGKILL)
        await eventually(lambda: len(edge.logged("worker.started")) == 5, message=edge.log)
        await eventually(lambda: answers(edge))
        assert crowd.gone == []


async def answers(edge: EdgeProcess) -> bool:
    """Whether there is somebody at the internal port."""
    try:
        return (await edge.ready()).status == 200
    except OSError:
        return False


# All of them.


async def test_reload_reaches_all_and_those_that_come_later(edge: EdgeProcess) -> None:
    """SIGHUP: one hash for all, though their parts of the limits differ; a worker that is started again has it, too."""
    edge.configure({"client": {"connection_limit": 91}})
    edge.hang_up()

    async def reloaded() -> bool:
        return (await edge.metrics()).value("tidewire_config_reloads_total", outcome="done") == WORKERS

    await eventually(reloaded, message=edge.log)
    assert {tuple(line["changes"]) for line in edge.logged("config.reloaded")} == {
        ("client.connection_limit",)
    }
    os.kill(edge.worker_pid(1), signal.SIGKILL)

    async def agreed() -> bool:
        metrics = await edge.metrics()
        counted = metrics.value("tidewire_worker_restarts_total") == 1
        return counted and metrics.value("tidewire_connection_limit") == 91

    await eventually(agreed, message=edge.log)
    assert (await whole(edge)).value("tidewire_config_info") == 1


async def test_a_refused_reload_is_refused_by_all(edge: EdgeProcess) -> None:
    """What one cannot take none takes: here a limit that three cannot divide, and then one that needs a restart."""
    for changes, problem in (
        ({"client": {"connection_limit": 2}}, "client.connection_limit: is 2: expected at least 1"),
        ({"client": {"connection_limit": 1000}, "http": {"port": 1}}, "http.port: a change needs a restart"),
    ):
        before = len(edge.logged("config.reload_refused"))
        edge.configure(changes)
        edge.hang_up()
        await eventually(lambda before=before: len(edge.logged("config.reload_refused")) == before + WORKERS)
        lines = edge.logged("config.reload_refused")[before:]
        assert {line["node"] for line in lines} == {f"edge-{number}" for number in NUMBERS}
        assert all(line["problems"][0].startswith(problem) for line in lines)
    metrics = await whole(edge)
    assert metrics.value("tidewire_config_last_reload_successful") == 0
    assert metrics.value("tidewire_config_info") == 1


async def test_drain_lets_all_clients_go_and_leaves_nothing(
    edge: EdgeProcess, crowd: Crowd, tmp_path: Path
) -> None:
    """SIGTERM of the supervisor: every client is told to reconnect, exit code 0, no process and no file is left."""
    await crowd.join(edge, CLIENTS)
    pids = everybody(edge)
    edge.terminate()
    assert await edge.exit_code() == 0
    await eventually(lambda: len(crowd.gone) == CLIENTS)
    assert Counter(client.close_code for client in crowd.clients) == {SHUTDOWN: CLIENTS}
    assert sum(line["connections"] for line in edge.logged("edge.drained")) == CLIENTS
    assert [pid for pid in pids if is_there(pid)] == []
    assert private_folders(tmp_path) == []


async def test_interrupt_from_a_terminal_comes_once(edge: EdgeProcess, crowd: Crowd) -> None:
    """Ctrl-C goes to the whole group of the terminal: the workers are in none, or it would be their second signal."""
    groups = {os.getpgid(pid) for pid in everybody(edge)}
    assert len(groups) == 2 + WORKERS
    assert os.getsid(edge.worker_pid(1)) == edge.worker_pid(1)


async def test_who_waits_to_be_accepted_is_served_at_a_drain(edge: EdgeProcess) -> None:
    """Connections that the kernel has made and no worker has taken yet are not lost with the listener: 101, then 3001."""
    pids = [edge.worker_pid(number) for number in NUMBERS]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    clients = [RawClient(edge.ws_url) for _ in range(60)]
    async with asyncio.TaskGroup() as opening:
        for client in clients:
            opening.create_task(client.open())
        try:
            await eventually(lambda: all(client._tcp is not None for client in clients))
            edge.terminate()
            await eventually(lambda: bool(edge.logged("workers.draining")))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
    await asyncio.gather(*(asyncio.wait_for(client.gone.wait(), PATIENCE) for client in clients))
    assert Counter(client.close_code for client in clients) == {SHUTDOWN: 60}
    assert await edge.exit_code() == 0


async def test_nothing_outlives_a_killed_supervisor(edge: EdgeProcess, tmp_path: Path) -> None:
    """Kill -9, also with a worker that stands still: all processes end, and the private folder goes."""
    pids = everybody(edge)
    os.kill(edge.worker_pid(2), signal.SIGSTOP)
    edge.kill()
    await eventually(lambda: not any(map(is_there, pids)))
    await eventually(lambda: not private_folders(tmp_path))


# What cannot start.


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"nats": {"partitions": 8}}, UNAVAILABLE, "another number of partitions"),
        ({"client": {"connection_limit": 2}}, CONFIG_ERROR, "client.connection_limit: is 2"),
        ({"http": {"port": 9, "internal_port": 9}}, CONFIG_ERROR, "http.internal_port"),
    ],
)
async def test_a_mistake_is_said_once(
    nats: NatsServer, tmp_path: Path, changes: dict[str, Any], code: int, said: str
) -> None:
    """With its exit code, in one line, and no second attempt."""
    edge = EdgeProcess(tmp_path, edge_config(nats.url, changes), workers=WORKERS)
    try:
        assert await edge.launch().exit_code() == code
    finally:
        edge.kill()
    telling = [line for line in edge.log.splitlines() if said in line]
    assert len(telling) == 1, edge.log
    if code == UNAVAILABLE:
        (line,) = edge.logged("process.refused")
        assert said in line["problem"]
        assert [each["worker"] for each in edge.logged("worker.started")] == ["internal", "1"]


@pytest.mark.parametrize("which", ["port", "internal_port"])
async def test_a_taken_port_is_said_once(nats: NatsServer, tmp_path: Path, which: str) -> None:
    """The public one by whoever asks for it, and the internal one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        edge = EdgeProcess(tmp_path, edge_config(nats.url, {"http": {which: port}}), workers=WORKERS)
        try:
            assert await edge.launch().exit_code() == UNAVAILABLE
        finally:
            edge.kill()
    (line,) = edge.logged("process.refused")
    assert line["problem"] == f"cannot listen on 127.0.0.1:{port} (http.{which}): Address already in use"


async def test_a_port_that_another_edge_shares_among_its_workers_is_taken(
    edge: EdgeProcess, nats: NatsServer, tmp_path: Path
) -> None:
    """The kernel would let both have it, and clients would meet either configuration."""
    config = edge_config(nats.url, {"http": {"port": edge.port}})
    other = EdgeProcess(tmp_path, config, name="other", workers=WORKERS)
    try:
        assert await other.launch().exit_code() == UNAVAILABLE
    finally:
        other.kill()
    assert "Address already in use" in other.logged("process.refused")[0]["problem"]
