from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.typing import FilteringBoundLogger

from tests.fakes.edge import KEY, NAMESPACES, OPEN, edge_config
from tests.fakes.log import RecordingLog
from tests.fakes.nats import FakeLink
from tests.support.certificates import write_certificate
from tests.support.edges import merged
from tests.support.keys import pem
from tests.support.wait import eventually
from tidewire.edge import app
from tidewire.edge.app import Edge
from tidewire.edge.config import EdgeConfig
from tidewire.edge.policies.key_cache import KeyCache, KeySource
from tidewire.edge.policies.tokens import TokenVerifier
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.config import ConfigError, Duration, Problem, Secret, decode
from tidewire.kernel.config_fields import Setting, walk
from tidewire.platform import logs, nats_watch, reload
from tidewire.platform.metrics import Registry
from tidewire.platform.reload import Reloader

PAUSE = 0.05


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reloads follow each other sooner than in production; the level of logs is this test's own."""
    monkeypatch.setattr(reload, "PAUSE", PAUSE)
    monkeypatch.setattr(logs, "_threshold", logs._Threshold())


class Desk:
    """A reloader whose configuration is what the test puts there; `readable` holds its reading up."""

    def __init__(self) -> None:
        self.log = RecordingLog()
        self.now = 1000.0
        self.loads: list[float] = []
        self.applied: list[EdgeConfig] = []
        self.next: EdgeConfig | Exception = edge_config()
        self.readable = threading.Event()
        self.readable.set()
        self.apply: Callable[[EdgeConfig], None] = self.applied.append
        self.reloader = Reloader(
            edge_config(),
            self._load,
            self._apply,
            cast("FilteringBoundLogger", self.log),
            lambda: self.now,
        )
        self._registry = Registry()
        self._registry.add(self.reloader.metrics())

    def _load(self) -> EdgeConfig:
        self.loads.append(time.monotonic())
        assert self.readable.wait(10)
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    def _apply(self, config: EdgeConfig) -> None:
        self.apply(config)

    def value(self, name: str) -> float:
        """A metric's value."""
        lines = self._registry.exposition().decode().splitlines()
        (found,) = [line for line in lines if line.startswith(f"{name} ")]
        return float(found.split()[-1])

    @property
    def outcomes(self) -> dict[str, float]:
        """How often reloads ended how."""
        names = ("done", "unchanged", "refused")
        return {
            name: count
            for name in names
            if (count := self.value(f'tidewire_config_reloads_total{{outcome="{name}"}}'))
        }

    async def reload(self, wanted: EdgeConfig | Exception) -> None:
        """Put a configuration there and wait until the request was served."""
        self.next = wanted
        self.reloader.request()
        await self.idle()

    async def idle(self) -> None:
        """Wait until nothing runs or waits."""
        await eventually(lambda: self.reloader._task is None)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A reloader at rest."""
    found = Desk()
    yield found
    found.readable.set()


def limited(connections: int) -> EdgeConfig:
    """A configuration that differs in a reloadable setting."""
    return edge_config(client={"connection_limit": connections})


async def test_change_is_put_in_force(desk: Desk) -> None:
    """The log names the settings, the metrics tell when and what."""
    before = desk.reloader._fingerprint
    assert desk.value(f'tidewire_config_info{{hash="{before}"}}') == 1
    assert desk.value("tidewire_config_last_success_timestamp_seconds") == 1000
    desk.now = 2000.0
    wanted = limited(7)
    await desk.reload(wanted)
    assert desk.applied == [wanted]
    assert desk.reloader.config is wanted
    after = desk.reloader._fingerprint
    assert after != before
    assert desk.log.lines == [
        ("info", "config.reloaded", {"hash": after, "changes": ["client.connection_limit"]})
    ]
    assert desk.outcomes == {"done": 1}
    assert desk.value(f'tidewire_config_info{{hash="{after}"}}') == 1
    assert desk.value("tidewire_config_last_success_timestamp_seconds") == 2000
    assert desk.value("tidewire_config_last_reload_successful") == 1


async def test_same_configuration_touches_nothing(desk: Desk) -> None:
    """Neither policies nor what they may have cached; it still proves that the file is good."""
    desk.now = 2000.0
    await desk.reload(edge_config())
    assert desk.applied == []
    assert desk.log.events == ["config.unchanged"]
    assert desk.outcomes == {"unchanged": 1}
    assert desk.value("tidewire_config_last_success_timestamp_seconds") == 2000


async def test_invalid_configuration_changes_nothing(desk: Desk) -> None:
    """Every problem in the log; the metrics say so until a good one was read."""
    desk.now = 2000.0
    held = desk.reloader.config
    await desk.reload(ConfigError([Problem("http.port", "expected int"), Problem("x", "unknown setting")]))
    assert desk.reloader.config is held
    assert desk.applied == []
    problems = ["http.port: expected int", "x: unknown setting"]
    assert desk.log.lines == [("error", "config.reload_refused", {"problems": problems})]
    assert desk.outcomes == {"refused": 1}
    assert desk.value("tidewire_config_last_reload_successful") == 0
    assert desk.value("tidewire_config_last_success_timestamp_seconds") == 1000
    await desk.reload(edge_config())
    assert desk.value("tidewire_config_last_reload_successful") == 1


async def test_setting_that_needs_a_restart_refuses_the_whole(desk: Desk) -> None:
    """By name, and what could be taken is not taken either."""
    await desk.reload(edge_config(client={"connection_limit": 7}, http={"port": 7}, nats={"partitions": 8}))
    assert desk.applied == []
    assert desk.log.lines == [
        (
            "error",
            "config.reload_refused",
            {
                "problems": [
                    "http.port: a change needs a restart",
                    "nats.partitions: a change needs a restart",
                ]
            },
        )
    ]
    assert desk.outcomes == {"refused": 1}


@pytest.mark.parametrize("place", ["load", "apply"])
async def test_mistake_costs_nobody_a_client(desk: Desk, place: str) -> None:
    """It is logged with its stack, the old configuration stays, and the next reload is served."""

    def fail(_config: EdgeConfig) -> None:
        raise RuntimeError("a mistake")

    apply = desk.apply
    if place == "apply":
        desk.apply = fail
    held = desk.reloader.config
    await desk.reload(RuntimeError("a mistake") if place == "load" else limited(7))
    assert [line[:2] for line in desk.log.lines] == [("exception", "config.reload_failed")]
    assert desk.reloader.config is held
    assert desk.outcomes == {"refused": 1}
    desk.apply = apply
    await desk.reload(limited(7))
    assert desk.outcomes == {"refused": 1, "done": 1}


async def test_long_lists_are_cut_in_the_log(desk: Desk) -> None:
    """A line stays a line."""
    names = [{"name": f"n{number}"} for number in range(30)]
    await desk.reload(edge_config(channel={"namespaces": names}))
    _, _, fields = desk.log.lines[0]
    assert len(fields["changes"]) == reload.NAMED + 1
    assert fields["changes"][-1].startswith("and ")


async def test_requests_are_bounded(desk: Desk) -> None:
    """While one runs any number is one that waits, and that one reads what was written last."""
    desk.readable.clear()
    desk.reloader.request()
    await eventually(lambda: len(desk.loads) == 1)
    for _ in range(1000):
        desk.reloader.request()
    desk.readable.set()
    await eventually(lambda: desk.outcomes == {"unchanged": 1})
    desk.next = limited(7)
    await desk.idle()
    assert desk.outcomes == {"unchanged": 1, "done": 1}
    assert len(desk.loads) == 2
    assert desk.loads[1] - desk.loads[0] >= PAUSE


async def test_reloads_keep_their_distance(desk: Desk) -> None:
    """Also when each request comes after the end of the reload before it."""
    for count in range(1, 6):
        desk.reloader.request()
        await eventually(lambda count=count: len(desk.loads) >= count)
    await desk.idle()
    assert all(later - earlier >= PAUSE for earlier, later in zip(desk.loads, desk.loads[1:], strict=False))


async def test_loop_goes_on_while_the_configuration_is_read(desk: Desk) -> None:
    """A slow disk stops no client."""
    desk.readable.clear()
    desk.reloader.request()
    await eventually(lambda: desk.loads)
    desk.readable.set()  # which nobody could say to a loop that stands still
    await desk.idle()
    assert desk.outcomes == {"unchanged": 1}


async def test_closed_reloader_only_says_so(desk: Desk) -> None:
    """Once for all requests of a pause."""
    desk.reloader.close("draining")
    for _ in range(100):
        desk.reloader.request()
    await desk.idle()
    assert desk.log.lines == [("info", "config.reload_ignored", {"reason": "draining"})]
    assert desk.loads == []
    assert desk.outcomes == {}


async def test_stop_forgets_what_waits(desk: Desk) -> None:
    """And a request after it is nothing."""
    desk.reloader.request()
    desk.reloader.stop()
    task = desk.reloader._task
    assert task is not None
    await eventually(task.done)
    desk.reloader.request()
    assert desk.reloader._task is task
    assert desk.applied == []


# The edge: each setting that is said to be reloadable takes effect.

HISTORY: dict[str, object] = {"history_size": 10, "history_ttl": "1m"}
BASE: dict[str, Any] = {
    "client": {"token": {"hmac_secret_key": KEY}, "subscription_token": {"hmac_secret_key": KEY}},
    "channel": {
        "namespaces": NAMESPACES,
        "without_namespace": {**OPEN, **HISTORY, "allowed_delta_types": ["fossil"]},
    },
    "websocket": {"compression": True},
    "history": {"target": "ipv4:127.0.0.1:1"},
    "presence": {"target": "ipv4:127.0.0.1:2"},
    "rate_limits": {
        "replicas": ["ipv4:127.0.0.1:1"],
        "rules": [{"name": "r", "command": "publish", "key": ["user"], "limit": 1}],
    },
}
OTHER_KEYS: dict[str, object] = {
    "hmac_secret_key": "x" * 64,
    "hmac_keys": [{"kid": "a", "secret": "y" * 64}],
    "public_keys": [{"kid": "a", "key": pem("P-256"), "algorithms": ["ES256"]}],
    "jwks": [{"url": "https://id.example/keys"}],
    "algorithms": ["HS256"],
}
OTHER_VALUES: dict[str, object] = {
    **{
        f"client.{kind}.{name}": each
        for kind in ("token", "subscription_token")
        for name, each in OTHER_KEYS.items()
    },
    "log.level": "error",
    "http.tls.min_version": "1.3",
    "http.trusted_proxies": ["192.0.2.0/24"],
    "http.client_address_header": "X-Real-IP",
    "client.allowed_origins": ["https://app.example"],
    "client.single_connection": "refuse",
    "client.command_rate_burst": 1000,
    "client.subscribe_to_user_personal_channel.namespace": "chat",
    "channel.max_length": 100,
    "channel.namespaces": [{"name": "fresh"}],
    "channel.without_namespace.allowed_delta_types": [],
    "channel.without_namespace.force_recovery_mode": "cache",
    "rpc.methods": [{"name": "add"}],
    "rate_limits.rules": [{"name": "r", "command": "publish", "key": ["user"], "limit": 2}],
    "rate_limits.connections": [{"name": "c", "key": "user", "limit": 2}],
    "rate_limits.envoy": [{"name": "e", "domain": "web", "entries": ["path"], "limit": 2}],
}
RELOADABLE = {
    ".".join(path): setting
    for path, setting in walk(EdgeConfig)
    if not setting.restart and setting.not_yet is None
}


def other_value(path: str, setting: Setting, config: EdgeConfig) -> object:
    """A value for a setting that differs from that in `config`."""
    if path in OTHER_VALUES:
        return OTHER_VALUES[path]
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    match value:
        case bool():
            return not value
        case Duration():
            return f"{round((value + 0.5) * 1000)}ms"
        case int():
            return value + 1
        case str():
            return f"{value}x"
    raise AssertionError(f"{path} is reloadable: say here what else it could be")


def nested(path: str, value: object) -> dict[str, Any]:
    """The mapping that sets one path."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def content(value: object) -> object:
    """Everything that decides in a policy, down to plain values."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, IPv4Network):
        return str(value)
    if isinstance(value, dict):
        return {str(key): content(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | frozenset):
        return [content(inner) for inner in value]
    if hasattr(value, "pattern"):
        return value.pattern
    if isinstance(value, KeySource):  # the rest of it is what it has seen, and survives
        return content(value.settings)
    known = type(value).__module__.startswith("tidewire.")
    names = getattr(value, "__struct_fields__", getattr(value, "__slots__", ())) if known else ()
    return [type(value).__name__, *(content(getattr(value, name)) for name in names)]


def certificate_of(edge: Edge) -> list[object]:
    """What new connections are shown, and asked for."""
    identity = edge._tls._identity
    if identity is None:
        return []
    return [identity.fingerprint, int(identity.context.verify_mode), int(identity.context.minimum_version)]


def in_force(edge: Edge) -> object:
    """What an edge goes by."""
    return content(
        [
            edge._rules,
            edge._gate.limits,
            edge._gate.origins,
            edge._gate.cookie,
            edge._gate.proxies,
            edge._config.http.tls.key_file,
            *certificate_of(edge),
            edge._dispatcher._timers.timing,
            edge._broker.call_timeout,
            edge._config.drain,
            edge._config.rate_limits,
            *limits_of(edge),
            logs._threshold.level,
        ]
    )


def limits_of(edge: Edge) -> list[object]:
    """What an edge's rate limits go by."""
    found = edge._rate_limits
    assert found is not None
    limits = found._limits
    rules = [(limit.rule, limit.leases.most) for limit in limits.all()]
    return [
        rules,
        limits.waiters.most,
        limits.waiters.patience,
        [slots.rule for slots in found.places.rules()],
    ]


