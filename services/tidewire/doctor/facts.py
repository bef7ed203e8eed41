"""What the doctor looks at: a machine, NATS servers, files and listeners as they were found. Pure.

None: the machine does not tell. Sizes are bytes, times seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from tidewire.doctor.rights import Right

Triple = tuple[int, int, int]


class CgroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The tightest limits of the control groups (v1 or v2) that this process is in; None: no limit."""

    memory_max: int | None = None
    memory_left: int | None = None
    """How much more the group may take before it is killed; its file cache does not count as taken."""
    cpus: float | None = None
    pids_max: int | None = None
    pids_left: int | None = None


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel's settings, and what this process may have of the machine."""

    soft_files: int = 0
    hard_files: int = 0
    nr_open: int | None = None
    """The most that a hard limit of open files can be (fs.nr_open)."""
    files_open: int | None = None
    files_max: int | None = None
    """Open files of the whole machine, and the most there may be (fs.file-nr, fs.file-max)."""
    port_range: tuple[int, int] | None = None
    reserved_ports: tuple[tuple[int, int], ...] = ()
    """Ranges that no outgoing connection gets by itself (net.ipv4.ip_local_reserved_ports)."""
    somaxconn: int | None = None
    syn_backlog: int | None = None
    syncookies: int | None = None
    tcp_mem: Triple | None = None
    """Low, pressure, most, in pages of `page_size` (net.ipv4.tcp_mem)."""
    page_size: int = 4096
    tcp_rmem: Triple | None = None
    tcp_wmem: Triple | None = None
    """Smallest, first and largest buffer of a socket."""
    conntrack_count: int | None = None
    conntrack_max: int | None = None
    memory_available: int | None = None
    cgroup: CgroupFacts = CgroupFacts()
    cpus: int = 1
    clock_synchronised: bool | None = None


class NatsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One NATS server of the configuration. With a `problem` it could not be used, and nothing else is known."""

    server: str
    problem: str = ""
    version: str = ""
    jetstream: bool = False
    max_payload: int = 0
    certificate_end: float | None = None
    """When the server's certificate expires, in Unix time; None without TLS."""
    mapped: int | None = None
    """To how many partitions the server maps `tw.pub.>`; 0: to none. None: it did not take the probe."""
    missing: tuple[Right, ...] = ()
    untried: tuple[Right, ...] = ()
    """Rights that could not be tried without a backend hearing of it."""
    may_forge: bool | None = None
    """Whether this user may publish what counts as stored by JetStream; None: that could not be tried."""
    skew: float | None = None
    """How far the server's clock is ahead of this machine's."""
    skew_error: float = 0.0


class FileKind(enum.Enum):
    """What a file is for."""

    SECRET = "secret"  # noqa: S105 - a kind, not a secret
    PUBLIC = "public"
    CERTIFICATE = "certificate"
    AUTHORITIES = "authorities"


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the configuration names. With a `problem` nothing else is known."""

    name: str
    path: str
    kind: FileKind
    problem: str = ""
    mode: int = 0
    """Permission bits."""
    certificate_end: float | None = None


class KeySetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One issuer's key set, fetched once."""

    url: str
    problem: str = ""
    keys: int = 0
    ignored: tuple[str, ...] = ()


class ListenerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A port that an edge would listen on; `problem` says why it could not, in words that follow "port N"."""

    setting: str
    port: int
    problem: str = ""
    edge_runs: bool = False
    """Whether it is a running edge of this configuration that has the port."""


class PublicTlsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The public port's certificate. With a `problem` an edge would not start with it."""

    problem: str = ""
    names: tuple[str, ...] = ()
    """The hosts and addresses that clients accept it for."""
    in_force: bool | None = None
    """Whether the edge that runs shows this one to clients; None: none runs, or it could not be asked."""


class EdgeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration, as far as checks speak of it, and the files, keys and ports that belong to it."""

    connection_limit: int
    needed_payload: int
    """Bytes that NATS's max_payload must be."""
    partitions: int
    nats_user: str
    node_name: str = ""
    pages: str = ""
    pages_problem: str = ""
    own_keys: int = 0
    """Keys in the configuration itself that check tokens."""
    anonymous: bool = False
    key_sets: tuple[KeySetFacts, ...] = ()
    files: tuple[FileFacts, ...] = ()
    listeners: tuple[ListenerFacts, ...] = ()
    tls: PublicTlsFacts | None = None
    """None: no TLS on the public port."""


class StorageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What channels with history find in JetStream. With a `problem` it could not be asked."""

    namespaces: tuple[str, ...] = ()
    """Those with history, by subject token."""
    problem: str = ""
    differing: tuple[str, ...] = ()
    """What keeps an edge from starting: its configuration is not what the cluster has."""
    work: tuple[str, ...] | None = None
    """What `tidewire migrate` would do; None: this user may not ask."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is judged; `now` in Unix time."""

    now: float
    host: HostFacts
    edge: EdgeFacts
    nats: tuple[NatsFacts, ...]
    storage: StorageFacts = StorageFacts()
    history: str | None = None
    """Why the history service does not answer, "" where it does; None: no namespace needs it."""
    presence: str | None = None
    """The same of the presence service; None: edges announce nobody."""
    ratelimit: Mapping[str, str] = {}
    """The same of each replica of the rate-limit service, where there are rules."""
