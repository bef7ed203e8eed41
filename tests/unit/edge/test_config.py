from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.config import KEY, client, problems
from tidewire.edge.config import EdgeConfig, needed_payload
from tidewire.kernel.config import decode
from tidewire.kernel.config_fields import Kind, settings_of, walk
from tidewire.kernel.config_schema import json_schema

ROOT = Path(__file__).parents[3]
TARGET_OF_PRESENCE = (
    "presence.target: expected dns:///host:port, or ipv4:address:port and more, separated by commas"
)

LIMITED = {
    "replicas": ["dns:///ratelimit-0:9643"],
    "rules": [
        {"name": "m", "command": "publish", "key": ["user"], "limit": 5, "namespaces": ["_", "chat", "chatt"]}
    ],
}


def test_a_key_is_all_that_an_edge_needs() -> None:
    """Everything else has a default, and the defaults pass their own checks."""
    config = decode(EdgeConfig, KEY)
    assert config.http.port == 8000
    assert config.client.ping_interval == 25.0
    assert config.client.pong_timeout == 8.0
    assert config.nats.partitions == 16
    assert [edge.port for edge in config.dev.edges] == [8000, 8001]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({**KEY, "rpc": {"timeout": "5s"}}, "rpc.timeout: expected less than 4s, got 5s"),
        (
            {**KEY, "rpc": {"methods": [{"name": "a"}, {"name": "a"}]}},
            "rpc.methods[1].name: 'a' is methods[0] already",
        ),
        (
            {**KEY, "rpc": {"methods": [{"name": "tw.x"}]}},
            "rpc.methods[0].name: names that begin with tw. are the edge's own",
        ),
        ({**KEY, "http": {"internal_port": 8000}}, "http.internal_port: is http.port already"),
        (
            client(subscribe_to_user_personal_channel={"enabled": True, "namespace": "chat"}),
            "client.subscribe_to_user_personal_channel.namespace: no namespace is called 'chat'",
        ),
        (
            {**KEY, "channel": {"namespaces": [{"name": "chat", "presence": True}]}},
            "presence.target: is needed for namespaces with presence: where the presence service listens",
        ),
        (
            {**KEY, "channel": {"namespaces": [{"name": "chat"}]}, "rate_limits": LIMITED},
            "rate_limits.rules[0].namespaces[2]: no namespace is called 'chatt'",
        ),
        ({**KEY, "presence": {"target": "presence"}}, TARGET_OF_PRESENCE),
        ({**KEY, "presence": {"timeout": "4s"}}, "presence.timeout: expected less than 4s, got 4s"),
        ({**KEY, "node_name": "all"}, "node_name: all stands for every edge"),
        ({**KEY, "node_name": "a.b"}, "node_name: a name holds letters, digits, - and _ only"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_are_checked(config: Mapping[str, object], line: str) -> None:
    """Each rule between or about settings has its problem, with the path of the setting."""
    assert line in problems(config)


def test_presence_needs_its_service_without_a_namespace_too() -> None:
    """Joins and leaves do not: edges publish those."""
    assert problems({**KEY, "channel": {"without_namespace": {"presence": True}}})
    decode(EdgeConfig, {**KEY, "channel": {"without_namespace": {"join_leave": True}}})


def test_personal_channels_may_have_a_namespace_or_none() -> None:
    """One that there is."""
    personal = {"enabled": True, "namespace": "chat"}
    channel = {"namespaces": [{"name": "chat"}]}
    decode(EdgeConfig, {**client(subscribe_to_user_personal_channel=personal), "channel": channel})
    decode(EdgeConfig, client(subscribe_to_user_personal_channel={"enabled": True}))


def test_two_listeners_may_share_port_zero() -> None:
    """Zero is any free port, so it is not one port."""
    decode(EdgeConfig, {**KEY, "http": {"port": 0, "internal_port": 0}})


def test_every_setting_has_a_description() -> None:
    """The descriptions are the reference; each is a sentence."""
    seen: set[type] = set()

    def check(struct: type[EdgeConfig]) -> None:
        for setting in settings_of(struct):
            assert setting.description.endswith("."), f"{struct.__name__}.{setting.name}"
            if setting.kind in (Kind.SECTION, Kind.SECTIONS) and setting.base not in seen:
                seen.add(setting.base)
                check(setting.base)

    check(EdgeConfig)
    assert len(seen) > 10
    assert sum(1 for _ in walk(EdgeConfig)) > 60


def test_the_schema_takes_the_dev_mesh_and_refuses_unknown_keys() -> None:
    """tidewire.yaml is valid; a misspelt key anywhere in it is not."""
    schema = json_schema(EdgeConfig)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    content = yaml.safe_load((ROOT / "tidewire.yaml").read_text())
    assert not list(validator.iter_errors(content))
    for section in ("dev", "http", "client", "channel", "rpc", "send"):
        assert not validator.is_valid({**content, section: {**content[section], "unknown": 1}})
    assert all(component["additionalProperties"] is False for component in schema["$defs"].values())


def test_the_dev_mesh_holds_what_it_promises() -> None:
    """Four open namespaces, both edges' pages allowed, calls on, and no secret in the file."""
    content = yaml.safe_load((ROOT / "tidewire.yaml").read_text())
    content["client"]["token"] = KEY["client"]["token"]
    config = decode(EdgeConfig, content)
    assert [namespace.name for namespace in config.channel.namespaces] == ["chat", "live", "press", "stocks"]
    for namespace in config.channel.namespaces:
        assert namespace.allow_subscribe_for_client
        assert namespace.allow_publish_for_client
        assert not namespace.allow_publish_for_anonymous
    for edge in config.dev.edges:
        for host in ("127.0.0.1", "localhost"):
            assert f"http://{host}:{edge.port}" in config.client.allowed_origins
    assert config.http.pages == "web"
    assert config.rpc.enabled
    assert [method.name for method in config.rpc.methods] == ["*"]
    assert not config.send.enabled


@pytest.mark.parametrize("address", ["localhost", "edge.example", "192.0.2.1"])
def test_tokens_are_handed_out_on_loopback_addresses_only(address: str) -> None:
    """A name may be resolved to anything."""
    lines = problems({**KEY, "http": {"address": address, "issue_tokens": True}})
    assert lines == [
        f"http.issue_tokens: is for loopback addresses such as 127.0.0.1 only, and address is {address}"
    ]


@pytest.mark.parametrize(
    ("limit", "target", "needed"),
    [(65_536, "dns:///p:1", 135_168), (4_096, "dns:///p:1", 53_248), (4_096, "", 12_288)],
)
def test_nats_must_carry_what_presence_sends(limit: int, target: str, needed: int) -> None:
    """Its batches and snapshots have a size of their own; what NATS does not take is never known to a replica."""
    config = client() | {"websocket": {"message_size_limit": limit}, "presence": {"target": target}}
    assert needed_payload(decode(EdgeConfig, config)) == needed
