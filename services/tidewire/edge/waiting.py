"""What a command of a connection may have to wait for before it is judged: an answer of the rate-limit service. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.party import Party
    from tidewire.edge.places_held import Slot

KEY_BYTES: Final = 16
SLACK: Final = 1000
"""Of those that have gone on, so many and as many as wait are kept in line."""
UNKNOWN: Final = -1.0
"""Nothing is known of the key yet: it was asked for."""
DOWN: Final = -2.0
"""Nobody can be asked."""

CROWDED: Final = errors.TOO_MANY_REQUESTS.saying(
    "too many requests: as many wait at this edge as may; try again in 1.0 s"
)
"""Not what `when_down` says: else whoever makes many wait would be under no limit."""
OVERTAKEN: Final = errors.TOO_MANY_REQUESTS.saying(
    "too many requests: more wait for this than may go on; try again in 1.0 s"
)
"""Likewise for who waited long enough while others got what the service had to give."""

Key = str | tuple[str, ...]
"""Whose tokens: a part, or several parts together."""


class Awaited:
    """A key of which nothing is known at this moment, and who waits for that."""

    __slots__ = ("order", "waiters", "wire")

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self.wire = b""
        """The key as it is sent, and `order`: the replicas that it belongs to, one after the other. Made when they are needed."""
        self.order: Sequence[int] = ()

    def tell(self) -> None:
        """Something is known now, or nothing will be: let those that wait for nothing else go on."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.told()


class TokensWanted(msgspec.Struct, frozen=True):
    """A command cannot be judged before these are known."""

    awaited: Sequence[Awaited]


class Waiter:
    """A connection that waits for some keys."""

    __slots__ = ("_go_on", "_left", "_line", "due")

    def __init__(self, line: Waiters, go_on: Callable[[], None], keys: int, due: float) -> None:
        self._line = line
        self._go_on: Callable[[], None] | None = go_on
        self._left = keys
        self.due = due
        """When it waits no longer, monotonic seconds."""

    def told(self) -> None:
        """One of the keys is known."""
        self._left -= 1
        if not self._left:
            self.end()

    def end(self) -> None:
        """Go on, once."""
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            self._line.waiting -= 1
            go_on()

    @property
    def ended(self) -> bool:
        """Whether it has gone on."""
        return self._go_on is None


class Waiters:
    """All that wait, in the order in which their time is over; at most `most`."""

    __slots__ = ("_line", "_timed", "later", "most", "now", "patience", "waiting")

    def __init__(
        self, now: Callable[[], float], later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        self.now = now
        self.later = later
        """Calls a function in so many seconds."""
        self.most = 0
        self.patience = 0.0
        """Seconds that one waits at most."""
        self.waiting = 0
        self._line: deque[Waiter] = deque()
        """Those that wait, and some that have gone on."""
        self._timed = False

    def __len__(self) -> int:
        return self.waiting

    @property
    def full(self) -> bool:
        """Whether nobody more may wait."""
        return self.waiting >= self.most

    def add(self, wanted: TokensWanted, go_on: Callable[[], None]) -> None:
        """Call `go_on` once all is known, or the time is over."""
        waiter = Waiter(self, go_on, len(wanted.awaited), self.now() + self.patience)
        self.waiting += 1
        if len(self._line) > SLACK + 2 * self.waiting:
            self._line = deque(each for each in self._line if not each.ended)
        self._line.append(waiter)
        for each in wanted.awaited:
            each.waiters.append(waiter)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._line and not self._timed:
            self._timed = True
            self.later(max(0.0, self._line[0].due - self.now()), self._expire)

    def _expire(self) -> None:
        self._timed = False
        now = self.now()
        while self._line and (self._line[0].ended or self._line[0].due <= now):
            self._line.popleft().end()
        self._set_timer()


class Standing(msgspec.Struct, gc=False):
    """What limits remember of one connection."""

    claims: Mapping[str, str] = {}
    """Those of its token that rules ask for."""
    impatience: float = 0.0
    """When its refusals are forgotten, monotonic seconds: each counts for a part of a minute."""
    waits_since: float = 0.0
    """When the command at hand began to wait; 0.0: it does not."""
    slots: Sequence[Slot] = ()
    """The places that it takes."""


def standing_of(party: Party) -> Standing:
    """Return what is remembered, which begins here."""
    if party.standing is None:
        party.standing = Standing()
    return party.standing


def is_crowded_out(party: Party, waiters: Waiters) -> bool:
    """Return whether a command would have to wait, and cannot since too many do."""
    return waiters.full and not (party.standing is not None and party.standing.waits_since)


def gives_up(party: Party, waiters: Waiters, now: float) -> bool:
    """Return whether a command has waited long enough. Otherwise it waits from now on, unless it did before."""
    standing = standing_of(party)
    if standing.waits_since:
        return now - standing.waits_since >= waiters.patience
    standing.waits_since = now
    return False


def waits_no_more(party: Party) -> float:
    """End the wait of a command, and return since when it has waited; 0.0: it did not."""
    if party.standing is None:
        return 0.0
    since, party.standing.waits_since = party.standing.waits_since, 0.0
    return since


def wire_key(rule: str, key: Key) -> bytes:
    """Return a key as it is sent: a digest, so that no client decides how long it is."""
    parts = [rule, *key] if isinstance(key, tuple) else [rule, key]
    encoded = [part.encode(errors="surrogatepass") for part in parts]
    return blake2b(b"".join(b"%d:%b" % (len(each), each) for each in encoded), digest_size=KEY_BYTES).digest()
