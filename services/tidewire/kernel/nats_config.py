"""The text of a nats-server configuration: the mapping that finds partitions, bounds, and users with the least rights.

The server checks a publish against the *mapped* subject, so a right to publish on `tw.pub.chat.>` is worth nothing
without `tw.in.*.chat.>`. Rights are allow-lists: what is not listed is refused, `$JS.API` above all. `tw.out.>` is
denied by name as well, since a message there is delivered as if JetStream had stored it.
Passwords are never written: nats-server reads them from its environment and refuses to start without them.
"""

from __future__ import annotations

import msgspec

from tidewire.kernel.meta import DIRECT_GET, LAYOUT_SUBJECT
from tidewire.kernel.streams import META_DOORS, META_STREAM, META_SUBJECT

PUBLISH = "tw.pub.>"
STORED = "tw.out.>"
LAST_STORED = "$JS.API.DIRECT.GET.*.tw.in.>"
UNMAPPED_QUEUE = "tw-map"
ACCOUNT = "TIDEWIRE"

MAX_PAYLOAD = 256 * 1024
MAX_PENDING = 32 * 1024 * 1024
PING_INTERVAL = "10s"
WRITE_DEADLINE = "5s"


class NatsUser(msgspec.Struct, frozen=True):
    """One user of nats-server: a name, and the subjects on which it may publish and subscribe, with a word for why."""

    name: str
    purpose: str
    publish: tuple[tuple[str, str], ...]
    subscribe: tuple[tuple[str, str], ...]
    denied: tuple[str, ...] = ()
    """What it may not publish on although a wildcard of `publish` says so."""

    @property
    def password_variable(self) -> str:
        """The environment variable of nats-server that holds this user's password."""
        return f"NATS_PASSWORD_{self.name.upper().replace('-', '_')}"


class NatsServerConfig(msgspec.Struct, frozen=True):
    """What one nats-server is told. Without users everybody may do everything: for the loopback interface only."""

    host: str
    port: int
    store_dir: str
    partitions: int
    users: tuple[NatsUser, ...] = ()


def inbox_prefix(user: str) -> str:
    """Return the prefix of the subjects on which a user gets answers; its client must be told to use it."""
    return f"_INBOX_{user}"


def edge_user(name: str) -> NatsUser:
    """Return the user that all edges share."""
    return NatsUser(
        name=name,
        purpose="the edges: they speak for every client",
        publish=(
            ("tw.in.>", "publications, each on its channel's partition"),
            ("tw.pub._tw.chk.>", "the probe at start, on a server that lacks the mapping"),
            ("tw.ctl.>", "control messages to other edges"),
            ("tw.rpc.*", "RPC of clients"),
            ("tw.hook.*", "questions to backends"),
            ("tw.ev.>", "events for backends"),
            ("tw.pres.d.>", "who has come and gone, for the presence service"),
            ("tw.pres.h.*", "that this edge lives"),
            ("tw.pres.j.>", "joins and leaves, as subscribers see them"),
            ("tw.pres.c.>", "who is there, for a replica that asked"),
            (DIRECT_GET, "what all processes must agree on"),
            (
                LAST_STORED,
                "a channel's last publication, whose version is compared: no other word of JetStream's API",
            ),
        ),
        subscribe=(
            ("tw.out.>", "what JetStream stored and republished"),
            ("tw.in.>", "publications of namespaces without history"),
            (f"{PUBLISH} {UNMAPPED_QUEUE}", "what a server without the mapping let through"),
            ("tw.ctl.>", "control messages"),
            ("tw.pres.s.*", "questions of the presence service"),
            ("tw.pres.j.>", "joins and leaves of channels with local subscribers"),
            (LAYOUT_SUBJECT, "that what all must agree on has changed"),
            (f"{inbox_prefix(name)}.>", "answers to its own requests"),
        ),
    )


def backend_user(
    name: str,
    namespaces: tuple[str, ...],
    *,
    rpc_of: str | None = None,
    events: bool = False,
    orders: bool = False,
) -> NatsUser:
    """Return a backend's user: it publishes to its namespaces (`_`: channels without one) and follows them.

    With `rpc_of`, the name of the edges' user, it answers client RPC; with `events` it hears what clients `send`; with
    `orders` it may close and subscribe any client.
    A responder may publish to the edges' inbox instead of having nats-server's `allow_responses`: that option lets a
    user publish on whatever reply subject it received, `tw.out.>` and other namespaces included, and it can send
    itself a message with such a reply subject.
    """
    publish = [
        (f"tw.in.*.{namespace}.>", f"publications in {namespace}, as mapped") for namespace in namespaces
    ]
    publish += [(f"tw.pub.{namespace}.>", "the same, as the backend names it") for namespace in namespaces]
    subscribe = [(f"tw.in.*.{namespace}.>", f"follow {namespace}") for namespace in namespaces]
    if rpc_of is not None:
        subscribe.append(("tw.rpc.>", "RPC of clients"))
        publish.append((f"{inbox_prefix(rpc_of)}.>", "answers to RPC"))
    if orders:
        publish.append(("tw.ctl.all", "orders: it may close and subscribe any client"))
    if events:
        subscribe.append(("tw.ev.>", "what clients send"))
    subscribe.append(
        (f"{inbox_prefix(name)}.>", f"answers to its own requests: inbox prefix {inbox_prefix(name)}")
    )
    purpose = f"backend {name}: whatever it publishes in its namespaces is believed, Tw-* headers too"
    return NatsUser(name=name, purpose=purpose, publish=tuple(publish), subscribe=tuple(subscribe))


