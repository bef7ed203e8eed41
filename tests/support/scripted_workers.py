"""A supervisor of one front process and workers that do what its arguments say, in the order of their starts.

`python -m tests.support.scripted_workers SECONDS WORKER ...`, where a WORKER is a list of lives such as `exit70,serve`
(the last one is lived again and again) and SECONDS are what the workers' end may take. `serve` becomes ready and ends at
SIGTERM, `deaf` becomes ready and ignores it, `slow` ends at a second one only, `exit<code>` and `kill` end before that, and
`work<code>` after it. It prints the exit code and logs as the edge does; a worker prints SIGHUP.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial

from tidewire.platform import logs
from tidewire.platform.board import Board
from tidewire.platform.supervisor import Supervisor, Work

ALL = {signal.SIGTERM, signal.SIGHUP}


def say(text: str) -> None:
    """Print a line by one write, which no other process can come in between; `print` makes two without a buffer."""
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def serve(ready: Callable[[], None], ends_at: int) -> int:
    """Be ready until so many SIGTERM have come (0: for ever)."""
    ready()
    while True:
        number = signal.sigwait(ALL)
        if number is signal.SIGHUP:
            say("SIGHUP")
        elif ends_at == 1:
            return 0
        else:
            say("SIGTERM")
            ends_at -= 1


def live(board: Board, number: int, lives: list[str]) -> int:
    """Live the life that is due."""
    life = lives[min(board.restarts(number), len(lives) - 1)]
    if life.startswith("exit"):
        return int(life.removeprefix("exit"))
    if life == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    ready = partial(board.ready, number)
    if life.startswith("work"):
        ready()
        return int(life.removeprefix("work"))
    return serve(ready, {"serve": 1, "slow": 2, "deaf": 0}[life])


def main() -> int:
    """Run."""
    seconds, *workers = sys.argv[1:]
    board = Board(1 + len(workers))
    works = [
        Work(str(number), partial(live, board, number, script.split(",")))
        for number, script in enumerate(["serve", *workers])
    ]
    log = logs.configure("info", "json")
    return Supervisor(works[0], works[1:], board, log, lambda: float(seconds)).run()


if __name__ == "__main__":
    code = main()
    say(f"end {code}")
    sys.exit(code)
