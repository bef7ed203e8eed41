from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.keys import jwk, jwks
from tests.support.protocol import protocol
from tidewire.edge.config import JwksConfig
from tidewire.edge.policies import key_cache
from tidewire.edge.policies.jwks import KeySet, read_set
from tidewire.edge.policies.key_cache import KeyCache, KeySource, Standing
from tidewire.kernel.config import decode

URL = "https://issuer.example/keys?secret=1"
HELD = read_set(jwks(jwk("P-256", "a")))


def settings(url: str = URL, **changes: Any) -> JwksConfig:
    """100 s between refreshes, 10 s between fetches, keys for 300 s."""
    times = {"refresh_interval": "100s", "min_refetch_interval": "10s", "max_stale": "300s"}
    return decode(JwksConfig, {"url": url, **times, **changes})


def source(early: float = 0.0) -> KeySource:
    """A source that was never fetched."""
    return KeySource(settings(), early)


def fetched(at: float = 0.0, keys: KeySet = HELD) -> KeySource:
    """A source with keys since then."""
    made = source()
    assert made.begin(at)
    made.took(keys, at)
    return made


@protocol("token.jwks")
def test_kid_that_is_not_held_wants_a_fetch_and_then_has_an_answer() -> None:
    """Absent when the issuer was asked for it, unknown when it was not, until it may be asked again."""
    made = source()
    assert made.ask("new", 0) is Standing.WANTED
    assert made.begin(0)
    assert made.ask("other", 1) is Standing.WANTED  # joins the fetch under way
    assert not made.begin(1)
    made.took(HELD, 2)
    assert made.key("a", 2) is HELD.keys["a"]
    assert [made.ask(kid, 11.9) for kid in ("new", "other", "third")] == [
        Standing.ABSENT,
        Standing.ABSENT,
        Standing.UNKNOWN,
    ]
    assert not made.begin(11.9)
    assert made.ask("new", 12) is Standing.WANTED
    assert made.begin(12)


@protocol("token.jwks")
def test_after_a_failure_every_kid_is_unknown() -> None:
    """Also one that was absent before: the issuer may have it by now. What is held stays."""
    made = fetched(0)
    made.ask("new", 10)
    made.begin(10)
    made.took(HELD, 10)
    assert made.ask("new", 11) is Standing.ABSENT
    made.begin(20)
    made.failed("away", 21)
    assert made.ask("new", 22) is Standing.UNKNOWN
    assert made.key("a", 22) is HELD.keys["a"]
    assert made.problem == "away"


@protocol("token.jwks")
def test_keys_are_used_until_max_stale() -> None:
    """Counted from the last fetch that went well."""
    made = fetched(0)
    for now in (100, 200):
        made.begin(now)
        made.failed("away", now)
    assert made.key("a", 300) is HELD.keys["a"]
    assert made.usable(300) == 1
    assert made.key("a", 300.1) is None
    assert made.usable(300.1) == 0
    assert made.ask("a", 300.1) is Standing.WANTED


@protocol("token.jwks")
def test_a_key_that_has_gone_from_the_set_is_gone() -> None:
    """A refresh replaces, it does not add."""
    made = fetched(0)
    made.begin(10)
    made.took(KeySet(), 10)
    assert made.key("a", 10) is None


@protocol("token.jwks")
@pytest.mark.parametrize(("early", "due"), [(0.0, 100.0), (0.5, 95.0), (1.0, 90.0)])
def test_refresh_comes_ahead_of_time_by_each_edges_own_share(early: float, due: float) -> None:
    """Spread over a tenth of the interval, so that edges that started together do not ask together."""
    made = source(early)
    assert made.wants_refresh(0)
    made.begin(0)
    assert not made.wants_refresh(0)
    made.took(HELD, 0)
    assert not made.wants_refresh(due - 0.1)
    assert made.wants_refresh(due)


@protocol("token.jwks")
def test_background_attempts_grow_apart_while_the_issuer_is_away() -> None:
    """10 s, 20 s, 40 s, 80 s, and never more than the refresh interval."""
    made, now, pauses = source(), 0.0, []
    for _ in range(20):
        made.begin(now)
        made.failed("away", now)
        pause = next(second for second in range(1000) if made.wants_refresh(now + second))
        pauses.append(pause)
        now += pause
    assert pauses[:6] == [10, 20, 40, 80, 100, 100]
    assert pauses[-1] == 100


@protocol("token.jwks")
def test_who_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the answer is "not now", at once; both many kids and many tokens of one."""
    monkeypatch.setattr(key_cache, "MOST_WAITING", 3)
    made = source()
    assert [made.ask(str(number), 0) for number in range(4)] == [*[Standing.WANTED] * 3, Standing.UNKNOWN]
    other = source()
    other.waiting = 3
    assert other.ask("a", 0) is Standing.UNKNOWN


def test_cache_keeps_the_keys_of_a_url_across_configurations() -> None:
    """With the new settings; what is no longer configured is never fetched again."""
    cache = KeyCache(lambda: 0.0)
    cache.use([settings(), settings("https://other.example/")])
    kept, gone = cache.sources[URL], cache.sources["https://other.example/"]
    kept.begin(0)
    kept.took(HELD, 0)
    cache.use([settings(max_stale="200s"), settings("https://new.example/")])
    assert cache.sources.keys() == {URL, "https://new.example/"}
    assert cache.sources[URL] is kept
    assert kept.key("a", 201) is None
    assert gone.ask("a", 0) is Standing.UNKNOWN
    assert not gone.wants_refresh(0)
    assert not gone.begin(0)


def test_name_hides_the_query() -> None:
    """Logs and labels show it."""
    assert source().name == "https://issuer.example/keys"
    assert msgspec.structs.asdict(source().settings)["url"] == URL
