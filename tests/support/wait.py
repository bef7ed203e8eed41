"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL = 0.01
PATIENCE = 20.0
"""Seconds that a test gives to what takes a fraction of one: the machine may have two slow cores and other work."""
SLACK = 2.5
"""Seconds that a test adds to the time within which something is promised: for a machine that is slow, or stands still for
a second while a process of ours or the test itself was just about to say or to hear it."""


async def eventually(
    check: Callable[[], T | Awaitable[T]], timeout: float = PATIENCE, message: str = ""
) -> T:
    """Return the first true value of `check` (a function or a coroutine function), asked each 10 ms.

    Raises:
        AssertionError: It stayed false for `timeout` seconds; the text is `message` and the last value. An
            AssertionError of `check` itself counts as false and is shown then.
    """
    end = time.monotonic() + timeout
    while True:
        failure: AssertionError | None = None
        value: object = None
        try:
            found = check()
            value = (await found) if inspect.isawaitable(found) else found
            if value:
                return value  # type: ignore[return-value]
        except AssertionError as error:
            failure = error
        if time.monotonic() >= end:
            what = message or getattr(check, "__name__", "the condition")
            raise AssertionError(
                f"not within {timeout:g} s: {what} (last: {failure or value!r})"
            ) from failure
        await asyncio.sleep(POLL)
