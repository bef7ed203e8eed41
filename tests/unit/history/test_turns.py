from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from tests.support.wait import PATIENCE, eventually
from tidewire.history.turns import Asker, Turns, asker


class Asking:
    """Requests of askers to one line, each of which ends when the test says so."""

    def __init__(self, most: int) -> None:
        self.turns = Turns(most)
        self.served: list[str] = []
        self.known: dict[str, Asker] = {}
        """Who has no connection of its own."""
        self.now = 0
        self._release = asyncio.Semaphore(0)

    def ask(self, who: str) -> asyncio.Task[None]:
        """Ask once."""
        return asyncio.ensure_future(self._ask(who))

    async def _ask(self, who: str) -> None:
        asker.set(self.known.get(who, Asker(who)))
        async with self.turns:
            self.served.append(who)
            self.now += 1
            try:
                await self._release.acquire()
            finally:
                self.now -= 1

    def end(self, count: int) -> None:
        """End so many."""
        for _ in range(count):
            self._release.release()


@contextlib.asynccontextmanager
async def crowd(most: int, askers: str) -> AsyncIterator[tuple[Asking, list[asyncio.Task[None]]]]:
    """Askers who have asked in this order; in the end all are served."""
    asking = Asking(most)
    tasks = [asking.ask(who) for who in askers]
    await asyncio.sleep(0)
    try:
        yield asking, tasks
    finally:
        asking.end(len(tasks))
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (asking.turns.waiting, asking.now) == (0, 0)
    async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
        for _ in range(most):  # none of them is lost
            await stack.enter_async_context(asking.turns)


async def test_who_asks_much_waits_behind_itself_only() -> None:
    """Whoever comes later is next, whatever waits."""
    async with crowd(2, "a" * 50) as (asking, _):
        assert (asking.now, asking.turns.waiting) == (2, 48)
        asking.ask("b")
        asking.ask("c")
        await eventually(lambda: asking.turns.waiting == 50)
        asking.end(5)
        await eventually(lambda: len(asking.served) == 7)
        assert "".join(asking.served) == "aa" + "abcaa"
        asking.end(2)


async def test_those_who_share_a_connection_take_turns_on_it() -> None:
    """Edges behind a proxy; and whoever takes many names takes nothing from another connection by it."""
    async with crowd(1, "") as (asking, _):
        asking.known = {who: Asker("proxy", who) for who in "abcdef"}
        tasks = [asking.ask(who) for who in "aaaabcdefxxx"]
        await asyncio.sleep(0)
        for _ in tasks:
            asking.end(1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert "".join(asking.served) == "a" + "axbxcxdefaa"


async def test_names_that_have_given_up_cost_their_connection_no_turn() -> None:
    """Whoever has not is served in their place."""
    async with crowd(1, "x") as (asking, _):
        asking.known = {who: Asker("proxy", who) for who in "abc"}
        tasks = [asking.ask(who) for who in "abcy"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[1].cancel()
        asking.end(1)
        await eventually(lambda: "".join(asking.served) == "xc")
        asking.end(2)
        await asyncio.gather(*tasks[2:])


async def test_who_has_given_up_is_passed_over() -> None:
    """And waits no longer."""
    async with crowd(1, "aabbb") as (asking, tasks):
        for task in tasks[1:4]:
            task.cancel()
        await eventually(lambda: asking.turns.waiting == 1)
        asking.end(1)
        await eventually(lambda: "".join(asking.served) == "ab")


async def test_a_turn_that_comes_when_its_asker_gives_up_is_the_next_ones() -> None:
    """In the same moment."""
    async with crowd(1, "ab") as (asking, tasks):
        late = asking.ask("c")
        await asyncio.sleep(0)
        asking.end(1)
        await asyncio.sleep(0)
        await tasks[0]
        tasks[1].cancel()  # its turn is there, and it does not know yet
        await eventually(lambda: "".join(asking.served) == "ac")
        asking.end(1)
        await late


@given(st.text("abc", max_size=30), st.sets(st.integers(0, 29)), st.integers(1, 4))
async def test_all_are_served_in_turn(askers: str, given_up: set[int], most: int) -> None:
    """Never more at once than may be; each asker's in their order, and nobody twice while another waits."""
    async with crowd(most, askers) as (asking, tasks):
        for number in given_up:
            if most <= number < len(tasks):
                tasks[number].cancel()
        left = [
            Counter(who for at, who in enumerate(askers) if at >= most and at not in given_up).get(each, 0)
            for each in dict.fromkeys(askers[most:])
        ]
        await asyncio.sleep(0)
        assert (asking.now, asking.turns.waiting) == (min(most, len(askers)), sum(left))
        while asking.now:
            asking.end(1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert asking.now <= most
        rounds = [
            who
            for number in range(len(askers))
            for who, count in zip(dict.fromkeys(askers[most:]), left, strict=True)
            if number < count
        ]
        assert asking.served == [*askers[:most], *rounds]
