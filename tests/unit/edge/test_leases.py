from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.clock import ManualClock
from tests.fakes.limits import FakeService, rule_of
from tidewire.edge.leases import DOWN_SECONDS, Leases
from tidewire.edge.waiting import DOWN, UNKNOWN, TokensWanted, Waiters
from tidewire.kernel.gcra import give_back, grant
from tidewire.kernel.rate_bound import excess
from tidewire.kernel.token_bucket import ROUNDING, Allowance


class Held:
    """Leases of one rule, and their service."""

    def __init__(self, most: int = 1000, **rule: object) -> None:
        self.clock = ManualClock()
        self.service = FakeService(self.clock)
        self.asked_at = self.clock.now
        self.leases = Leases(rule_of(**rule), most, self.service.ask, self.service.give_back)

    def spend_noting(self, times: int) -> int:
        """Spend so many tokens, and note when more were asked for; return how many there were."""
        before = len(self.service.asked)
        there = self.spend(times=times).count(0.0)
        self.asked_at = self.clock.now if len(self.service.asked) > before else self.asked_at
        return there

    def answer(self, rule: Allowance, bucket: float) -> float:
        """Answer from a bucket, to which goes back what was dropped; return its state."""
        for _, _, tokens in self.service.returned:
            bucket = give_back(rule, bucket, tokens, 1.0)
        self.service.returned.clear()
        if self.service.asked:
            granted = grant(rule, bucket, self.clock.now, self.leases.size)
            bucket = granted.full_at
            self.service.grant(granted.tokens, granted.wait, self.asked_at)
        return bucket

    def spend(self, key: str = "alice", times: int = 1) -> list[float]:
        """Spend so many tokens."""
        return [self.leases.spend(key, self.clock.now) for _ in range(times)]


def test_the_first_command_of_a_key_finds_nothing_and_then_there_is_a_block() -> None:
    """It is asked for once, and spent without a call until half of it is gone: then for the next."""
    held = Held()
    assert held.spend(times=3) == [UNKNOWN] * 3
    assert len(held.service.asked) == 1
    held.service.grant()
    assert held.spend(times=4) == [0.0] * 4
    assert held.service.asked == []
    held.spend()
    assert len(held.service.asked) == 1
    held.service.grant()
    assert held.spend(times=15) == [0.0] * 15, "the rest of the first, and the next"
    assert held.leases.allowed == 20


def test_there_are_two_blocks_at_most() -> None:
    """The bound of a rule counts with that."""
    held = Held()
    held.spend()
    held.service.grant()
    held.spend(times=5)
    held.service.grant()
    held.spend(times=2)
    assert held.service.asked == []
    lease = held.leases.find("alice", held.clock.now)
    assert (lease.left, lease.next_left) == (3, 10)


def test_a_block_ends_with_its_time_counted_from_when_it_was_asked_for() -> None:
    """Not from when the answer came."""
    held = Held(lease_time="1s")
    held.spend()
    held.clock.now += 0.9
    held.service.grant(asked_at=held.clock.now - 0.9)
    assert held.spend() == [0.0]
    held.clock.now += 0.2
    assert held.spend() == [UNKNOWN]


def test_without_tokens_nobody_is_asked_until_there_are_some() -> None:
    """A flood over the limit costs the service one call."""
    held = Held()
    held.spend()
    held.service.grant(0, wait=2.5)
    assert held.spend(times=1000) == [2.5] * 1000
    assert held.service.asked == []
    held.clock.now += 2.5
    assert held.spend() == [UNKNOWN]


def test_while_nobody_can_be_asked_it_is_known_at_once() -> None:
    """And where all replicas failed, for a second."""
    held = Held()
    held.service.reachable = False
    assert held.spend() == [DOWN]
    held.service.reachable = True
    assert held.spend() == [UNKNOWN]
    held.service.fail()
    assert held.spend() == [DOWN]
    held.clock.now += DOWN_SECONDS
    assert held.spend() == [UNKNOWN]


def test_keys_that_nobody_uses_are_dropped_and_give_back_what_they_had() -> None:
    """Those that are used stay."""
    held = Held(lease_time="1m")
    held.spend("idle")
    held.spend("busy")
    held.service.grant()
    held.spend("idle")
    for _ in range(6):
        held.clock.now += 21
        held.leases.look(held.clock.now)
        held.spend("busy")
        held.service.grant()
    assert held.service.returned == [("r", "idle", 9)]
    assert len(held.leases) == 1


def test_a_million_keys_take_no_more_room_than_there_is() -> None:
    """Those of before give way, and their tokens go back; who goes on is served all the time."""
    held = Held(most=100)
    for number in range(5000):
        held.spend(f"key-{number}")
        held.spend("busy")
        held.service.grant()
        assert held.spend("busy") == [0.0]
        assert len(held.leases) <= 100
    assert len(held.service.returned) > 4800


def test_who_waits_is_not_dropped() -> None:
    """There are as many as may wait."""
    held = Held(most=100)
    lease = held.leases.find("waits", 0.0)
    lease.waiters.append(None)  # type: ignore[arg-type] # somebody
    for number in range(1000):
        held.spend(f"key-{number}")
    assert held.leases.find("waits", held.clock.now) is lease


