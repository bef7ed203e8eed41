"""The benches of bench/history: they run, small, and notice what they are there to notice."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.history import rows, service
from bench.history.fill import fill
from bench.history.fsync import Trace
from bench.history.mesh import streams
from bench.history.storm import Storm, measure
from bench.load import servers
from bench.load.measure import Plan
from bench.load.rows import Row, Stand
from bench.load.tools import build

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """One short run."""
    tools = servers.prepare(build(tmp_path / "programs"), tmp_path, 20)
    return Plan(tools=tools, runs=1, seconds=0.3, warmup=0.1, factor=10, server_cpu=None, load_cpu=None)


def run(module: str, *arguments: str) -> str:
    """Run a bench; return what it prints."""
    command = [sys.executable, "-m", f"bench.history{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells(text: str, begins: str) -> list[str]:
    """Return the cells of the line of a table that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {begins}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_publication_is_acknowledged_with_history_and_without(plan: Plan) -> None:
    """By us, where each publisher has channels of its own; and by nats-py in both ways."""
    row = Row(name="few", window=4, publishers=5, spread=4, counts="acks")
    longer = msgspec.structs.replace(
        plan, seconds=1.5
    )  # than a machine stands still: the loop is a closed one
    results = rows.measure(Stand("acked", 5, 0, (row,)), longer)["few"]
    assert [*results] == [rows.HISTORY, rows.PLAIN, *rows.WAYS]
    for (measurement,) in results.values():
        assert measurement.count > 20
        assert measurement.faults == {}
        assert measurement.said["ack_p99_us"] >= measurement.said["ack_p50_us"] > 0
    said = results[rows.HISTORY][0].said
    assert said["acks"] == said["published"] or said["unanswered"] == 0
    lines = rows.lines(Stand("acked", 5, 0, (row,)), {"few": results})
    assert [line[1] for line in lines] == [*results]
    assert all(len(line) == len(rows.HEAD) for line in lines)


def test_publications_with_history_reach_their_subscribers(plan: Plan) -> None:
    """Once, in order: the generator checks it."""
    stand = Stand("latency", 20, 4, (Row(name="rate", rate=200, publishers=4),))
    results = rows.measure(stand, plan)["rate"]
    for (measurement,) in results.values():
        assert measurement.faults == {}
        assert measurement.said["all_deliveries"] == measurement.said["all_published"] * 5 > 0


def test_reads_come_from_where_they_are_said_to_come(plan: Plan) -> None:
    """Memory has all that is read, or nothing of it."""
    found = service.measure_reads(plan, service.Sizes(read_channels=200, reads=300, stream_reads=50))
    ((memory,), (stream,)) = found.values()
    assert (memory.from_memory, stream.from_memory) == (1, 0)
    assert all(len(line) == len(service.READS_HEAD) for line in service.reads_lines(found))


def test_a_channels_memory_is_measured(plan: Plan) -> None:
    """More with ten publications than with one."""
    one, ten = (int(line[3]) for line in service.measure_memory(plan, service.Sizes(slope=(200, 2_200))))
    assert 300 < one < ten


def test_a_storm_is_over_when_all_have_recovered(tmp_path: Path) -> None:
    """50 publications each, from one channel and from several, beside as many reads of JetStream's own."""
    storm = Storm(connections=30, channels=[1, 7], processes=2, filtered_reads=20)
    lines = asyncio.run(measure(storm, tmp_path, [None, None]))
    assert [line[:2] for line in lines] == [
        [f"{what}, {name}", count]
        for name in ("1 channel", "7 channels")
        for what, count in (("storm", "30"), ("recoveries only", "30"), ("JetStream's filtered reads", "20"))
    ]
    assert all(line[-1] == "" for line in lines)
    assert all(0 <= float(line[2]) <= float(line[3]) <= float(line[4]) for line in lines)


