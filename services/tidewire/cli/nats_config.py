"""`tidewire nats-config`: prints a nats-server configuration with the mapping and users with the least rights."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click
import msgspec

from tidewire.kernel.nats_config import (
    NatsServerConfig,
    NatsUser,
    backend_user,
    edge_user,
    history_user,
    migrate_user,
    presence_user,
    render,
)
from tidewire.kernel.subjects import NAMESPACE, NO_NAMESPACE

_USER = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class BackendSpec(msgspec.Struct, frozen=True):
    """What `--backend NAME:NAMESPACE[,NAMESPACE...]` says."""

    name: str
    namespaces: tuple[str, ...]


class _BackendType(click.ParamType[BackendSpec]):
    name = "name:namespace,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> BackendSpec:
        if isinstance(value, BackendSpec):
            return value
        name, _, listed = str(value).partition(":")
        if not _USER.fullmatch(name):
            self.fail(f"{name!r} is no user name: a letter, then letters, digits, - and _", param, ctx)
        namespaces = tuple(dict.fromkeys(listed.split(",")))
        for namespace in namespaces:
            valid = NAMESPACE.fullmatch(namespace) and not namespace.startswith("_")
            if namespace != NO_NAMESPACE and not valid:
                self.fail(f"{namespace!r} is no namespace (channels without one: _)", param, ctx)
        return BackendSpec(name, namespaces)


def users_of(
    edge: str,
    backends: Sequence[BackendSpec],
    rpc: Sequence[str],
    events: Sequence[str],
    orders: Sequence[str],
    history: str | None = None,
    migrate: str | None = None,
    presence: str | None = None,
) -> tuple[NatsUser, ...]:
    """Return the users that the options describe. Raises click.UsageError where they contradict each other."""
    named = [backend.name for backend in backends]
    own = [name for name in (edge, history, migrate, presence) if name is not None]
    for name in own:
        if not _USER.fullmatch(name):
            raise click.UsageError(f"{name!r} is no user name: a letter, then letters, digits, - and _")
    variables = {edge_user(name).password_variable for name in (*own, *named)}
    if len(variables) < len(own) + len(named):
        raise click.UsageError("each user needs a name of its own, also when upper case and - as _")
    for name in (*rpc, *events, *orders):
        if name not in named:
            raise click.UsageError(f"{name!r} is no --backend")
    return (
        edge_user(edge),
        *(() if history is None else (history_user(history),)),
        *(() if migrate is None else (migrate_user(migrate),)),
        *(() if presence is None else (presence_user(presence),)),
        *(
            backend_user(
                backend.name,
                backend.namespaces,
                rpc_of=edge if backend.name in rpc else None,
                events=backend.name in events,
                orders=backend.name in orders,
            )
            for backend in backends
        ),
    )


@click.command("nats-config")
@click.option(
    "--partitions",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="As nats.partitions of the edges: fixed for the life of a deployment.",
)
@click.option("--edge-user", default="edge", show_default=True, metavar="NAME", help="The user of all edges.")
@click.option("--history-user", metavar="NAME", help="The user of all replicas of the history service.")
@click.option("--presence-user", metavar="NAME", help="The user of all replicas of the presence service.")
@click.option(
    "--migrate-user", metavar="NAME", help="The user of `tidewire migrate`, which makes the streams."
)
@click.option(
    "--backend",
    "backends",
    type=_BackendType(),
    multiple=True,
    metavar="NAME:NAMESPACE,...",
    help="A backend that publishes to and follows these namespaces (_ : channels without one). May be repeated.",
)
@click.option(
    "--rpc", multiple=True, metavar="NAME", help="This backend answers RPC of clients. May be repeated."
)
@click.option(
    "--events", multiple=True, metavar="NAME", help="This backend hears what clients send. May be repeated."
)
@click.option(
    "--orders",
    multiple=True,
    metavar="NAME",
    help="This backend gives orders: it may close and subscribe any client. May be repeated.",
)
@click.option("--listen", default="0.0.0.0:4222", show_default=True, metavar="HOST:PORT", help="For clients.")
@click.option(
    "--store-dir", default="/var/lib/nats", show_default=True, help="Where JetStream keeps its data."
)
def command(
    partitions: int,
    edge_user: str,
    history_user: str | None,
    migrate_user: str | None,
    presence_user: str | None,
    backends: tuple[BackendSpec, ...],
    rpc: tuple[str, ...],
    events: tuple[str, ...],
    orders: tuple[str, ...],
    listen: str,
    store_dir: str,
) -> None:
    """Print a nats-server configuration for Tidewire.

    It holds the mapping that finds a channel's partition, JetStream, bounds, and users with the least rights: one for
    all edges, one per --backend, one for the presence service, and where channels have history one for its service and one for migrations. Whoever may publish in a namespace may speak there as anyone, so these rights are
    the trust boundary. No password is printed: nats-server reads them from its environment (NATS_PASSWORD_<USER>).

    \b
    Example:
      tidewire nats-config --backend app:chat,live --rpc app > nats-server.conf
      tidewire nats-config --history-user history --migrate-user migrate --presence-user presence --backend app:chat
      NATS_PASSWORD_EDGE=... NATS_PASSWORD_APP=... nats-server -c nats-server.conf
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError("--listen is HOST:PORT")
    config = NatsServerConfig(
        host=host.strip("[]"),
        port=int(port),
        store_dir=store_dir,
        partitions=partitions,
        users=users_of(edge_user, backends, rpc, events, orders, history_user, migrate_user, presence_user),
    )
    click.echo(render(config), nl=False)
