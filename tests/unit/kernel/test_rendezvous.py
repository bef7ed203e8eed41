from __future__ import annotations

from collections import Counter

from tidewire.kernel.rendezvous import ranking

KEYS = [b"key-%d" % number for number in range(3000)]
PLACES = ["dns:///a:1", "dns:///b:1", "dns:///c:1"]


def test_keys_are_divided_evenly() -> None:
    """None of three has more than two fifths."""
    counts = Counter(ranking(key, PLACES)[0] for key in KEYS)
    assert all(800 < counts[index] < 1200 for index in range(3))


def test_whoever_has_the_same_places_agrees() -> None:
    """In whatever order they are written."""
    backwards = PLACES[::-1]
    for key in KEYS[:200]:
        names = [PLACES[index] for index in ranking(key, PLACES)]
        assert names == [backwards[index] for index in ranking(key, backwards)]


def test_only_the_keys_of_one_that_is_gone_move() -> None:
    """Each to the second of its order, and they are spread over all that are left."""
    moved: Counter[str] = Counter()
    for key in KEYS:
        order = [PLACES[index] for index in ranking(key, PLACES)]
        left = [PLACES[:2][index] for index in ranking(key, PLACES[:2])]
        assert left == [place for place in order if place != PLACES[2]]
        if order[0] == PLACES[2]:
            moved[left[0]] += 1
    assert all(count > 350 for count in moved.values())


def test_places_with_long_names_have_their_share() -> None:
    """Those of a cluster differ at the beginning only, and end alike."""
    end = "ratelimit.a-namespace-with-quite-a-name.svc.cluster.example.com:9643"
    places = [f"dns:///tidewire-ratelimit-{number}.{end}" for number in range(3)]
    firsts = Counter(ranking(key, places)[0] for key in KEYS)
    assert min(firsts[number] for number in range(3)) > 800