def test_a_storm_notices_what_was_not_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer publications than were missed are no recovery."""
    storm = Storm(connections=4, channels=[1], processes=1, filtered_reads=1)
    monkeypatch.setattr("bench.history.storm.EXPECTED", 51)
    lines = asyncio.run(measure(storm, tmp_path, [None, None]))
    assert all("not 51 recovered" in line[-1] for line in lines[:2])


def test_streams_with_many_channels_are_measured() -> None:
    """At each number of them."""
    said = run(".subjects", "--channels", "50", "300", "--reads", "40")
    for count, reads in (("50", "40"), ("300", "40")):
        found = cells(said, f"{count} ")
        assert found[9] == reads
        assert all(float(found[at]) > 0 for at in (3, 4, 5, 7, 8, 13))


def test_what_is_refused_is_no_fill(tmp_path: Path) -> None:
    """A publication that JetStream does not store fails the bench."""
    with streams(tmp_path) as nats, pytest.raises(RuntimeError, match="were refused"):
        asyncio.run(fill(nats.url, ["live:a"], b"x", b"NATS/1.0\r\nNats-Expected-Stream: other\r\n\r\n"))


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: run `make setup-system`")
def test_acknowledged_is_on_the_disk_where_nats_server_is_told_so() -> None:
    """Each one with `sync_interval: always`; by default it is written, and no more."""
    said = run(".fsync", "--traced", "4", "--timed", "5")
    assert cells(said, "sync_interval: always")[1:4] == ["4", "4", "4"]
    assert cells(said, "by default")[1:4] == ["4", "4", "0"]


def test_without_strace_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """That says what to do."""
    monkeypatch.setenv("PATH", "")
    command = [sys.executable, "-m", "bench.history.fsync"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"^tidewire: strace is missing: run `make setup-system`$", done.stderr, re.MULTILINE)


# What a trace shows.

BLOCK = "</data/streams/TW_a_3/msgs/1.blk>"
WRITE = f'1 10:00:00.1 pwrite64(5{BLOCK}, "Nats-Msg-Id: x", 20, 0) = 20'
FLUSH = f"1 10:00:00.2 fsync(5{BLOCK}) = 0"
ACK = r'1 10:00:00.3 writev(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base="{\"stream\":\"TW_a_3\",\"seq\":7}", 1) = 98'
BEGUN = f"1 10:00:00.2 fsync(5{BLOCK} <unfinished ...>"
ENDED = "1 10:00:00.4 <... fsync resumed>) = 0"
OTHER = FLUSH.replace("TW_a_3", "TW_a_4")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([WRITE, FLUSH, ACK], (1, 1, 1)),
        ([WRITE, BEGUN, ENDED, ACK], (1, 1, 1)),
        ([WRITE, BEGUN, ACK, ENDED], (1, 1, 0)),
        ([WRITE, ACK, FLUSH], (1, 1, 0)),
        ([FLUSH, WRITE, ACK], (1, 1, 0)),
        ([WRITE, OTHER, ACK], (1, 1, 0)),
        ([ACK, WRITE, FLUSH], (1, 0, 0)),
        ([WRITE, FLUSH, ACK, ACK], (2, 1, 1)),
        (["strace: something", WRITE.replace("write", "read")], (0, 0, 0)),
    ],
)
def test_a_flush_counts_between_the_write_and_the_acknowledgement(
    lines: list[str], found: tuple[int, int, int]
) -> None:
    """When it has ended, of the stream's own file."""
    assert Trace().judge(lines)[:3] == found


def test_what_a_publication_costs_that_is_heard() -> None:
    """Here and in another checkout, with all of it taken; and as much to read it as to hear it, or less."""
    rows = ["1,600 channels, 1 a read", "taken for a reply again", "floor, 40 a read"]
    chosen = [word for row in rows for word in ("--only", row)]
    said = run(".feed", "--rounds", "1", "--beside", ".", *chosen).splitlines()
    costs = [re.findall(r" (\d+\.\d\d) \(", line) for line in said]
    assert [line.split("  ")[0] for line in said] == rows
    heard, read, floor = ([float(each) for each in row] for row in costs)
    assert all(len(each) == 3 for each in (heard, read, floor))
    assert heard[0] > floor[0] > 0 < read[0]


def test_a_long_read_is_measured_in_pieces() -> None:
    """Each of which takes less than all of it, the first time and the next."""
    said = run(".long_reads", "--publications", "4000", "--runs", "1")
    for name in ("the first", "the next"):
        count, whole, most = cells(said, name)[1:]
        assert count == "4,000"
        assert float(most.split()[0]) < float(whole.split()[0]) / 2
