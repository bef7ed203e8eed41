"""Keeps the processes of one service: forks them, starts them again, passes signals on, and ends them in order.

It has no event loop and no thread, so that it may fork at any time; all it does is wait for signals. The children share
the memory of everything that was imported before, and hold nothing of each other.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from tidewire.platform.lifecycle import EXIT_FAILED, EXIT_OK, STOP_SIGNALS
from tidewire.platform.orphans import dying_with
from tidewire.platform.restarts import Restarts, exit_words

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.platform.board import Board

HEARD = STOP_SIGNALS | {signal.SIGCHLD, signal.SIGHUP}
LONGEST_SLEEP = 60.0
START_POLL = 0.02
"""Seconds between looks at a child that is not ready yet."""
HURRY_SECONDS = 5.0
"""How long children may take after a second signal, and the last one at the end."""


class Work(msgspec.Struct, frozen=True):
    """What a child does: `run` returns its exit code. `death` is the signal that it gets when the supervisor dies."""

    name: str
    run: Callable[[], int]
    death: signal.Signals = signal.SIGKILL


class _Child:
    """One piece of work and the process that does it now, if any."""

    def __init__(self, number: int, work: Work) -> None:
        self.number = number
        self.work = work
        self.restarts = Restarts()
        self.starts = 0
        self.pid = 0
        self.ready = False
        """Whether it was seen to be ready since its last start."""
        self.started_at = 0.0
        self.due: float | None = None
        """When to start it; None while it runs, or when its turn has not come."""


class Supervisor:
    """Runs a front process and workers; the front one is started first and ended last.

    The first worker is started when the front process is ready, and the others when it is: what is wrong with the
    configuration or NATS is found, and said, once. `stop_seconds` says how long the workers may take to drain.
    """

    def __init__(
        self,
        front: Work,
        workers: Sequence[Work],
        board: Board,
        log: FilteringBoundLogger,
        stop_seconds: Callable[[], float],
    ) -> None:
        self._children = [_Child(number, work) for number, work in enumerate((front, *workers))]
        self._board = board
        self._log = log
        self._stop_seconds = stop_seconds
        self._reloaded = False
        self._exit_code: int | None = None

    def run(self) -> int:
        """Keep everything running until SIGTERM, SIGINT, or a child that cannot start; return the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        gc.collect()
        gc.freeze()  # what was made until now stays where it is: the children's pages of it remain shared
        self._children[0].due = time.monotonic()
        try:
            while self._exit_code is None:
                self._start_what_is_due()
                self._hear(self._next_wait())
                self._look()
            self._stop()
        finally:
            self._send(signal.SIGKILL, self._children)
        return self._exit_code

    # Starting.

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.due is not None and child.due <= now:
                self._start(child)

    def _start(self, child: _Child) -> None:
        self._board.begin(child.number, child.starts)
        child.starts += 1
        child.ready = False
        child.due, child.started_at = None, time.monotonic()
        child.pid = self._fork(child.work)
        self._log.info("worker.started", worker=child.work.name, pid=child.pid, restarts=child.starts - 1)
        if self._reloaded or child.starts > 1:  # what we read at our own start may be old
            os.kill(child.pid, signal.SIGHUP)

    def _fork(self, work: Work) -> int:
        follow = dying_with(os.getpid(), work.death)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = EXIT_FAILED
        try:
            os.setsid()  # Ctrl-C in the terminal reaches the supervisor alone
            if follow is not None:
                follow()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            code = work.run()
        finally:
            os._exit(code)  # nothing of the supervisor's own end

    def _look(self) -> None:
        """Note who has become ready, and let the next ones begin."""
        for child in self._children:
            if child.pid and self._board.is_ready(child.number):
                child.ready = child.restarts.proven = True
        for child in self._children[:2]:
            if not child.restarts.proven:
                break
            after = [self._children[1]] if child.number == 0 else self._children[2:]
            for each in after:
                if not each.starts:
                    each.due = each.due or time.monotonic()

    def _next_wait(self) -> float:
        if any(child.pid and not child.ready for child in self._children):
            return START_POLL
        due = [child.due for child in self._children if child.due is not None]
        return min([LONGEST_SLEEP, *(max(0.0, when - time.monotonic()) for when in due)])

    # Signals.

    def _hear(self, seconds: float) -> None:
        number = _wait_for_signal(seconds)
        if number is signal.SIGCHLD:
            for child, code in self._ended():
                self._judge(child, code)
        elif number is signal.SIGHUP:
            self._reloaded = True
            self._send(signal.SIGHUP, self._children[1:])
        elif number is not None:
            self._exit_code = EXIT_OK

    def _ended(self) -> Iterator[tuple[_Child, int]]:
        """Yield who has ended, with its exit code or minus the signal; as process 1 of a container others, too."""
        running = {child.pid: child for child in self._children if child.pid}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if (child := running.get(ended[0])) is not None:
                    child.pid = 0
                    yield child, os.waitstatus_to_exitcode(ended[1])

    def _judge(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        child.restarts.proven |= self._board.is_ready(child.number)
        delay = child.restarts.after(code, now - child.started_at)
        self._log.warning(
            "worker.exited", worker=child.work.name, problem=exit_words(code), starts_again_in=delay
        )
        if delay is not None:
            child.due = now + delay
        elif self._exit_code is None:
            self._exit_code = code if code > 0 else EXIT_FAILED

    def _send(self, number: signal.Signals, children: Sequence[_Child]) -> None:
        for child in children:
            if child.pid:
                os.kill(child.pid, number)

    # The end.

    def _stop(self) -> None:
        """The workers together, then the front process, which tells about them until they are gone."""
        self._log.info("workers.draining")
        self._end(self._children[1:], self._stop_seconds())
        self._end(self._children[:1], HURRY_SECONDS)
        self._log.info("workers.stopped", exit_code=self._exit_code)

    def _end(self, children: Sequence[_Child], seconds: float) -> None:
        self._send(signal.SIGTERM, children)
        deadline = time.monotonic() + seconds
        while any(child.pid for child in children):
            left = deadline - time.monotonic()
            if left <= 0:
                self._log.error(
                    "workers.killed", workers=[child.work.name for child in children if child.pid]
                )
                self._send(signal.SIGKILL, children)
                left = LONGEST_SLEEP
            number = _wait_for_signal(left)
            if number in STOP_SIGNALS:  # a second one: at once
                self._send(signal.SIGTERM, children)
                deadline = min(deadline, time.monotonic() + HURRY_SECONDS)
            for _ in self._ended():
                pass


def _wait_for_signal(seconds: float) -> signal.Signals | None:
    info = signal.sigtimedwait(HEARD, min(seconds, LONGEST_SLEEP))
    return None if info is None else signal.Signals(info.si_signo)
