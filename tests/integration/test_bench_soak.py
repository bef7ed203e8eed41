"""The soak of bench/soak: it runs, it sees what comes and goes, and growth fails it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.soak.__main__ import Sample, growths, main, remains
from bench.soak.flatness import Growth
from tests.support.edges import EdgeProcess, edge_config, mapping, token
from tests.support.nats_server import NatsServer
from tests.support.raw_client import Clients

ROOT = Path(__file__).resolve().parents[2]
GAUGES = {"sockets": 10.0}


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with few clients for some seconds."""
    few = ["--clients", "8", "--minutes", "0.12", "--interval", "1", "--fill", "100"]
    command = [sys.executable, "-m", "bench.soak", *few]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_short_soak_prints_its_samples_and_its_verdict() -> None:
    """With a bound that no start of an edge exceeds; both edges had clients, and nothing of them remains."""
    done = soak("--bound", "100")
    assert (done.returncode, done.stderr) == (0, "")
    samples = re.findall(
        r"^\| +\d+\.\d \| +(plain|tls) \|(?:[^|]*\|){3} +(\d+) \|", done.stdout, re.MULTILINE
    )
    assert [edge for edge, _ in samples] == ["plain", "tls"] * 7
    assert all(int(opened) > 0 for _, opened in samples[-2:])
    flat = re.findall(r"^(plain|tls): .* \(at most 100\): flat$", done.stdout, re.MULTILINE)
    assert flat == ["plain", "tls"]
    assert "still" not in done.stdout


@pytest.mark.parametrize(("flat", "status"), [(True, 0), (False, 1)])
def test_the_verdict_is_the_exit_status(monkeypatch: pytest.MonkeyPatch, flat: bool, status: int) -> None:
    """Which is what a job looks at."""

    async def soaked(*_: object) -> bool:
        return flat

    monkeypatch.setattr("bench.soak.__main__.soak", soaked)
    monkeypatch.setattr(sys, "argv", ["soak"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status


# The judgement.


def series(memory: Callable[[int], float], files: Callable[[int], int] = lambda _: 30) -> Sequence[Sample]:
    """An hour's samples, one a minute."""
    return [Sample(minute, memory(minute), files(minute), 0, 0, 0, GAUGES) for minute in range(60)]


def verdicts(samples: Sequence[Sample]) -> list[bool]:
    """Whether memory and files are flat, after a fifth of the time."""
    return [growth.flat for growth in growths("edge", samples, warmup=12, bound=1.5)]


def test_a_leak_is_growth_and_a_start_or_an_outlier_is_not() -> None:
    """The slope is the median of all pairs', times the judged time."""
    assert verdicts(series(lambda minute: 40 + minute * 0.03)) == [True, True]
    assert verdicts(series(lambda minute: 40 + minute * 0.04)) == [False, True]
    assert verdicts(series(lambda minute: 30 + min(minute, 12))) == [True, True]
    assert verdicts(series(lambda minute: 90 if minute == 59 else 40)) == [True, True]
    assert verdicts(series(lambda minute: 40 - minute)) == [True, True]
    assert verdicts(series(lambda _: 40, lambda minute: 30 + minute // 10)) == [True, False]
    assert verdicts(series(lambda _: 40, lambda minute: 30 + minute % 2)) == [True, True]


def test_too_few_samples_are_refused() -> None:
    """Rather than judged."""
    with pytest.raises(ValueError, match="4 samples after the warm-up say nothing: run for longer"):
        Growth.of("edge", [(minute, 1.0) for minute in range(10)], 6, 1, "MiB")


async def test_what_remains_is_named(
    tmp_path: Path, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has not gone counts everywhere."""
    monkeypatch.setattr("bench.soak.__main__.REMAINS_FOR", 0.1)
    with (
        NatsServer(tmp_path / "nats", config=mapping()) as nats,
        EdgeProcess(tmp_path, edge_config(nats.url), name="one") as edge,
    ):
        assert await remains(edge) == []
        await clients.join(edge.ws_url, token(), "live:here")
        left = await remains(edge)
    names = ("connections", "users", "channels", "subscriptions", "addresses", "sockets")
    assert left == [f"one: {name} is still 1" for name in names]
