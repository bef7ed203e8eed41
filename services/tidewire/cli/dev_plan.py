"""What `tidewire dev` starts, decided from the configuration alone: ports, environments, files, texts. Pure."""

from __future__ import annotations

import msgspec

from tidewire.edge.config import EdgeConfig
from tidewire.kernel.nats_config import NatsServerConfig, render
from tidewire.options.channel_options import announced
from tidewire.options.stored import stored

LOOPBACK = "127.0.0.1"
NATS = "nats"
HISTORY = "history"
PRESENCE = "presence"
RATELIMIT = "ratelimit"
SERVICE_PORTS = ("port", "health_port", "internal_port")
HISTORY_TARGET = "TIDEWIRE_HISTORY_TARGET"
PRESENCE_TARGET = "TIDEWIRE_PRESENCE_TARGET"
REPLICAS = "TIDEWIRE_RATE_LIMITS_REPLICAS"
"""Say to edges where the services are. The mesh knows, so that no configuration file needs to."""
TOKEN_USER = "dev"  # noqa: S105 - a user's name
TOKEN_SECONDS = 24 * 3600
TOKEN_HOURS = TOKEN_SECONDS // 3600

STOP_MARGIN = 5.0
LISTENING_TIME = "1s"
"""Of the presence process: all edges are on this machine, and answer at once."""
_SECTIONS = {HISTORY: "HISTORY_SERVICE", PRESENCE: "PRESENCE_SERVICE", RATELIMIT: "RATE_LIMIT_SERVICE"}
"""What services' sections are called in the environment."""


class Listen(msgspec.Struct, frozen=True):
    """One address that the mesh needs: where, who uses it, and the setting that changes it."""

    host: str
    port: int
    user: str
    setting: str


class EdgePlan(msgspec.Struct, frozen=True):
    """One edge: its name, its public and internal base URLs, and what its environment adds to the configuration."""

    name: str
    url: str
    internal_url: str
    env: dict[str, str]


class ServicePlan(msgspec.Struct, frozen=True):
    """A service's process: its name and command, its internal base URL, and what its environment adds to the configuration."""

    name: str
    internal_url: str
    env: dict[str, str]


class DevPlan(msgspec.Struct, frozen=True):
    """The whole mesh. `stop_seconds` is how long an edge may take to drain; `services` are those that something needs."""

    edges: tuple[EdgePlan, ...]
    listens: tuple[Listen, ...]
    nats_url: str
    nats_port: int
    stop_seconds: float
    services: tuple[ServicePlan, ...] = ()

    @property
    def processes(self) -> tuple[EdgePlan | ServicePlan, ...]:
        """All that is started but NATS."""
        return (*self.edges, *self.services)


def plan(config: EdgeConfig, *, terminal: bool) -> DevPlan:
    """Return what to start; `terminal` says that people read the edges' logs."""
    dev, http = config.dev, config.http
    nats_url = f"nats://{LOOPBACK}:{dev.nats_port}"
    public, internal = _reachable(http.address), _reachable(http.internal_address)
    scheme = config.http.scheme
    origins = ",".join(_origins(config, public))
    edges = []
    listens = [Listen(LOOPBACK, dev.nats_port, NATS, "dev.nats_port")]
    for index, edge in enumerate(dev.edges):
        name = f"edge-{index + 1}"
        env = {
            "TIDEWIRE_NODE_NAME": name,
            "TIDEWIRE_HTTP_PORT": str(edge.port),
            "TIDEWIRE_HTTP_INTERNAL_PORT": str(edge.internal_port),
            "TIDEWIRE_NATS_URLS": nats_url,
            "TIDEWIRE_WORKERS": "1",
            "TIDEWIRE_CLIENT_ALLOWED_ORIGINS": origins,
            HISTORY_TARGET: f"ipv4:{LOOPBACK}:{dev.history.port}",
        }
        if announced(config.channel):
            env[PRESENCE_TARGET] = f"ipv4:{LOOPBACK}:{dev.presence.port}"
        if _is_limited(config):
            env[REPLICAS] = f"ipv4:{LOOPBACK}:{dev.ratelimit.port}"
        if terminal and config.log.format == "auto":
            env["TIDEWIRE_LOG_FORMAT"] = "console"
        setting = f"dev.edges[{index}]"
        listens += [
            Listen(http.address, edge.port, name, f"{setting}.port"),
            Listen(http.internal_address, edge.internal_port, name, f"{setting}.internal_port"),
        ]
        edges.append(
            EdgePlan(name, _url(scheme, public, edge.port), _url("http", internal, edge.internal_port), env)
        )
    stop_seconds = config.drain.delay + config.drain.window + STOP_MARGIN
    services = tuple(_service(name, config, nats_url, terminal=terminal) for name in _needed(config))
    listens += [
        Listen(LOOPBACK, getattr(getattr(dev, one.name), port), one.name, f"dev.{one.name}.{port}")
        for one in services
        for port in SERVICE_PORTS
    ]
    return DevPlan(tuple(edges), tuple(listens), nats_url, dev.nats_port, stop_seconds, services)


