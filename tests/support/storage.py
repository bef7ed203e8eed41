"""Streams and the bucket TW_META for tests: configurations, migrations, and what the streams then hold."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.support.edges import NOBODY, merged
from tidewire.kernel.config import decode
from tidewire.kernel.streams import GENERATION, epoch_of, new_door
from tidewire.kernel.subjects import in_subject
from tidewire.platform.jetstream import JetStream
from tidewire.platform.meta import find_door
from tidewire.storage.config import MigrateConfig
from tidewire.storage.migration import Migration, orders, prepare
from tidewire.storage.wanted import bucket_config

HISTORY = {"history_size": 100, "history_ttl": "10m"}
"""Options of a namespace with history."""
PARTITIONS = 2
MIGRATION_TIMEOUT = 120.0


def storage_config(
    url: str | Iterable[str], namespaces: Mapping[str, Mapping[str, object]], **changes: object
) -> dict[str, Any]:
    """A configuration with these namespaces, those that name a profile or none with history."""
    urls = [url] if isinstance(url, str) else list(url)
    base = {
        "nats": {"urls": urls, "partitions": PARTITIONS},
        "history": {"target": NOBODY},
        "storage": {
            "profiles": [{}, {"name": "fast", "storage": "memory"}, {"name": "mixed", "message_ttl": True}]
        },
        "channel": {"namespaces": [{"name": name, **HISTORY, **each} for name, each in namespaces.items()]},
    }
    return merged(base, changes)


def migrate_command(folder: Path, config: Mapping[str, Any], *arguments: str) -> list[str]:
    """The command line of `tidewire migrate` with this configuration, written to `folder`."""
    file = folder / "tidewire.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(config)))
    return [sys.executable, "-m", "tidewire", "migrate", "-c", str(file), *arguments]


def migrated(folder: Path, config: Mapping[str, Any], *arguments: str) -> tuple[int, str, str]:
    """Run it; return its exit code, output, and errors."""
    command = migrate_command(folder, config, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=MIGRATION_TIMEOUT, check=False)
    return done.returncode, done.stdout, done.stderr


def migrated_at_once(folder: Path, config: Mapping[str, Any], number: int) -> list[tuple[int, str]]:
    """Run so many at the same time; return exit code and errors of each."""
    command = migrate_command(folder, config)
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    errors = [process.communicate(timeout=MIGRATION_TIMEOUT)[1] for process in running]
    return [(process.returncode, each) for process, each in zip(running, errors, strict=True)]


def killed_migration(folder: Path, config: Mapping[str, Any], question: int, *arguments: str) -> bool:
    """Run it, and kill it right after it has asked so many questions; whether it got so far."""
    _, _, _, *given = migrate_command(folder, config, *arguments)
    command = [sys.executable, "-m", "tests.support.killed_migration", str(question), *given]
    end = subprocess.run(command, capture_output=True, text=True, timeout=MIGRATION_TIMEOUT, check=False)
    assert end.returncode in (0, -signal.SIGKILL), end.stderr
    return end.returncode != 0


async def prepared(js: JetStream, config: Mapping[str, Any], **given: Any) -> Migration:
    """The migration to this configuration, in this process."""
    return await prepare(js, decode(MigrateConfig, config), orders(**given))


async def migrate(js: JetStream, config: Mapping[str, Any], **given: Any) -> Migration:
    """Carry it out, which must have nothing against it; edges get no time, since there are none."""
    migration = await prepared(js, config, **{"settle": 0.0, **given})
    assert migration.plan.refusals == ()
    await migration.carry_out(js, lambda _step: None)
    return migration


async def bucket(js: JetStream, replicas: int = 1) -> dict[str, Any]:
    """Create the bucket TW_META, empty; return its configuration."""
    config = bucket_config(replicas, new_door("of a test"))
    await js.call(f"STREAM.CREATE.{config['name']}", config)
    return config


async def written(js: JetStream, key: str, value: bytes) -> None:
    """Put a value into the bucket, whatever it is."""
    await js.ask(f"{await find_door(js)}.{key}", value)


async def published(js: JetStream, channel: str, data: bytes = b"1", header: bytes = b"") -> dict[str, Any]:
    """JetStream's answer to a publication as an edge publishes it."""
    _, answer = await js.ask(in_subject(channel, PARTITIONS).decode(), data, header)
    return msgspec.json.decode(answer, type=dict[str, Any]) if answer else {}


async def count(js: JetStream, stream: str) -> int:
    """How many messages a stream holds."""
    number: int = (await js.call(f"STREAM.INFO.{stream}"))["state"]["messages"]
    return number


async def epoch(js: JetStream, stream: str) -> str:
    """The epoch of a stream's channels, without a nonce."""
    info = await js.call(f"STREAM.INFO.{stream}")
    return epoch_of(stream, info["created"], int(info["config"]["metadata"].get(GENERATION, "0")))


def headers(**values: object) -> bytes:
    """A header block; underscores in names stand for `-`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in values.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()
