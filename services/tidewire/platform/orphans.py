"""Children that do not outlive their parent, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def dying_with(parent: int, number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child of `parent` calls first: on Linux the kernel then sends it `number` when the parent dies.

    None on other systems. The library is found here, before the fork, since the child of a process with threads must not
    load one.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return in_child
