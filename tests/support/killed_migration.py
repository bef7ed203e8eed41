"""`tidewire migrate` that is killed right after it has sent its n-th question: `python -m tests.support.killed_migration N ARGUMENTS`.

Whether that one arrives is a matter of luck, as in life.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tidewire.cli.main import main
from tidewire.platform.jetstream import JetStream

_asked = 0


async def _ask(self: JetStream, subject: str, request: bytes, header: bytes = b"") -> tuple[bytes, bytes]:
    global _asked  # noqa: PLW0603 - the count of this process
    _asked += 1
    if _asked == _LAST:
        question = asyncio.ensure_future(_original(self, subject, request, header))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGKILL)
        await question
    return await _original(self, subject, request, header)


if __name__ == "__main__":
    _LAST = int(sys.argv.pop(1))
    _original = JetStream.ask
    JetStream.ask = _ask  # type: ignore[method-assign]
    main()
