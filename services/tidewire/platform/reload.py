"""Reading the configuration again: the whole of it comes into force, or nothing of it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tidewire.kernel.config import ConfigError, Problem, Section
from tidewire.kernel.config_changes import Change, changes, fingerprint
from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Counter, Gauge

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

C = TypeVar("C", bound=Section)
Renew = Callable[[], Sequence[str]]

PAUSE = 1.0
"""Seconds between the end of one reload and the start of the next."""
NAMED = 20
"""Problems or changes that one log line names."""
OUTCOMES = ("done", "unchanged", "refused")


class _Reading(NamedTuple):
    """A good configuration, and how it differs from the one in force."""

    config: Any
    changes: tuple[Change, ...]
    fingerprint: str
    renew: Renew


def _nothing(_config: Section) -> Renew:
    return tuple


class Reloader(Generic[C]):
    """Holds the configuration in force, and replaces it on request.

    However many requests come, one reload runs, one waits, and they are `PAUSE` seconds apart. `load` reads and checks
    the configuration as at the start (it may block, and raises ConfigError); `apply` puts it in force and must either
    do so wholly or raise. `read_files` reads what the configuration only names (as `load` does), and returns what puts it
    in force, which cannot fail, and tells what is new.
    """

    def __init__(
        self,
        config: C,
        load: Callable[[], C],
        apply: Callable[[C], None],
        log: FilteringBoundLogger,
        wall: Callable[[], float],
        read_files: Callable[[C], Renew] = _nothing,
    ) -> None:
        self.config = config
        self._load = load
        self._apply = apply
        self._read_files = read_files
        self._log = log
        self._wall = wall
        self._closed = ""
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self._accepted_at = wall()
        self._in_step = True
        self._fingerprint = fingerprint(config)
        self._reloads = Counter(
            "tidewire_config_reloads",
            "Times that the configuration was read again: done, unchanged, refused (invalid, or a change needs a "
            "restart: the one in force stays, config.reload_refused in the log says why).",
            ["outcome"],
        )
        for outcome in OUTCOMES:
            self._reloads.inc(0, (outcome,))

    def metrics(self) -> Sequence[Counter | Gauge]:
        """Return what to expose."""
        return (
            self._reloads,
            Gauge(
                "tidewire_config_last_reload_successful",
                "0 while the configuration that was last read is not the one in force, since it was refused.",
                lambda: float(self._in_step),
                merge=Merge.MIN,
            ),
            Gauge(
                "tidewire_config_last_success_timestamp_seconds",
                "When the configuration was last read and not refused, at the start or later; Unix time.",
                lambda: self._accepted_at,
                merge=Merge.MIN,
            ),
            Gauge(
                "tidewire_config_info",
                "Always 1; the label is a hash of all settings in force that a reload can change, secrets left out: "
                "processes of a kind with equal ones agree.",
                lambda: {(self._fingerprint,): 1.0},
                ["hash"],
                Merge.MAX,
            ),
        )

    def request(self) -> None:
        """Reload soon; returns at once and raises nothing. Requests that come meanwhile are one."""
        self._wanted = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve(), name="reload")

    def close(self, why: str) -> None:
        """From now on only say that requests are ignored, and `why`."""
        self._closed = why

    def stop(self) -> None:
        """Forget what runs or waits."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        while self._wanted:
            self._wanted = False
            if self._closed:
                self._log.info("config.reload_ignored", reason=self._closed)
            else:
                await self._reload()
            await asyncio.sleep(PAUSE)
        self._task = None

    async def _reload(self) -> None:
        try:
            self._judge(await asyncio.to_thread(self._read))
        except ConfigError as error:
            self._refuse(error.problems)
        except Exception:  # noqa: BLE001 - a mistake of ours must not cost a process its clients
            self._log.exception("config.reload_failed")
            self._count("refused")

    def _read(self) -> _Reading:
        """Not on the loop: a thousand namespaces take most of a second."""
        config = self._load()
        return _Reading(config, changes(self.config, config), fingerprint(config), self._read_files(config))

    def _judge(self, reading: _Reading) -> None:
        found = reading.changes
        fixed = [Problem(change.path, "a change needs a restart") for change in found if change.restart]
        if fixed:
            self._refuse(fixed)
            return
        if found:
            self._apply(reading.config)
            self.config = reading.config
            self._fingerprint = reading.fingerprint
        paths = [*(change.path for change in found), *reading.renew()]
        if paths:
            self._log.info("config.reloaded", hash=self._fingerprint, changes=_shortened(paths))
        else:
            self._log.info("config.unchanged")
        self._count("done" if paths else "unchanged")

    def _refuse(self, problems: Sequence[Problem]) -> None:
        self._log.error("config.reload_refused", problems=_shortened(list(map(str, problems))))
        self._count("refused")

    def _count(self, outcome: str) -> None:
        self._reloads.inc(1, (outcome,))
        self._in_step = outcome != "refused"
        if self._in_step:
            self._accepted_at = self._wall()


def _shortened(texts: list[str]) -> list[str]:
    more = len(texts) - NAMED
    return [*texts[:NAMED], f"and {more} more"] if more > 0 else texts