def test_commands_of_a_dry_run_whose_key_is_dropped_are_counted_as_not_judged() -> None:
    """The answer comes too late for them, and none is lost from the counts."""
    held = Held()
    held.leases.owe(held.leases.find("a", held.clock.now))
    for _ in range(2):
        held.clock.now += 1
        held.leases.look(held.clock.now)
    assert (len(held.leases), held.leases.unknown) == (0, 1)


class Waiting:
    """Commands that wait for a token of one key each, and try again when they are told."""

    def __init__(self, held: Held, names: str, *, later: bool = False) -> None:
        """`later`: they go on when `go_on` is called, as an edge has them take turns."""
        self.held = held
        self.turns: list[str] = []
        self.later = later
        self.served = ""
        self.attempts = 0
        self.waiters = Waiters(held.clock.monotonic, lambda _seconds, _call: None)
        for name in names:
            self.attempt(name)

    def attempt(self, name: str) -> None:
        """Spend a token, or wait for one."""
        self.attempts += 1
        leases, now = self.held.leases, self.held.clock.now
        verdict = leases.spend("alice", now)
        if verdict == UNKNOWN:
            wanted = TokensWanted([leases.find("alice", now)])
            self.waiters.add(wanted, lambda: self.turns.append(name) if self.later else self.attempt(name))
        else:
            self.served += name if not verdict else name.upper()


def test_those_go_on_for_whom_there_are_tokens_and_for_the_others_more_are_asked_for() -> None:
    """In their order: to tell all of them for each token would cost the square of their number."""
    held = Held(lease_size=2)
    waiting = Waiting(held, "abcde")
    held.service.grant()
    assert (waiting.served, waiting.waiters.waiting, len(held.service.asked)) == ("ab", 3, 1)
    held.service.grant(1)
    assert (waiting.served, waiting.waiters.waiting, len(held.service.asked)) == ("abc", 2, 1)
    held.service.grant(0, wait=1)
    assert waiting.attempts == 5 + 5
    assert waiting.served == "abcDE", "the service has none: all are told when it will"


def test_those_that_are_told_may_take_their_time() -> None:
    """No more are told meanwhile than there are tokens for, no block is lost, and there are two at most."""
    held = Held(lease_size=2)
    waiting = Waiting(held, "abcdefgh", later=True)
    held.service.grant()
    assert (waiting.turns, len(held.service.asked)) == (list("ab"), 1)
    held.service.grant()
    assert waiting.turns == list("abcdef"), "the first may have been gone"
    assert held.service.asked == [], "two blocks, and nothing of them spent"
    while waiting.turns:
        waiting.attempt(waiting.turns.pop(0))
        if held.service.asked:
            held.service.grant()
    assert waiting.served == "abcdefgh"
    assert waiting.attempts <= 8 + 8 + 2


def test_where_nobody_can_be_asked_for_more_all_are_told() -> None:
    """What happens then is the rule's to say."""
    held = Held(lease_size=2)
    waiting = Waiting(held, "abcd")
    held.service.reachable = False
    held.service.grant()
    assert (waiting.served, waiting.waiters.waiting) == ("abCD", 0)


def test_who_is_told_and_takes_nothing_leaves_it_to_the_next() -> None:
    """It was refused for something else, or is gone; the next answer, whatever it is, lets others have its tokens."""
    held = Held(lease_size=2)
    waiting = Waiting(held, "")
    lease = held.leases.find("alice", held.clock.now)
    held.spend()
    for _ in range(3):
        waiting.waiters.add(TokensWanted([lease]), lambda: None)
    waiting.attempt("a")
    held.service.grant()
    assert (waiting.served, waiting.waiters.waiting, len(held.service.asked)) == ("", 2, 1)
    held.service.grant(0, wait=1)
    assert (waiting.served, waiting.waiters.waiting) == ("a", 0)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.6),
            st.sampled_from(["spend", "spend", "answer", "fail", "idle"]),
            st.integers(1, 12),
        ),
        max_size=80,
    ),
    st.integers(1, 10),
)
def test_what_edges_spend_of_a_bucket_is_within_the_bound(
    happened: list[tuple[float, str, int]], size: int
) -> None:
    """Two edges with the real leases and a real bucket; answers come late, fail, and tokens are given back."""
    edges = [Held(limit=20, burst=10, lease_size=size, lease_time="1s") for _ in range(2)]
    terms = rule_of(limit=20, burst=10, lease_size=size, lease_time="1s").terms
    bucket, now = 0.0, edges[0].clock.now
    spent: list[float] = []
    for pause, what, count in happened:
        now += pause
        edge = edges[count % 2]
        edge.clock.now = now
        if what == "spend":
            spent += [now] * edge.spend_noting(count)
        elif what == "answer":
            bucket = edge.answer(terms.allowance, bucket)
        elif what == "fail":
            edge.service.fail()
        else:
            edge.leases.look(now)
    for first, begin in enumerate(spent):
        for number, when in enumerate(spent[first:], 1):
            allowed = 10 + 20 * (when - begin + 4 * ROUNDING) + excess(terms, edges=2)
            assert number <= allowed + 1e-6
