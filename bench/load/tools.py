"""The C programs: building them, and driving load generators."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

SOURCES = Path(__file__).parent
HOST = "127.0.0.1"
CONNECTIONS_PER_PROCESS = 18_000
SOURCE_ADDRESSES = 8

Answer = dict[str, Any]


def build(folder: Path) -> Path:
    """Compile what changed into `folder` and return it. Without what that needs the process ends with one sentence."""
    compiler, make = shutil.which("cc") or shutil.which("gcc"), shutil.which("make")
    if compiler is None or make is None:
        sys.exit("tidewire: a C compiler or make is missing: run `make setup-system`")
    subprocess.run([make, "--silent", "-j2", "-C", SOURCES, f"CC={compiler}", f"OUT={folder}"], check=True)
    return folder


def speaks_tls() -> bool:
    """Whether this machine has what `build` needs for TLS."""
    make = shutil.which("make") or "make"
    said = subprocess.run(
        [make, "--silent", "-C", SOURCES, "tls"], capture_output=True, text=True, check=True
    )
    return said.stdout.strip() == "openssl"


class Generator:
    """One `loadgen` process towards one server. As a context manager it is gone on exit."""

    def __init__(
        self, program: Path, port: int, protocol: str, tokens: Path | None = None, ca: Path | None = None
    ) -> None:
        """Start the process; it does nothing yet.

        `tokens` is a file with a connection token a line; with `ca`, certificates that are trusted, it speaks TLS 1.3.
        """
        command = [str(program), HOST, str(port), protocol, str(SOURCE_ADDRESSES), str(tokens or "")]
        command += [str(ca)] if ca else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._orders = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def order(self, do: str, **fields: float | str) -> None:
        """Give an order without waiting for its answer."""
        self._orders.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        self._orders.flush()

    def answer(self) -> Answer:
        """Wait for the next event. The process keeps every deadline itself.

        Raises:
            RuntimeError: It has ended; it has said why on standard error.
        """
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"the load generator ended with status {self._process.wait()}")
        found: Answer = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


class Fleet:
    """As many generators as the connections need, `CONNECTIONS_PER_PROCESS` each; the first one publishes."""

    def __init__(self, generators: list[Generator]) -> None:
        self.generators = generators

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [generator.pid for generator in self.generators]

    def connect(self, count: int, *, bare: bool = False, pending: int = 64) -> Answer:
        """Have `count` connections in all; `bare` ends each with its upgrade, `pending` at most are under way."""
        shares = [count // len(self.generators)] * len(self.generators)
        shares[0] += count - sum(shares)
        for generator, share in zip(self.generators, shares, strict=True):
            generator.order("connect", count=share, bare=int(bare), pending=pending)
        return self._all("connect")

    def subscribe(self, channels: int, prefix: str) -> Answer:
        """Have every connection subscribe to one of the channels, in turn."""
        for generator in self.generators:
            generator.order("subscribe", channels=channels, prefix=prefix)
        return self._all("subscribe")

    def close(self) -> None:
        """End every connection."""
        for generator in self.generators:
            generator.order("close")
        self._all("close")

    def run(self, order: Mapping[str, float | str], on_stage: Callable[[str], None]) -> Answer:
        """Publish and measure; `on_stage` hears `measuring` and `measured` when the first process says so.

        In a closed loop a publication is in flight until the publishing process has its acknowledgement and all
        deliveries to its own connections. Of several processes counts are added, latencies are the worst one's.
        """
        first, *others = self.generators
        for generator in others:
            generator.order("run", **{**order, "publishers": 0})
            _expect(generator, "started")
        first.order("run", **order)
        _expect(first, "started")
        for stage in ("measuring", "measured"):
            _expect(first, stage)
            on_stage(stage)
        answers = [_expect(first, "run")]
        for generator in others:
            for stage in ("measuring", "measured"):
                _expect(generator, stage)
            answers.append(_expect(generator, "run"))
        return _merged(answers)

    def _all(self, event: str) -> Answer:
        return _merged([_expect(generator, event) for generator in self.generators])


def _expect(generator: Generator, event: str) -> Answer:
    answer = generator.answer()
    if answer["event"] != event:
        raise RuntimeError(f"the load generator says {answer} instead of {event}")
    return answer


def _merged(answers: list[Answer]) -> Answer:
    merged = dict(answers[0])
    for answer in answers[1:]:
        for name, value in answer.items():
            if name.endswith("_us") or name == "seconds":
                merged[name] = max(merged[name], value)
            elif isinstance(value, int) and name != "close_code":
                merged[name] += value
    return merged
