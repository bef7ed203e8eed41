"""When a process that has ended is started again. Pure."""

from __future__ import annotations

import msgspec

FIRST_RESTART = 0.5
LONGEST_RESTART = 10.0
HEALTHY_SECONDS = 30.0
CRASHES_AT_START = 3
REFUSALS = frozenset({69, 78})
"""Exit codes (sysexits.h) of a process that cannot do what it is for: another attempt would only say so again."""


def restart_delay(failures: int) -> float:
    """Return the seconds to wait before the next start after this many failures in a row (from 1)."""
    return min(FIRST_RESTART * 2.0 ** min(failures - 1, 10), LONGEST_RESTART)


def exit_words(code: int) -> str:
    """Say how a process ended; a negative code is a signal's number."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


class Restarts(msgspec.Struct):
    """Decides what follows the ends of one process of several.

    `proven` is true once it was ready: what has worked is started again for ever, however long it must wait for NATS, since
    the others still serve. What has not is a mistake in the configuration or the program.
    """

    proven: bool = False
    failures: int = 0

    def after(self, code: int, lived: float) -> float | None:
        """Return the seconds to wait before the next start, None to give up. `lived` are the seconds since the last one."""
        self.failures = 1 if lived > HEALTHY_SECONDS else self.failures + 1
        if not self.proven and (code in REFUSALS or self.failures >= CRASHES_AT_START):
            return None
        return restart_delay(self.failures)
