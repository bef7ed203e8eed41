"""The table of exchanges in tests/integration/wire_table: its rows, and what their notation stands for.

The README beside the rows tells the notation; this module reads it, and knows nothing of sockets.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jwt
import msgspec
import yaml

from tests.support.edges import SECRET
from tidewire import __version__

FOLDER = Path(__file__).parents[1] / "integration" / "wire_table"
CONFIGURATIONS = FOLDER / "edges.yaml"

Format = Literal["json", "protobuf"]
Step = tuple[str, str, Any]
"""Who, the verb, and its object."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One exchange. With `cases` it stands for several, which differ in the values of placeholders."""

    name: str
    source: str
    steps: tuple[dict[str, Any], ...]
    covers: tuple[str, ...] = ()
    edge: str = "plain"
    formats: tuple[Format, ...] = ("json", "protobuf")
    cases: tuple[dict[str, Any], ...] = ()
    not_yet: str = ""

    def dialogue(self) -> list[Step]:
        """Return the steps taken apart."""
        return [(*_who_and_verb(key), value) for step in self.steps for key, value in step.items()]


def rows() -> list[Row]:
    """Return the rows of all files in order, one for each case."""
    files = (file for file in sorted(FOLDER.glob("*.yaml")) if file != CONFIGURATIONS)
    return [each for file in files for row in _read(file) for each in _cases(row)]


def configurations() -> dict[str, dict[str, Any]]:
    """Return the edges that rows run on: what differs from `edges.edge_config`, by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(CONFIGURATIONS.read_text())
    return found


def _read(file: Path) -> list[Row]:
    return msgspec.convert(yaml.safe_load(file.read_text()), list[Row])


def _cases(row: Row) -> Iterator[Row]:
    if not row.cases:
        yield row
    for case in row.cases:
        name = f"{row.name}: {case['case']}"
        yield msgspec.structs.replace(row, name=name, steps=_filled(row.steps, case), cases=())


def _filled(value: Any, case: Mapping[str, Any]) -> Any:
    """Return a value with the case's placeholders replaced."""
    if isinstance(value, Mapping):
        return {key: _filled(each, case) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_filled(each, case) for each in value)
    found = re.fullmatch(r"<(.+)>", value) if isinstance(value, str) else None
    return case[found[1]] if found is not None and found[1] in case else value


def _who_and_verb(key: str) -> tuple[str, str]:
    who, _, verb = key.partition(" ")
    return who, verb.replace(" ", "_")


class Names:
    """What the placeholders of one run stand for: bound where a reply shows them first, the same from then on."""

    def __init__(self) -> None:
        self._clients: dict[str, str] = {}
        self._channels: dict[str, int] = {}

    def bind_client(self, who: str, client: str) -> None:
        """Note the id that a connect reply gives a client; no two clients have the same."""
        assert str(uuid.UUID(client)) == client
        assert client not in self._clients.values()
        self._clients[who] = client

    def sent(self, value: Any) -> Any:
        """Return what is sent: tokens signed, known names in place of placeholders."""
        if isinstance(value, Mapping):
            return {
                key: self._token(each) if key == "token" else self.sent(each) for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.sent(each) for each in value]
        found = re.fullmatch(r"<client of (.+)>", value) if isinstance(value, str) else None
        return value if found is None else self._clients[found[1]]

    def signed(self, claims: Mapping[str, Any]) -> str:
        """Return a token: `signed with` names another key than the edge's, `header` adds to the token's header."""
        payload = {name: _moment(value) for name, value in self.sent(claims).items()}
        key, header = payload.pop("signed with", SECRET), payload.pop("header", None)
        return jwt.encode(payload, key, algorithm="HS256", headers=header)

    def _token(self, value: Any) -> Any:
        return self.signed(value) if isinstance(value, Mapping) else value

    def expected(self, expected: Any, actual: Any) -> Any:
        """Return what was expected, each placeholder replaced by what is there if that is such a thing."""
        if isinstance(expected, Mapping):
            there = actual if isinstance(actual, Mapping) else {}
            return {key: self.expected(each, there.get(key)) for key, each in expected.items()}
        if isinstance(expected, list | tuple):
            there = actual if isinstance(actual, list) and len(actual) == len(expected) else expected
            return [self.expected(each, found) for each, found in zip(expected, there, strict=True)]
        if isinstance(expected, str) and expected.startswith("<") and self._is(expected[1:-1], actual):
            return actual
        return expected

    def _is(self, placeholder: str, actual: Any) -> bool:
        kind, _, name = placeholder.partition(" of ")
        match kind:
            case "version":
                return bool(actual == __version__)
            case "sentence":
                return isinstance(actual, str) and bool(actual)
            case "client":
                return bool(actual == self._clients[name])
            case "id":
                return self._is_channel(actual, name)
        low, high = map(int, placeholder.split(" to "))
        return isinstance(actual, int) and low <= actual <= high

    def _is_channel(self, actual: Any, name: str) -> bool:
        taken = {number for other, number in self._channels.items() if other != name}
        return (
            isinstance(actual, int)
            and actual not in taken
            and actual == self._channels.setdefault(name, actual) > 0
        )


def _moment(value: Any) -> Any:
    """Return a time in Unix seconds: such as `now + 60` or `now - 60`."""
    found = re.fullmatch(r"now ([+-]) (\d+)", value) if isinstance(value, str) else None
    if found is not None:
        return int(time.time()) + int(found[1] + found[2])
    return value
