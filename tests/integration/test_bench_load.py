"""The measuring tools of bench/load: they build, they count rightly, and they notice what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from bench.load import measure, servers, tools
from bench.load.goals import GOALS, throughput
from bench.load.measure import Measurement, Plan, Side, measure_connects, measure_memory, measure_stand
from bench.load.report import GOALS_HEAD, HEAD, document, memory_rows, rows_of, table
from bench.load.rows import BARE, LIMIT, SECURE, SERVERS, TIDEWIRE, Row, Size, Stand
from bench.load.servers import Server, Target
from bench.load.tools import Fleet, Generator, build

Answer = dict[str, Any]
SIZE = Size(connects=50, memory_from=10, memory_to=100)

pytestmark = pytest.mark.timeout(180)  # the first test compiles, which takes its time on a busy machine


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled programs."""
    return build(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def plan(programs: Path, tmp_path: Path) -> Plan:
    """One short run."""
    return Plan(
        tools=servers.prepare(programs, tmp_path, 50),
        runs=1,
        seconds=0.4,
        warmup=0.1,
        factor=100,
        server_cpu=None,
        load_cpu=None,
    )


@pytest.fixture(scope="module")
def running(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """An edge and the limit server, which run on from stand to stand."""
    folder = tmp_path_factory.mktemp("servers")
    started = servers.prepare(programs, folder, 50)
    with contextlib.ExitStack() as stack:
        targets = {name: stack.enter_context(server(started)) for name, server in SERVERS.items()}
        yield {name: partial(_standing, target) for name, target in targets.items()}


def _standing(target: Target, tools: servers.Tools) -> contextlib.AbstractContextManager[Target]:
    return contextlib.nullcontext(target)


def test_the_parts_in_c_are_right(programs: Path) -> None:
    """Histogram, frames, payloads and parsers check themselves in a program of their own."""
    done = subprocess.run([programs / "selftest"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a compiler there is no traceback."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        build(tmp_path)
    assert ended.value.code == "tidewire: a C compiler or make is missing: run `make setup-system`"


# A tiny load on real servers.


def delivered(measurement: Measurement, per_publication: int) -> None:
    """Every publication reached its subscribers, once and in order, and was acknowledged."""
    said = measurement.said
    assert measurement.faults == {}
    assert said["all_published"] > 0
    assert said["all_deliveries"] == said["all_published"] * per_publication


def longer(plan: Plan) -> Plan:
    """For a closed loop, which publishes nothing while the machine stands still for a second."""
    return msgspec.structs.replace(plan, seconds=1.5)


def test_every_delivery_is_counted(plan: Plan, running: dict[str, Server]) -> None:
    """On a schedule and in a closed loop; the limit server writes a frame for each message."""
    one = Row(name="rate", rate=2_000)
    closed = Row(name="closed", window=4)
    results = measure_stand(Stand("one channel", 50, 1, (one,)), running, plan)
    results |= measure_stand(Stand("one channel", 50, 1, (closed,)), running, longer(plan))
    for row in ("rate", "closed"):
        for name in (TIDEWIRE, LIMIT):
            (measurement,) = results[row][name]
            delivered(measurement, 50)
            assert 0 < measurement.said["p50_us"] <= measurement.said["p99_us"] <= measurement.said["max_us"]
    for (measurement,) in results["rate"].values():
        assert measurement.said["all_published"] == 20  # 40 a second, for 0.1 s and 0.4 s
    (limit,) = results["closed"][LIMIT]
    assert limit.said["frames"] == limit.said["deliveries"] > 0


def test_compression_halves_the_bytes(plan: Plan, running: dict[str, Server]) -> None:
    """The edge compresses for those that ask, and every message is whole."""
    row = Row(name="rate", rate=1_000, payload=2048)
    further = {"compressed": servers.compressing}
    stand = Stand("large", 20, 1, (row,), further)
    results = measure_stand(stand, {TIDEWIRE: running[TIDEWIRE]}, plan)["rate"]
    for (measurement,) in results.values():
        delivered(measurement, 20)
    (plain,), (compressed,) = results[TIDEWIRE], results["compressed"]
    assert compressed.said["bytes"] < 0.75 * plain.said["bytes"]


def test_channels_have_their_own_subscribers(plan: Plan, running: dict[str, Server]) -> None:
    """A publication on one of ten channels reaches a tenth of the connections."""
    row = Row(name="rate", rate=1_000, publishers=10)
    results = measure_stand(Stand("ten channels", 50, 10, (row,)), running, plan)
    for (measurement,) in results["rate"].values():
        delivered(measurement, 5)
        assert measurement.said["all_published"] == 100


def test_acknowledgements_are_counted_without_subscribers(plan: Plan, running: dict[str, Server]) -> None:
    """Connections that only publish."""
    row = Row(name="acked", window=4, publishers=10, counts="acks")
    results = measure_stand(Stand("acked", 10, 0, (row,)), running, longer(plan))
    for (measurement,) in results["acked"].values():
        assert measurement.faults == {}
        assert measurement.count > 0
        assert measurement.said["all_deliveries"] == 0


def test_connects_and_memory_become_lines_of_the_table(plan: Plan, running: dict[str, Server]) -> None:
    """All cells of the table are there."""
    (bare,) = BARE
    connects = measure_connects({**running, **BARE}, plan, SIZE, bare=bare)
    assert {name: runs[0].count for name, runs in connects.items()} == dict.fromkeys(connects, 50)
    memory = measure_memory({LIMIT: SERVERS[LIMIT]}, plan, SIZE)
    text = table([*rows_of("connect", connects, bare), *memory_rows("idle", memory)])
    assert len(text.splitlines()) == 2 + len(connects) + 1
    assert {line.count("|") for line in text.splitlines()} == {len(HEAD) + 1}


@pytest.fixture(scope="module")
def secure(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """An edge and the limit server with TLS, which run on from test to test."""
    started = servers.prepare(programs, tmp_path_factory.mktemp("secure"), 50)
    with contextlib.ExitStack() as stack:
        targets = {name: stack.enter_context(server(started)) for name, server in SECURE.items()}
        yield {name: partial(_standing, target) for name, target in targets.items()}


def test_the_same_goes_over_tls(plan: Plan, secure: dict[str, Server]) -> None:
    """Every delivery once, also of messages of several records, and connects."""
    small, large = Row(name="rate", rate=2_000), Row(name="large", window=2, payload=30_000)
    stand = Stand("one channel", 50, 1, (small, large), servers=secure)
    results = measure_stand(stand, {}, plan)
    for row in ("rate", "large"):
        for name in (TIDEWIRE, LIMIT):
            (measurement,) = results[row][name]
            delivered(measurement, 50)
    connects = measure_connects(secure, plan, SIZE)
    assert {name: runs[0].count for name, runs in connects.items()} == dict.fromkeys(SECURE, 50)


def test_a_server_with_another_certificate_is_refused(
    programs: Path, secure: dict[str, Server], tmp_path: Path
) -> None:
    """The generator checks certificates as a client does; without TLS it gets no connection there."""
    foreign = servers.prepare(programs, tmp_path, 1)
    for server in secure.values():
        with server(foreign) as target:
            for ca in (foreign.certificate, None):
                with Generator(programs / "loadgen", target.port, "centrifuge", ca=ca) as one:
                    assert Fleet([one]).connect(3)["done"] == 0


def test_without_openssl_the_rest_is_built(tmp_path: Path) -> None:
    """And what needs TLS says why it ends."""
    make = ["make", "--silent", "-C", str(tools.SOURCES), "TLS=none", f"OUT={tmp_path}"]
    subprocess.run(make, check=True)
    assert subprocess.run([tmp_path / "selftest"], check=False).returncode == 0
    for name, *arguments in (
        ["loadgen", tools.HOST, "1", "centrifuge", "0", "", "ca.pem"],
        ["limit_server", tools.HOST, "certificate.pem", "key.pem"],
    ):
        done = subprocess.run([tmp_path / name, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == f"{name}: built without TLS: OpenSSL's headers are missing\n"


def test_several_processes_share_the_connections(
    plan: Plan, running: dict[str, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that listen, one that publishes, as many connections need."""
    monkeypatch.setattr("bench.load.measure.CONNECTIONS_PER_PROCESS", 20)
    results = measure_stand(Stand("one channel", 50, 1, (Row(name="rate", rate=2_000),)), running, plan)
    for (measurement,) in results["rate"].values():
        assert measurement.faults == {}
        assert measurement.said["all_deliveries"] == measurement.said["all_published"] * 50


# A server that does wrong on purpose.

Deliver = Callable[[list[str]], list[str]]


class Scripted:
    """A server of one client, which gets the publications that `deliver` makes of those it has sent."""

    def __init__(self, deliver: Deliver, *, error: bool = False) -> None:
        self.received: list[str] = []
        self._deliver = deliver
        self._error = error
        self._published: list[str] = []

    async def handle(self, connection: ServerConnection) -> None:
        """Answer commands; after the connect command also ping, in both ways."""
        async for frame in connection:
            self.received.append(str(frame))
            command = json.loads(frame)
            if "connect" in command:
                await connection.send('{"id":1,"connect":{"client":"a"}}')
                await connection.send("{}")
                await (await connection.ping())
            elif "subscribe" in command:
                await connection.send('{"id":2,"subscribe":{}}')
            elif "publish" in command:
                self._published.append(json.dumps(command["publish"]["data"], separators=(",", ":")))
                result = '"error":{"code":100,"message":"no"}' if self._error else '"publish":{}'
                await connection.send(f'{{"id":{command["id"]},{result}}}')
                if len(self._published) == 4:
                    pushes = [
                        f'{{"push":{{"pub":{{"data":{data}}}}}}}' for data in self._deliver(self._published)
                    ]
                    await connection.send("\n".join(pushes))


@contextlib.asynccontextmanager
async def scripted(
    server: Scripted, extensions: Sequence[ServerPerMessageDeflateFactory] = ()
) -> AsyncIterator[int]:
    """Serve on any free port and yield it."""
    async with serve(server.handle, tools.HOST, 0, extensions=extensions, compression=None) as running:
        yield next(iter(running.sockets)).getsockname()[1]


def four_publications(program: Path, port: int, protocol: str = "centrifuge") -> Answer:
    """Connect, subscribe, publish four times; returns what the run said."""
    with generator(program, port, protocol) as fleet:
        assert fleet.connect(1)["done"] == 1
        assert fleet.subscribe(1, "live:")["done"] == 1
        return fleet.run(
            {"publishers": 1, "rate": 20, "warmup": 0, "seconds": 0.2, "drain": 3}, lambda _: None
        )


@contextlib.contextmanager
def generator(program: Path, port: int, protocol: str = "centrifuge") -> Iterator[Fleet]:
    """A load generator towards that port."""
    with Generator(program, port, protocol) as one:
        yield Fleet([one])


FAULTS: dict[str, tuple[Deliver, dict[str, int]]] = {
    "in order": (lambda sent: sent, {}),
    "one is missing": (lambda sent: [sent[0], *sent[2:]], {"skipped": 1}),
    "the last is missing": (lambda sent: sent[:3], {"undelivered": 1}),
    "two are swapped": (lambda sent: [sent[0], sent[2], sent[1], sent[3]], {"skipped": 1, "repeated": 1}),
    "one comes twice": (lambda sent: [*sent, sent[3]], {"repeated": 1}),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_the_server_is_noticed(programs: Path, name: str) -> None:
    """Each delivery is checked against the sequence that its subscriber must see."""
    deliver, expected = FAULTS[name]
    server = Scripted(deliver)
    async with scripted(server) as port:
        said = await asyncio.to_thread(four_publications, programs / "loadgen", port)
    assert said["all_published"] == 4
    assert Measurement(0, 0, 0, 0, said).faults == expected
    assert "{}" in server.received  # the pong


async def test_latency_counts_from_the_time_at_which_a_publication_was_due(programs: Path) -> None:
    """The server delivers the first one when the fourth has come, 150 ms later."""
    async with scripted(Scripted(lambda sent: sent[:1])) as port:
        said = await asyncio.to_thread(four_publications, programs / "loadgen", port)
    assert said["all_deliveries"] == 1
    assert said["max_us"] >= 150_000


@pytest.mark.parametrize("level", range(10))
async def test_compressed_messages_are_read(programs: Path, level: int) -> None:
    """Stored blocks (level 0), fixed codes and codes of their own."""
    deflate = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True, compress_settings={"level": level, "memLevel": 9 - level % 9}
    )
    async with scripted(Scripted(lambda sent: sent), [deflate]) as port:
        said = await asyncio.to_thread(four_publications, programs / "loadgen", port, "centrifuge-deflate")
    assert said["all_deliveries"] == 4
    assert Measurement(0, 0, 0, 0, said).faults == {}


async def test_a_refused_publish_is_noticed(programs: Path) -> None:
    """An error is no acknowledgement."""
    async with scripted(Scripted(lambda sent: sent, error=True)) as port:
        said = await asyncio.to_thread(four_publications, programs / "loadgen", port)
    assert Measurement(0, 0, 0, 0, said).faults == {"errors": 4}


def test_a_server_that_is_away_fails_every_connection(programs: Path) -> None:
    """Nothing is taken for connected."""
    with generator(programs / "loadgen", 1) as fleet:
        answer = fleet.connect(3)
    assert (answer["done"], answer["failed"]) == (0, 3)


# What becomes of the runs.


class Spoiling:
    """A side whose every run leaves a delivery behind."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def run(self, order: Answer, counts: str) -> Measurement:
        self.did.append("run")
        return Measurement(1, 1, 0, 1, {"undelivered": 1})

    def renew(self) -> None:
        self.did.append("renew")

    def join(self, connections: int, channels: int) -> None:
        self.did.append(f"join {connections} {channels}")


def test_a_server_that_is_behind_gets_no_further_run_and_starts_afresh(plan: Plan) -> None:
    """What it still owes would be taken for deliveries of the next row."""
    side = Spoiling()
    row = Row(name="rate", rate=1)
    three = msgspec.structs.replace(plan, runs=3)
    results = measure.measure_row(row, Stand("any", 50, 2, (row,)), {"bad": cast("Side", side)}, three)
    assert side.did == ["run", "renew", "join 50 2"]
    assert [run.faults for run in results["bad"]] == [{"undelivered": 1}]


def test_a_renewed_side_is_another_server_without_connections(plan: Plan) -> None:
    """And takes as many as the first."""
    with Side("limit", SERVERS[LIMIT], plan, 10) as side:
        side.join(10, 1)
        first = side.target
        side.renew()
        assert side.target.port != first.port
        assert not Path(f"/proc/{first.pid}").exists()
        side.join(10, 1)
        delivered(side.run({"publishers": 1, "window": 1, "seconds": 0.1, "warmup": 0}, "deliveries"), 10)


def test_a_line_has_medians_and_ratios_of_pairs_with_the_broker_counted() -> None:
    """Server and limit as they alternated; the ratio is the median of the pairs', not that of the medians."""

    def runs(counts: Sequence[int], broker: float, p99: float) -> list[Measurement]:
        said = {"deliveries": 8, "frames": 2, "bytes": 800, "p50_us": 1_000, "p99_us": p99, "p999_us": 9_000}
        return [Measurement(count, 1, broker, 1, said) for count in counts]

    ours, its = runs([30_000, 20_000, 40_000], 0.25, 6_000), runs([8_000, 16_000, 32_000], 0, 3_000)
    line, reference = (
        dict(zip(HEAD, cells, strict=True)) for cells in rows_of("row", {"a": ours, LIMIT: its})
    )
    assert (line["per CPU-s"], line["spread"]) == ("30k", "20k to 40k")
    assert (line["broker's CPU"], line["with it"]) == ("25%", "24k")
    assert line["of the limit"] == "1.00 (1.00 to 3.00)"
    assert (line["p50 ms"], line["p99 ms"], line["p99.9 ms"]) == ("1.0", "6.0", "9.0")
    assert line["p99 to the limit's"] == "2.00 (2.00 to 2.00)"
    assert (line["messages a frame"], line["bytes a message"], line["faults"]) == ("4.00", "100", "")
    assert (reference["of the limit"], reference["broker's CPU"]) == ("", "")


def test_goals_are_judged_by_the_median_of_the_pairs() -> None:
    """What was not measured is said to be so; the document holds all of it."""

    def runs(*counts: int) -> list[Measurement]:
        return [Measurement(count, 1, 0, 1, {}) for count in counts]

    found = {"stand": {"row": {TIDEWIRE: runs(10, 30, 90), LIMIT: runs(10, 20, 30)}}}
    goal = throughput("stand", "row", 1.5)
    assert goal.line(found) == ["stand, row", LIMIT, "at least 1.50 x", "1.50", "1.00 to 3.00", "yes"]
    assert msgspec.structs.replace(goal, bound=1.51).line(found)[-1] == "**no**"
    assert msgspec.structs.replace(goal, least=False, bound=1.49).line(found)[-1] == "**no**"
    assert [each.line(found)[3] for each in GOALS] == ["not measured"] * len(GOALS)
    text = document({"machine": {"processors": 2}}, ["peers"], [], [goal.line(found)])
    assert text.startswith("- machine: processors 2\n- not measured: peers\n\n| what ")
    assert all(cell in text for cell in (*HEAD, *GOALS_HEAD, "1.00 to 3.00"))