def _needed(config: EdgeConfig) -> list[str]:
    """The services that something needs."""
    return [
        *([HISTORY] if stored(config) else []),
        *([PRESENCE] if announced(config.channel) else []),
        *([RATELIMIT] if _is_limited(config) else []),
    ]


def _is_limited(config: EdgeConfig) -> bool:
    return bool(config.rate_limits.rules or config.rate_limits.connections or config.rate_limits.envoy)


def _service(name: str, config: EdgeConfig, nats_url: str, *, terminal: bool) -> ServicePlan:
    """Its ports are those of the `dev` block, on the loopback interface."""
    ports, own = getattr(config.dev, name), f"TIDEWIRE_{_SECTIONS[name]}"
    env = {
        "TIDEWIRE_NATS_URLS": nats_url,
        f"{own}_NODE_NAME": name,
        f"{own}_INTERNAL_ADDRESS": LOOPBACK,
        f"{own}_INTERNAL_PORT": str(ports.internal_port),
        f"{own}_RPC_ADDRESS": LOOPBACK,
        f"{own}_RPC_PORT": str(ports.port),
        f"{own}_RPC_HEALTH_ADDRESS": LOOPBACK,
        f"{own}_RPC_HEALTH_PORT": str(ports.health_port),
        **({f"{own}_LISTENING_TIME": LISTENING_TIME} if name == PRESENCE else {}),
    }
    if name == RATELIMIT:
        env[REPLICAS] = f"ipv4:{LOOPBACK}:{ports.port}"
    if terminal and config.log.format == "auto":
        env["TIDEWIRE_LOG_FORMAT"] = "console"
    return ServicePlan(name, _url("http", LOOPBACK, ports.internal_port), env)


def nats_server_config(config: EdgeConfig, store_dir: str) -> str:
    """Return the configuration of the mesh's nats-server: on the loopback interface, without users."""
    return render(NatsServerConfig(LOOPBACK, config.dev.nats_port, store_dir, config.nats.partitions))


def dev_json(plan: DevPlan, token: str) -> bytes:
    """Return the content of dev.json, for programs: base URLs of each edge, the NATS URL and a token."""
    content = {
        "edges": [edge.url for edge in plan.edges],
        "internal": [edge.internal_url for edge in plan.edges],
        "nats": plan.nats_url,
        "token": token,
    }
    return msgspec.json.format(msgspec.json.encode(content)) + b"\n"


def summary(plan: DevPlan, token: str, version: str, data_dir: str) -> str:
    """Return what a person sees when everything runs; `token` is empty where clients are anonymous."""
    rows = [
        *((f"{edge.name}", f"{edge.url}   (internal {edge.internal_url})") for edge in plan.edges),
        *((one.name, f"internal {one.internal_url}") for one in plan.services),
        (NATS, plan.nats_url),
        ("data", f"{data_dir} (delete it when stopped to start afresh)"),
    ]
    width = max(len(name) for name, _ in rows)
    token_lines = [f'  A token for user "{TOKEN_USER}", valid for {TOKEN_HOURS} hours:', "", f"  {token}", ""]
    return "\n".join(
        [
            "",
            f"  Tidewire {version} is running",
            "",
            *(f"  {name:<{width}}  {text}" for name, text in rows),
            "",
            *(token_lines if token else []),
            f"  Open {plan.edges[0].url} in one tab"
            + (f" and {plan.edges[1].url} in another." if len(plan.edges) > 1 else "."),
            "  Ctrl-C stops everything.",
            "",
        ]
    )


def _origins(config: EdgeConfig, host: str) -> list[str]:
    """The configured origins and those of the mesh's own pages, each under both names of this machine."""
    hosts = [host, "localhost"] if host == LOOPBACK else [host]
    own = [_url(config.http.scheme, name, edge.port) for edge in config.dev.edges for name in hosts]
    return list(dict.fromkeys([*config.client.allowed_origins, *own]))


def _reachable(address: str) -> str:
    """Where this machine itself reaches a listener."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address)  # noqa: S104 - compared


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
