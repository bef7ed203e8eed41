"""An event loop whose time passes only while nobody has anything to do: what waits for seconds takes none, and is exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Waits for nothing that is outside; the time that it would wait is over at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See selectors."""
        assert timeout is not None, "everybody waits for what never comes"
        self.now += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)

    def time(self) -> float:
        """See asyncio."""
        return self._own.now


def in_own_time(work: Coroutine[Any, Any, T]) -> T:
    """Return what comes of work that only waits for time, however busy the machine is."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
