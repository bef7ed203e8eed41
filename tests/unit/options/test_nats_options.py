from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.config import KEY, problems
from tidewire.kernel.nats_config import inbox_prefix
from tidewire.options.nats_options import NatsConfig, link_options


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({**KEY, "nats": {"urls": []}}, "nats.urls: expected at least 1 item"),
        (
            {**KEY, "nats": {"urls": ["localhost"]}},
            "nats.urls[0]: expected nats://host:port or tls://host:port",
        ),
        (
            {**KEY, "nats": {"urls": ["nats://h", "nats://h:99999"]}},
            "nats.urls[1]: expected nats://host:port or tls://host:port",
        ),
        (
            {**KEY, "nats": {"urls": ["nats://u:p@h:4222"]}},
            "nats.urls[0]: no user or password in a URL: use nats.user and nats.password",
        ),
        ({**KEY, "nats": {"user": "u"}}, "nats.password: user and password belong together"),
        ({**KEY, "nats": {"password": "p"}}, "nats.user: user and password belong together"),
        (
            {**KEY, "nats": {"user": "u", "password": "p", "credentials_file": "f"}},
            "nats.credentials_file: give either user and password or credentials_file",
        ),
        ({**KEY, "nats": {"tls": {"cert_file": "c"}}}, "nats.tls: cert_file and key_file belong together"),
        ({**KEY, "nats": {"partitions": 1025}}, "nats.partitions: expected int <= 1024"),
        ({**KEY, "nats": {"publish_timeout": "4s"}}, "nats.publish_timeout: expected less than 4s, got 4s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_are_checked(config: Mapping[str, object], line: str) -> None:
    """Each rule about the NATS connection has its problem, with the path of the setting."""
    assert line in problems(config)


def test_a_link_and_its_inboxes_bear_the_name_of_the_service() -> None:
    """The right to an inbox is given by the name of the NATS user, where there is one."""
    edge, history = link_options(NatsConfig(), "n1"), link_options(NatsConfig(), "n1", "history")
    assert (edge.name, history.name) == ("tidewire-edge n1", "tidewire-history n1")
    assert edge.inbox_prefix == inbox_prefix("edge")
    assert history.inbox_prefix == inbox_prefix("history")
    assert link_options(NatsConfig(user="u"), "n1", "history").inbox_prefix == inbox_prefix("u")
