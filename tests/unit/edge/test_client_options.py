from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.config import client, problems, token
from tests.support.keys import pem
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode

ORIGIN_1 = "client.allowed_origins[0]: expected scheme://host or scheme://host:port without a path, got "
ORIGIN_2 = ORIGIN_1.replace("[0]", "[1]")


def test_nobody_could_connect() -> None:
    """Without any key and without anonymous clients an edge would be of no use."""
    [line] = problems({})
    assert line.startswith("client.token: nobody could connect: set hmac_secret_key")
    for good in (
        {"client": {"allow_anonymous_connect_without_token": True}},
        token(hmac_keys=[{"kid": "a", "secret": "s" * 32}]),
        token(public_keys=[{"key": pem("P-256")}]),
        token(jwks=[{"url": "https://issuer.example/keys"}]),
    ):
        decode(EdgeConfig, good)


def test_every_origin_and_cookies_refuse_to_start() -> None:
    """With both, every page of the web could act as its visitor."""
    lines = problems(
        {"client": {"allowed_origins": ["*"], "token": {"hmac_secret_key": "k" * 32, "cookie": "session"}}}
    )
    assert lines == [
        "client.allowed_origins: * cannot be combined with token.cookie: list the origins",
    ]


@pytest.mark.parametrize(
    ("origin", "every"),
    [
        ("https://*", True),
        ("http://*:*", True),
        ("*://*", True),
        ("https://*.*", True),
        ("https://*:8443", True),
        ("https://*.example.com", False),
        ("https://app.example.com:*", False),
    ],
)
def test_cookies_and_a_pattern_for_every_host_refuse_to_start(origin: str, every: bool) -> None:
    """It is the star by another name; hosts under a name of one's own are fine."""
    allowed = ["https://a.example", origin]
    lines = problems(
        {"client": {"allowed_origins": allowed, "token": {"hmac_secret_key": "short", "cookie": "s"}}}
    )
    problem = f"client.allowed_origins: {origin} cannot be combined with token.cookie: list the origins"
    assert (problem in lines) is every


def test_origins_may_be_patterns() -> None:
    """A star for host labels, a port, or everything."""
    origins = ["*", "https://*.example.com", "http://localhost:*", "capacitor://localhost"]
    assert decode(EdgeConfig, client(allowed_origins=origins)).client.allowed_origins == tuple(origins)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (client(pong_timeout="25s"), "client.pong_timeout: expected less than ping_interval (25s)"),
        (client(ping_interval="10.5s"), "client.ping_interval: expected whole seconds, got 10.5s"),
        (
            client(ping_interval="500ms", pong_timeout="1s"),
            "client.ping_interval: expected at least 1s, got 500ms",
        ),
        (
            client(allowed_origins=["https://a.example", "a.example"]),
            f"{ORIGIN_2}'a.example'",
        ),
        (client(allowed_origins=["https://a.example/"]), f"{ORIGIN_1}'https://a.example/'"),
        (client(connection_limit=0), "client.connection_limit: expected int >= 1"),
        (
            client(single_connection="on"),
            "client.single_connection: expected one of off, replace, refuse, got 'on'",
        ),
        (
            client(command_rate_burst=3),
            "client.command_rate_burst: expected 0, or at least 10: what a command with a token, or that reads history, counts",
        ),
        (
            client(user_connection_limit=2, single_connection="replace"),
            "client.user_connection_limit: expected 0 with single_connection, which is a limit of one",
        ),
        (
            client(max_loop_lag="61s"),
            "client.max_loop_lag: expected at most 1m, got 61s",
        ),
        (
            client(expired_sub_close_delay="61m"),
            "client.expired_sub_close_delay: expected at most 1h, got 61m",
        ),
        (
            client(subscribe_to_user_personal_channel={"enabled": "yes"}),
            "client.subscribe_to_user_personal_channel.enabled: expected bool, got str",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_are_checked(config: Mapping[str, object], line: str) -> None:
    """Each rule about client connections has its problem, with the path of the setting."""
    assert line in problems(config)


def test_keys_for_subscription_tokens_alone_let_nobody_connect() -> None:
    """They serve nothing else."""
    [line] = problems({"client": {"subscription_token": {"hmac_secret_key": "s" * 32}}})
    assert line.startswith("client.token: nobody could connect")


def test_a_key_set_is_fetched_in_one_way() -> None:
    """Named in both sections it is one set, and its times are given twice alike; what it is used for may differ."""
    one = {"url": "https://issuer.example/keys", "timeout": "2s"}

    def config(**changes: object) -> dict[str, object]:
        return client(token={"jwks": [one]}, subscription_token={"jwks": [{**one, **changes}]})

    decode(EdgeConfig, config(algorithms=["ES256"], issuer="i"))
    decode(EdgeConfig, config(url="https://issuer.example/others", timeout="3s"))
    for changes in (
        {"timeout": "3s"},
        {"ca_file": "ca.pem"},
        {"max_stale": "1h"},
        {"refresh_interval": "1m"},
    ):
        assert problems(config(**changes)) == [
            "client.subscription_token.jwks[0]: expected the times and ca_file of token.jwks, which has the same url"
        ]
