from __future__ import annotations

import msgspec
import pytest

from tidewire.cli.dev_plan import dev_json, nats_server_config, plan, summary
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode


def config(*, client: dict[str, object] | None = None, **sections: dict[str, object]) -> EdgeConfig:
    """A configuration in which clients can connect."""
    token = {"hmac_secret_key": "k" * 32}
    return decode(EdgeConfig, {"client": {"token": token, **(client or {})}, **sections})


def test_each_edge_gets_its_ports_its_name_and_the_meshs_nats() -> None:
    """The edges share one configuration file; the environment tells them apart."""
    made = plan(config(dev={"nats_port": 5222}), terminal=False)
    assert [edge.name for edge in made.edges] == ["edge-1", "edge-2"]
    assert made.edges[1].env["TIDEWIRE_HTTP_PORT"] == "8001"
    assert made.edges[1].env["TIDEWIRE_HTTP_INTERNAL_PORT"] == "9001"
    assert made.edges[1].env["TIDEWIRE_NODE_NAME"] == "edge-2"
    assert made.edges[1].env["TIDEWIRE_NATS_URLS"] == "nats://127.0.0.1:5222"
    assert (
        made.edges[1].env["TIDEWIRE_WORKERS"] == "1"
    )  # whatever the file says: the mesh has one process for each edge
    assert made.edges[1].url == "http://127.0.0.1:8001"
    assert made.edges[1].internal_url == "http://127.0.0.1:9001"


def test_pages_of_one_edge_may_connect_to_another() -> None:
    """The origins of all edges' pages are allowed beside the configured ones, whatever the ports."""
    client = {"allowed_origins": ["https://app.example"]}
    made = plan(
        config(client=client, dev={"edges": [{"port": 81}, {"port": 82, "internal_port": 9}]}), terminal=False
    )
    origins = made.edges[0].env["TIDEWIRE_CLIENT_ALLOWED_ORIGINS"].split(",")
    assert origins[0] == "https://app.example"
    assert {"http://127.0.0.1:81", "http://localhost:82"} <= set(origins)


def test_tls_makes_the_public_ports_https() -> None:
    """For people, for programs and for the pages' origins; the internal port stays plain."""
    tls = {"cert_file": "tls.crt", "key_file": "tls.key"}
    made = plan(config(http={"tls": tls}), terminal=False)
    assert made.edges[0].url == "https://127.0.0.1:8000"
    assert made.edges[0].internal_url == "http://127.0.0.1:9000"
    assert "https://localhost:8001" in made.edges[0].env["TIDEWIRE_CLIENT_ALLOWED_ORIGINS"].split(",")


def test_every_port_names_its_setting() -> None:
    """Whoever finds a port taken is told which setting changes it."""
    made = plan(config(), terminal=False)
    assert {(listen.port, listen.setting) for listen in made.listens} == {
        (4222, "dev.nats_port"),
        (8000, "dev.edges[0].port"),
        (9000, "dev.edges[0].internal_port"),
        (8001, "dev.edges[1].port"),
        (9001, "dev.edges[1].internal_port"),
    }


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, []),
        ({"history_size": 1, "history_ttl": "1m"}, ["history"]),
        ({"presence": True}, ["presence"]),
        ({"join_leave": True}, ["presence"]),
        ({"presence": True, "history_size": 1, "history_ttl": "1m"}, ["history", "presence"]),
    ],
)
def test_services_run_where_a_namespace_needs_them(options: dict[str, object], names: list[str]) -> None:
    """On ports of their own, which edges are told."""
    targets = {"presence": {"target": "ipv4:127.0.0.1:1"}, "history": {"target": "ipv4:127.0.0.1:1"}}
    made = plan(config(channel={"without_namespace": options}, **targets), terminal=False)
    assert [one.name for one in made.services] == names
    ports = {"history": ("9443", "9444", "9100"), "presence": ("9543", "9544", "9110")}
    for one in made.services:
        own = f"TIDEWIRE_{one.name.upper()}_SERVICE"
        settings = ("RPC_PORT", "RPC_HEALTH_PORT", "INTERNAL_PORT")
        assert tuple(one.env[f"{own}_{setting}"] for setting in settings) == ports[one.name]
        assert {(f"dev.{one.name}.port", int(ports[one.name][0]))} <= {
            (listen.setting, listen.port) for listen in made.listens
        }
    told = made.edges[0].env.get("TIDEWIRE_PRESENCE_TARGET")
    assert told == ("ipv4:127.0.0.1:9543" if "presence" in names else None)


