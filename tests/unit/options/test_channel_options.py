from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.config import KEY, problems
from tidewire.edge.config import ChannelOptions, EdgeConfig
from tidewire.kernel.config import ConfigError, decode
from tidewire.options.channel_options import POSITIONED

BATCH_FLUSH_LATEST = (
    "channel.without_namespace.batch_flush_latest: unknown setting; "
    "here it is channel.namespaces[].conflate, for publications with a key"
)


@pytest.mark.parametrize("name", ["a", "_ab", "a b", "chat:", "", "chät", "a" * 65])
def test_namespace_names_follow_the_protocol(name: str) -> None:
    """Two or more letters, digits, - and _, and not _ first."""
    [line] = problems({**KEY, "channel": {"namespaces": [{"name": name}]}})
    assert line.startswith("channel.namespaces[0].name: ")


def test_namespaces_have_names_of_their_own() -> None:
    """A second namespace of the same name would never be used."""
    namespaces = [{"name": "chat"}, {"name": "live"}, {"name": "chat"}]
    assert problems({**KEY, "channel": {"namespaces": namespaces}}) == [
        "channel.namespaces[2].name: 'chat' is namespaces[0] already"
    ]


@pytest.mark.parametrize("pattern", ["(?<=a)b", "[", r"(a)\1", "a**"])
def test_patterns_must_be_ones_of_re2(pattern: str) -> None:
    """Look-behind, back references and broken patterns are refused when the configuration is read."""
    [line] = problems({**KEY, "channel": {"without_namespace": {"channel_regex": pattern}}})
    assert line.startswith("channel.without_namespace.channel_regex: not a regular expression of RE2: ")


def test_a_good_pattern_passes() -> None:
    """RE2's syntax, Unicode classes included."""
    config = decode(
        EdgeConfig, {**KEY, "channel": {"without_namespace": {"channel_regex": r"^\p{L}+-\d{1,9}$"}}}
    )
    assert config.channel.without_namespace.channel_regex


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({**KEY, "channel": {"max_length": 256}}, "channel.max_length: expected int <= 255"),
        (
            {**KEY, "channel": {"without_namespace": {"batch_max_delay": "11s"}}},
            "channel.without_namespace.batch_max_delay: expected at most 10s, got 11s",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"batch_max_delay": "-1ms"}}},
            "channel.without_namespace.batch_max_delay: expected a duration such as 25s, 500ms or 1m, got '-1ms'",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"batch_max_size": 0}}},
            "channel.without_namespace.batch_max_size: expected int >= 1",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"conflate": "yes"}}},
            "channel.without_namespace.conflate: expected bool, got str",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"conflate": True, "conflate_max_keys": 100_001}}},
            "channel.without_namespace.conflate_max_keys: expected int <= 100000",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"batch_flush_latest": True}}},
            BATCH_FLUSH_LATEST,
        ),
        (
            {**KEY, "channel": {"without_namespace": {"allow_wildcards": True, "channel_regex": "^a"}}},
            "channel.without_namespace.allow_wildcards: cannot be combined with channel_regex",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"delta_publish": True}}},
            "channel.without_namespace.delta_publish: has no effect without allowed_delta_types",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"allowed_delta_types": ["xdelta"]}}},
            "channel.without_namespace.allowed_delta_types[0]: expected one of fossil, got 'xdelta'",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"history_size": 10}}},
            "channel.without_namespace.history_ttl: history needs history_size and history_ttl",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"history_ttl": "1m"}}},
            "channel.without_namespace.history_size: history needs history_size and history_ttl",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"history_max_publication_limit": 0}}},
            "channel.without_namespace.history_max_publication_limit: expected int >= 1",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"recovery_max_publication_limit": 10_001}}},
            "channel.without_namespace.recovery_max_publication_limit: expected int <= 10000",
        ),
        (
            {**KEY, "channel": {"without_namespace": {"force_recovery_mode": "both"}}},
            "channel.without_namespace.force_recovery_mode: expected one of stream, cache, got 'both'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_are_checked(config: Mapping[str, object], line: str) -> None:
    """Limits of channels, each with the path of its setting."""
    assert line in problems(config)


@pytest.mark.parametrize("name", POSITIONED)
@pytest.mark.parametrize("bounds", [{}, {"history_size": 10}, {"history_ttl": "1m"}])
def test_positions_need_history(name: str, bounds: Mapping[str, object]) -> None:
    """Half a history is none."""
    namespace = {"name": "chat", name: True, **bounds}
    lines = problems({**KEY, "channel": {"namespaces": [namespace]}})
    assert f"channel.namespaces[0].{name}: needs history: history_size and history_ttl" in lines


def test_histories_are_on_where_both_bounds_are_given() -> None:
    """And the rest of the options then mean something."""
    options = {"history_size": 1, "history_ttl": "1s", **dict.fromkeys(POSITIONED, True)}
    channel = {"namespaces": [{"name": "chat", **options}]}
    config = decode(EdgeConfig, {**KEY, "channel": channel, "history": {"target": "dns:///history:9443"}})
    assert config.channel.namespaces[0].has_history
    assert not config.channel.without_namespace.has_history


def test_wildcards_and_filters_go_with_everything_else() -> None:
    """A namespace may have both."""
    both = {"allow_wildcards": True, "allow_tags_filter": True, "allow_user_limited_channels": True}
    config = decode(EdgeConfig, {**KEY, "channel": {"namespaces": [{"name": "chat", **both}]}})
    assert config.channel.namespaces[0].allow_wildcards
    assert not config.channel.without_namespace.allow_wildcards
    assert not config.channel.without_namespace.allow_tags_filter


@pytest.mark.parametrize(
    "name", ["allow_positioning", "force_positioning", "allow_recovery", "force_recovery"]
)
@pytest.mark.parametrize("mode", ["stream", "cache"])
def test_conflated_channels_have_no_positions(name: str, mode: str) -> None:
    """But the latest publication can be recovered."""
    options = {
        "history_size": 1,
        "history_ttl": "1s",
        "conflate": True,
        "force_recovery_mode": mode,
        name: True,
    }
    if mode == "cache" and name.endswith("recovery"):
        decode(ChannelOptions, options)
        return
    with pytest.raises(ConfigError) as caught:
        decode(ChannelOptions, options)
    assert [problem.path for problem in caught.value.problems] == [name]


@pytest.mark.parametrize(
    ("history", "line"),
    [
        ({}, "history.target: is needed for namespaces with history: where the history service listens"),
        (
            {"target": "history"},
            "history.target: expected dns:///host:port, or ipv4:address:port and more, separated by commas",
        ),
    ],
)
def test_history_needs_its_service(history: dict[str, str], line: str) -> None:
    """One that can be called."""
    kept = {"history_size": 1, "history_ttl": "1s"}
    channel = {"namespaces": [{"name": "chat", **kept}]}
    assert line in problems({**KEY, "channel": channel, "history": history})


def test_without_history_no_service_is_needed() -> None:
    """As long as no namespace has any."""
    assert not decode(EdgeConfig, KEY).history.target