def history_user(name: str) -> NatsUser:
    """Return the user that all replicas of the history service share: it reads streams, and purges whole channels."""
    api = "$JS.API"
    return NatsUser(
        name=name,
        purpose="the history service: it reads what is stored, and publishes for nobody",
        publish=(
            (f"{api}.DIRECT.GET.>", "publications by their sequence, and records"),
            (f"{api}.STREAM.MSG.GET.*", "the same from the stream's leader"),
            (f"{api}.STREAM.INFO.*", "how far a stream is, and its epoch"),
            (f"{api}.STREAM.PURGE.*", "the history of a channel goes"),
            (f"{META_DOORS}.*.notes.*", "how far it has seen a stream"),
            (f"{META_DOORS}.*.nonce.*", "that a stream has gone back"),
            (f"{META_DOORS}.*.purges.*", "which channels were purged, and how far"),
        ),
        subscribe=(
            ("tw.out.>", "what JetStream stored and republished"),
            (f"{META_SUBJECT}.>", "what all must agree on, and what other replicas noted"),
            (f"{inbox_prefix(name)}.>", "answers to its own requests"),
        ),
        denied=(f"{api}.STREAM.PURGE.{META_STREAM}",),
    )


def presence_user(name: str) -> NatsUser:
    """Return the user that all replicas of the presence service share: it hears what edges announce, and tells of members."""
    return NatsUser(
        name=name,
        purpose="the presence service: it hears who is there, and says who is gone",
        publish=(
            ("tw.pres.s.>", "questions to edges"),
            ("tw.pres.j.>", "leaves of members whose edge is dead"),
            ("tw.pres.r.>", "what replicas tell each other"),
            ("tw.pres.o.>", "channels that have subscribers now, or none any more"),
        ),
        subscribe=(
            ("tw.pres.>", "who is there, answers to questions, and what other replicas say"),
            (f"{inbox_prefix(name)}.>", "answers to its own requests"),
        ),
    )


def migrate_user(name: str) -> NatsUser:
    """Return the user of `tidewire migrate`: whoever has it can delete all history, so no running process should."""
    api = "$JS.API.STREAM"
    return NatsUser(
        name=name,
        purpose="`tidewire migrate`: it makes, changes and deletes streams, and hears no client",
        publish=(
            (f"{api}.NAMES", "which streams there are"),
            (f"{api}.INFO.*", "how they are"),
            (f"{api}.CREATE.*", "a new one"),
            (f"{api}.UPDATE.*", "namespaces, limits, copies, generations"),
            (f"{api}.DELETE.*", "one that holds no namespace any more"),
            (f"{api}.PURGE.*", "what a namespace left behind"),
            (f"{api}.MSG.GET.*", "whether it left something, and the record"),
            (f"{META_DOORS}.*.layout", "what all processes must agree on"),
        ),
        subscribe=((f"{inbox_prefix(name)}.>", "answers to its own requests"),),
    )


def render(config: NatsServerConfig) -> str:
    """Return the whole configuration file, commented for the person who runs nats-server."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    lines = [
        "# nats-server configuration for Tidewire, written by `tidewire nats-config`.",
        f"listen: {_quoted(f'{host}:{config.port}')}",
        "",
        "# Bounds: an edge checks at start that its clients' frames fit into max_payload.",
        f"max_payload: {MAX_PAYLOAD}",
        f"max_pending: {MAX_PENDING}",
        f'ping_interval: "{PING_INTERVAL}"',
        f'write_deadline: "{WRITE_DEADLINE}"',
        "",
        f"jetstream {{ store_dir: {_quoted(config.store_dir)} }}",
        "",
    ]
    if not config.users:
        return "\n".join([*lines, *_mapping(config.partitions), ""])
    account = [*_mapping(config.partitions), "", *_users(config.users)]
    lines += [
        "# Passwords come from the environment of nats-server, which does not start without them.",
        "# One that is a number needs double quotes in the variable; a bcrypt hash stands here itself, quoted.",
        "accounts {",
        f"  {ACCOUNT} {{",
        "    jetstream: enabled",
        *(f"    {line}".rstrip() for line in account),
        "  }",
        "}",
        "",
    ]
    return "\n".join(lines)


def _mapping(partitions: int) -> list[str]:
    """The same on every server of the deployment, leaf nodes too: a server without it would lose publications."""
    return [
        "# Any NATS client publishes on tw.pub.<channel> and need not know partitions. The number is fixed for the life",
        "# of a deployment, and the mapping belongs into every nats-server of it, leaf nodes too.",
        f'mappings {{ "{PUBLISH}": "tw.in.{{{{partition({partitions})}}}}.>" }}',
    ]


def _users(users: tuple[NatsUser, ...]) -> list[str]:
    lines = ["users: ["]
    for user in users:
        lines += [
            f"  # {user.purpose}",
            "  {",
            f"    user: {_quoted(user.name)}, password: ${user.password_variable}",
            "    permissions {",
            "      publish {",
            *_allowed(user.publish),
            f"        deny: [{', '.join(map(_quoted, (STORED, *user.denied)))}]",
            "      }",
            "      subscribe {",
            *_allowed(user.subscribe),
            "      }",
            "    }",
            "  }",
        ]
    return [*lines, "]"]


def _allowed(subjects: tuple[tuple[str, str], ...]) -> list[str]:
    rows = [f"          {_quoted(subject)}  # {purpose}" for subject, purpose in subjects]
    return ["        allow: [", *rows, "        ]"]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