@pytest.mark.parametrize(
    ("terminal", "chosen", "expected"),
    [(True, "auto", "console"), (False, "auto", None), (True, "json", None)],
)
def test_logs_are_for_people_on_a_terminal(terminal: bool, chosen: str, expected: str | None) -> None:
    """The edges write into a pipe and cannot see the terminal; an explicit choice stays."""
    made = plan(config(log={"format": chosen}), terminal=terminal)
    assert made.edges[0].env.get("TIDEWIRE_LOG_FORMAT") == expected


def test_wildcard_addresses_are_shown_as_loopback() -> None:
    """A URL must be one that a browser on this machine can open."""
    http = {"address": "0.0.0.0", "internal_address": "::"}  # noqa: S104 - never bound
    made = plan(config(http=http), terminal=False)
    assert made.edges[0].url == "http://127.0.0.1:8000"
    assert made.edges[0].internal_url == "http://[::1]:9000"
    assert made.listens[1].host == http["address"]


def test_edges_may_drain_before_they_are_killed() -> None:
    """The patience of a stop follows the configured drain."""
    made = plan(config(drain={"delay": "1s", "window": "3s"}), terminal=False)
    assert made.stop_seconds > 4


def test_nats_listens_on_loopback_only() -> None:
    """The dev mesh's NATS has no users, so it must not be reachable from elsewhere."""
    text = nats_server_config(config(nats={"partitions": 8}, dev={"nats_port": 5222}), "/data/nats")
    assert 'listen: "127.0.0.1:5222"' in text
    assert "partition(8)" in text
    assert 'store_dir: "/data/nats"' in text


def test_dev_json_holds_what_programs_need() -> None:
    """Base URLs by edge, NATS, and the token."""
    assert msgspec.json.decode(dev_json(plan(config(), terminal=False), "abc")) == {
        "edges": ["http://127.0.0.1:8000", "http://127.0.0.1:8001"],
        "internal": ["http://127.0.0.1:9000", "http://127.0.0.1:9001"],
        "nats": "nats://127.0.0.1:4222",
        "token": "abc",
    }


def test_summary_holds_what_people_need() -> None:
    """URLs, the token on a line of its own, and how to stop."""
    text = summary(plan(config(), terminal=True), "abc", "1.2.3", ".tidewire")
    assert "1.2.3" in text
    assert "  abc\n" in text
    assert "http://127.0.0.1:8000 in one tab and http://127.0.0.1:8001 in another" in text
    assert "Ctrl-C" in text


def test_summary_of_one_edge() -> None:
    """One edge has no second tab."""
    text = summary(plan(config(dev={"edges": [{"port": 81}]}), terminal=True), "abc", "1", "x")
    assert "http://127.0.0.1:81 in one tab." in text


def test_summary_without_a_token() -> None:
    """Where clients are anonymous there is no token to show."""
    assert "token" not in summary(plan(config(), terminal=True), "", "1", "x")


def test_the_rate_limit_service_runs_where_there_are_rules() -> None:
    """Edges and the service are told the mesh's own port, whatever the file says."""
    rule = {"name": "r", "command": "publish", "key": ["user"], "limit": 1}
    limits = {"replicas": ["dns:///elsewhere:1"], "rules": [rule]}
    made = plan(config(rate_limits=limits, dev={"ratelimit": {"port": 7000}}), terminal=False)
    assert [one.name for one in made.services] == ["ratelimit"]
    (service,) = made.services
    assert service.env["TIDEWIRE_RATE_LIMIT_SERVICE_RPC_PORT"] == "7000"
    for one in made.processes:
        assert one.env["TIDEWIRE_RATE_LIMITS_REPLICAS"] == "ipv4:127.0.0.1:7000"
    assert (7000, "dev.ratelimit.port") in {(listen.port, listen.setting) for listen in made.listens}
    assert plan(config(), terminal=False).services == ()
