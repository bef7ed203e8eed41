from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from tests.support.wait import PATIENCE
from tidewire.platform.child import LONGEST_LINE, TAIL, Child


class Lines(list[str]):
    """What a child said so far."""

    def __init__(self) -> None:
        super().__init__()
        self._spoken = asyncio.Event()

    def take(self, line: str) -> None:
        """Keep one line: a child's `on_line`."""
        self.append(line)
        self._spoken.set()

    async def first(self) -> str:
        """The first line, as soon as it is there."""
        await asyncio.wait_for(self._spoken.wait(), PATIENCE)
        return self[0]


def python(script: str, lines: Lines) -> Child:
    """A child that runs `script`; its output is collected in `lines`."""
    return Child("child", (sys.executable, "-u", "-c", script), os.environ, lines.take)


async def test_output_comes_line_by_line_before_the_end() -> None:
    """Both streams are read, the last line without a line end too, and all is there when `wait` returns."""
    lines = Lines()
    child = python("import sys; print('one'); sys.stderr.write('two\\nthree'); sys.exit(3)", lines)
    await child.start()
    assert await child.wait() == 3
    assert lines == ["one", "two", "three"]
    assert list(child.tail) == lines
    assert not child.running


async def test_tail_and_line_length_are_bounded() -> None:
    """A child cannot make its parent keep more than some lines, or wait for a line end for ever."""
    lines = Lines()
    child = python(f"print('x' * {LONGEST_LINE * 3}); [print(n) for n in range(100)]", lines)
    await child.start()
    await child.wait()
    assert len(child.tail) == TAIL
    assert child.tail[-1] == "99"
    assert max(map(len, lines)) < 2 * LONGEST_LINE
    assert sum(map(len, lines[:-100])) == LONGEST_LINE * 3


async def test_stop_asks_first() -> None:
    """SIGTERM lets it end in its own way."""
    lines = Lines()
    script = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up'); signal.pause()"
    child = python(script, lines)
    await child.start()
    await lines.first()
    assert await child.stop(grace=10) == 7


async def test_stop_kills_who_does_not_listen() -> None:
    """After the grace period the child is ended."""
    lines = Lines()
    script = "import signal; signal.signal(15, signal.SIG_IGN); print('up')\nwhile True: signal.pause()"
    child = python(script, lines)
    await child.start()
    await lines.first()
    assert await child.stop(grace=0.05) == -signal.SIGKILL


async def test_child_leads_its_own_session() -> None:
    """Ctrl-C in the terminal reaches the parent alone, which then stops its children in order."""
    lines = Lines()
    child = python("import os; print(os.getsid(0) == os.getpid())", lines)
    await child.start()
    await child.wait()
    assert lines == ["True"]


async def test_child_dies_with_its_parent() -> None:
    """Even SIGKILL of the parent leaves nothing behind."""
    lines = Lines()
    script = """
import asyncio, os, sys
from tidewire.platform.child import Child
async def main():
    child = Child("inner", (sys.executable, "-c", "import signal; signal.pause()"), os.environ, print)
    await child.start()
    print(child.pid)
    await child.wait()
asyncio.run(main())
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = Child("parent", (sys.executable, "-u", "-c", script), env, lines.take)
    await parent.start()
    grandchild = os.pidfd_open(int(await lines.first()))
    try:
        parent.signal(signal.SIGKILL)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(grandchild, ended.set)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        asyncio.get_running_loop().remove_reader(grandchild)
    finally:
        os.close(grandchild)
    await parent.wait()


async def test_program_that_does_not_exist() -> None:
    """A missing program is an OSError of `start`."""
    child = Child("child", ("/nonexistent/program",), os.environ, print)
    with pytest.raises(FileNotFoundError):
        await child.start()
    assert not child.running
