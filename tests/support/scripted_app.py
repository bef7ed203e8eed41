"""An app for `lifecycle.run` that does what its arguments say: `python -m tests.support.scripted_app start=hang`.

It prints what it is told to do, and ends with the exit code of `run`. `ok` does it, `hang` waits for ever, `refuse`
raises StartError, `crash` another error, `hangup` sends SIGHUP to itself and does it, `block` stands still, and the loop with
it. `limit` is how long the end may take. `end=signals` sends the process the signals that stop it once more when Python has
put its handlers away, which is the last moment of all; `end=block` lets that moment last for ever.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable

from tidewire.platform import lifecycle, logs


class ScriptedApp:
    """Implements `lifecycle.App`."""

    def __init__(self, script: dict[str, str]) -> None:
        self._script = script

        match script.get("create"):
            case "refuse":
                raise lifecycle.StartError("a file is missing")
            case "hangup":
                os.kill(os.getpid(), signal.SIGHUP)

    async def start(self) -> None:
        """See `lifecycle.App`."""
        await self._act("start")

    async def work(self) -> None:
        """See `lifecycle.App`."""
        if self._script.get("work") == "crash":
            raise RuntimeError("a mistake")
        await asyncio.Event().wait()

    def reload(self) -> None:
        """See `lifecycle.App`."""
        print("reload", flush=True)

    async def drain(self) -> None:
        """See `lifecycle.App`."""
        await self._act("drain")

    async def stop(self) -> None:
        """See `lifecycle.App`."""
        await self._act("stop")

    async def _act(self, name: str) -> None:
        print(name, flush=True)
        match self._script.get(name, "ok"):
            case "hang":
                try:
                    await asyncio.Event().wait()
                finally:
                    print(f"{name} ended", flush=True)
            case "hangup":
                os.kill(os.getpid(), signal.SIGHUP)
            case "block":
                threading.Event().wait()
            case "refuse":
                raise lifecycle.StartError("port 8000 is taken")
            case "crash":
                raise RuntimeError("a mistake")
        print(f"{name} done", flush=True)


class Last:
    """Sends the signals when the module is torn down."""

    def __del__(self, kill: Callable[[int, int], None] = os.kill, process: int = os.getpid()) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            kill(process, number)


if __name__ == "__main__":
    actions = dict(argument.split("=") for argument in sys.argv[1:])
    lifecycle.STOP_SECONDS = float(actions.get("limit", lifecycle.STOP_SECONDS))
    if actions.get("end") == "block":
        threading.Thread(target=threading.Event().wait).start()
    if actions.get("end") == "signals":
        last = Last()
    sys.exit(lifecycle.run(lambda: ScriptedApp(actions), logs.configure("info", "json")))
