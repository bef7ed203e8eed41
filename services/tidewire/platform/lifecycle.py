"""Starting, reloading, draining and stopping a process, the same way for every service."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
from collections.abc import Callable, Coroutine
from secrets import token_hex
from socket import gethostname
from typing import TYPE_CHECKING, Any, Protocol

import uvloop

from tidewire.kernel.errors import TidewireError
from tidewire.platform.tasks import ended

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
EXIT_OK = 0
EXIT_UNAVAILABLE = 69
"""sysexits.h: something that the process needs is not there (EX_UNAVAILABLE)."""
EXIT_FAILED = 70
"""sysexits.h: a mistake in the program (EX_SOFTWARE)."""


STOP_SECONDS = 30.0
"""How long the end may take, with what Python does behind `run`: more is a mistake that must not keep a process for ever."""


class StartError(TidewireError):
    """The process cannot start; the message is one clear line."""


class App(Protocol):
    """A process: `start` raises StartError, `drain` and `stop` are bounded in time by themselves; `reload` never raises."""

    async def start(self) -> None:
        """Become ready."""

    async def work(self) -> None:
        """Go on until it is cancelled, which is before the drain. What it raises is a mistake, by which it can serve no more."""

    def reload(self) -> None:
        """Take the configuration as it is now: begin at once, or soon. Called any number of times, also while draining."""

    async def drain(self) -> None:
        """Stop being ready, and let go of clients without losing what they are owed."""

    async def stop(self) -> None:
        """Let go of everything at once."""


def node_name(given: str) -> str:
    """Return what a process is called in logs: its own name, or the host's with a random suffix."""
    return given or f"{gethostname()}-{token_hex(3)}"


def hold_reloads() -> None:
    """Let a SIGHUP wait until `run` has started the app, which it would otherwise end. For the first line of a process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def hold_signals() -> None:
    """Let further signals change nothing: for the end of a process.

    Python puts its handlers away before it ends: one more of them would then end the process as if it were killed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP_SIGNALS, signal.SIGHUP})


def run(
    create: Callable[[], App], log: FilteringBoundLogger, on_ready: Callable[[], None] = lambda: None
) -> int:
    """Run an app until SIGTERM or SIGINT, drain it (a second signal ends that), and return the exit code.

    `on_ready` is called after the start. SIGHUP is `reload`. One that comes before the end of the start waits for it, since the configuration was read before.
    A StartError of `create` counts as one of `start`. An app whose work fails is drained, too: whoever runs the process starts it anew.
    Whatever happens, the app is stopped. What it raises is logged, as one line.
    It is the last that a process does: from the end of `stop` on, further signals change nothing. Where the process has not
    ended `STOP_SECONDS` after the begin of `stop`, it ends with exit code 1 and the stacks of its threads on standard error.
    """
    return uvloop.run(_run(create, log, on_ready))


async def _run(create: Callable[[], App], log: FilteringBoundLogger, on_ready: Callable[[], None]) -> int:
    stopping = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if stopping.is_set() else stopping).set()

    hold_reloads()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    # A supervisor's children begin with them blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    app: App | None = None
    code = EXIT_OK
    try:
        app = create()
        started = await _first(app.start(), stopping)
        if started:
            loop.add_signal_handler(signal.SIGHUP, app.reload)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
            on_ready()
            code = await _work(app, log, stopping)
            log.info("process.draining")
            await _first(app.drain(), hurry)
    except StartError as error:
        log.error("process.refused", problem=str(error))  # noqa: TRY400 - one clear line, no stack
        return EXIT_UNAVAILABLE
    except Exception:
        log.exception(
            "process.failed"
        )  # not left to Python, whose stack on standard error could show secrets
        return EXIT_FAILED
    finally:
        faulthandler.dump_traceback_later(STOP_SECONDS, exit=True)
        if app is not None:
            await app.stop()
        hold_signals()
    log.info("process.stopped")
    return code


async def _work(app: App, log: FilteringBoundLogger, stopping: asyncio.Event) -> int:
    """Let an app work until it is to stop; return the exit code. A mistake is logged at once: the drain takes its time."""
    try:
        await _first(app.work(), stopping)
    except Exception:
        log.exception("process.failed")
        return EXIT_FAILED
    return EXIT_OK


async def _first(work: Coroutine[Any, Any, None], event: asyncio.Event) -> bool:
    """Do `work` unless `event` comes first; return whether it was done. Its exceptions come through."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        await ended([task])
        return False
    await task
    return True