@pytest.fixture
def create(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Edge]:
    """Make edges of configurations, and let them load another one; they are not started."""
    monkeypatch.setattr(nats_watch, "NatsLink", lambda *_: FakeLink())

    def make(config: EdgeConfig, following: EdgeConfig | None = None) -> Edge:
        logs.set_level(config.log.level)
        log = cast("FilteringBoundLogger", RecordingLog())
        return Edge(config, log, lambda: following or config)

    return make


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A certificate and its key; a second one of the same key, and that key elsewhere."""
    names = {name: str(tmp_path / name) for name in ("cert_file", "key_file")}
    ends = [datetime.now(UTC) + timedelta(days=each) for each in (1, 2)]
    write_certificate(tmp_path / "both", ends, tmp_path / "key_file")
    first, second = (tmp_path / "both").read_text().split("-----END CERTIFICATE-----\n")[:2]
    for name, text in (("cert_file", first), ("later", second)):
        (tmp_path / name).write_text(f"{text}-----END CERTIFICATE-----\n")
    shutil.copy(tmp_path / "key_file", tmp_path / "moved")
    return {
        **names,
        "other http.tls.cert_file": str(tmp_path / "later"),
        "other http.tls.key_file": str(tmp_path / "moved"),
        "other http.tls.client_ca_file": names["cert_file"],
    }


@pytest.mark.parametrize("path", RELOADABLE)
async def test_reloaded_edge_is_as_a_new_one(
    path: str, create: Callable[..., Edge], files: dict[str, str]
) -> None:
    """For each setting that is not marked as needing a restart: else it has no effect until one."""
    tls = {name: files[name] for name in ("cert_file", "key_file")}
    base = merged(BASE, {"http": {"tls": tls}})
    before = decode(EdgeConfig, base)
    value = files.get(f"other {path}") or other_value(path, RELOADABLE[path], before)
    after = decode(EdgeConfig, merged(base, nested(path, value)))
    fresh = in_force(create(after))
    edge = create(before, after)
    assert in_force(edge) != fresh, "the test does not see this setting"
    rules, gate = edge._rules, edge._gate
    edge.reload()
    await eventually(lambda: edge._reloader.config is after)
    assert in_force(edge) == fresh
    assert (edge._rules, edge._gate) == (rules, gate), "sessions and sockets hold the old ones"
    edge._reloader.stop()


async def test_dev_tokens_are_signed_with_the_key_in_force(
    create: Callable[..., Edge], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a rotation would lock the start page out."""
    given: list[Any] = []
    monkeypatch.setattr(app, "public_app", lambda *parts: given.append(parts))
    pages = {**BASE, "http": {"issue_tokens": True, "pages": "web"}}
    after = decode(EdgeConfig, merged(pages, nested("client.token.hmac_secret_key", "x" * 64)))
    edge = create(decode(EdgeConfig, pages), after)
    edge.reload()
    await eventually(lambda: edge._reloader.config is after)
    claims = TokenVerifier(after.client, SystemClock(), KeyCache()).connection(given[0][-1]("alice"))
    assert getattr(claims, "user", claims) == "alice"
    edge._reloader.stop()


async def test_drain_closes_the_reloader(create: Callable[..., Edge]) -> None:
    """What comes then is not put in force on the last seconds."""
    config = decode(EdgeConfig, merged(BASE, {"drain": {"delay": 0, "window": 0}}))
    edge = create(config, decode(EdgeConfig, merged(BASE, nested("client.connection_limit", 3))))
    await edge.drain()
    edge.reload()
    log = cast("RecordingLog", edge._log)
    await eventually(lambda: ("info", "config.reload_ignored", {"reason": "draining"}) in log.lines)
    assert edge._config is config
    edge._reloader.stop()
