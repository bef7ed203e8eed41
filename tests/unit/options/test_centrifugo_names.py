from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from tests.support.config import problems
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import Section
from tidewire.kernel.config_fields import settings_of

HERE = re.compile(r"here it is ([a-z_.\[\]]+[a-z_])")


def sections(struct: type[msgspec.Struct]) -> Iterator[type[Section]]:
    """A section and those in it, also in its lists."""
    if issubclass(struct, Section):
        yield struct
        for setting in settings_of(struct):
            if isinstance(setting.base, type) and issubclass(setting.base, Section):
                yield from sections(setting.base)


def exists(path: str) -> bool:
    """Whether there is such a setting or section."""
    struct: Any = EdgeConfig
    for name in path.replace("[]", "").split("."):
        found = {setting.name: setting.base for setting in settings_of(struct)}
        if name not in found:
            return False
        struct = found[name]
    return True


def test_hints_are_for_names_that_are_unknown_and_name_settings_that_are_known() -> None:
    """A hint that outlives a change here would send people astray."""
    hints = [(each, name, text) for each in sections(EdgeConfig) for name, text in each.hints.items()]
    assert len(hints) > 60
    for section, name, text in hints:
        assert name not in {setting.name for setting in settings_of(section)}, name
        assert "here it is" not in text or HERE.findall(text), text
        for path in HERE.findall(text):
            assert exists(path), text


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"client": {"token": {"rsa_public_key": "x"}}},
            (
                "client.token.rsa_public_key: unknown setting; here it is client.token.public_keys, a list of groups with "
                "key or key_file"
            ),
        ),
        (
            {"client": {"subscription_token": {"jwks_public_endpoint": "x"}}},
            (
                "client.subscription_token.jwks_public_endpoint: unknown setting; here it is "
                "client.subscription_token.jwks, a list of groups with url"
            ),
        ),
        (
            {"client": {"subscribe_to_user_personal_channel": {"personal_channel_namespace": "x"}}},
            (
                "client.subscribe_to_user_personal_channel.personal_channel_namespace: unknown setting; here it is "
                "client.subscribe_to_user_personal_channel.namespace"
            ),
        ),
        ({"admin": {}}, "admin: unknown setting; there is no admin page: see the metrics and logs"),
        (
            {"channel": {"namespaces": [{"name": "ab", "subscribe_proxy_enabled": True}]}},
            (
                "channel.namespaces[0].subscribe_proxy_enabled: unknown setting; no proxies yet: tokens say who may do "
                "what, and rpc is answered over NATS"
            ),
        ),
        ({"http_servr": {}}, "http_servr: unknown setting"),
        ({"log": {"file": "x"}}, "log.file: unknown setting; logs go to standard error"),
        ({"rpc": {"namespaces": []}}, "rpc.namespaces: unknown setting; here it is rpc.methods"),
        ({"channel": {"user_boundary": "#"}}, "channel.user_boundary: unknown setting; it is always #"),
        (
            {"websocket": {"compression_level": 6}},
            "websocket.compression_level: unknown setting; the level is always 1",
        ),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_a_name_of_centrifugo_is_told_what_it_is_called_here(config: Mapping[str, object], line: str) -> None:
    """Instead of a name that only looks alike."""
    assert line in problems(config)
