"""docs/operations.md is what an operator has at night: events and metrics stand in it as the code names them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
EVENT = re.compile(r"[a-z]+\.[a-z_]+")
LOGGING = {"debug", "info", "warning", "error", "exception", "_warn", "log"}
SUFFIX = re.compile(r"(_total|_bucket|_sum|_count)$")


def sources() -> Iterator[str]:
    """Every module of ours."""
    for path in (ROOT / "services/tidewire").rglob("*.py"):
        if "rpc" not in path.relative_to(ROOT / "services/tidewire").parts:
            yield path.read_text()


def events(source: str) -> Iterator[str]:
    """The constants that a module logs."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = node.args[0].value
            if called in LOGGING and isinstance(name, str) and EVENT.fullmatch(name):
                yield name


def test_every_event_is_listed() -> None:
    """An event that nobody can look up helps nobody."""
    text = (ROOT / "docs/operations.md").read_text()
    logged = {event for source in sources() for event in events(source)}
    assert len(logged) > 15
    assert sorted(event for event in logged if f"`{event}`" not in text) == []


def test_every_metric_of_the_documents_exists() -> None:
    """An alert on a name that is not there never fires."""
    made = {name for source in sources() for name in re.findall(r'"(tidewire_[a-z_]+)"', source)}
    named = {
        name
        for path in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"tidewire_[a-z_]+", path.read_text())
    }
    assert len(named) > 20
    assert sorted(name for name in named if SUFFIX.sub("", name) not in made and name not in made) == []
