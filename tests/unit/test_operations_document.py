"""docs/operations.md is what an operator has at night: events and metrics stand in it as the code names them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tidewire.history.config import HistoryConfig
from tidewire.presence.config import PresenceConfig
from tidewire.ratelimit.config import RateLimitConfig

ROOT = Path(__file__).parents[2]
EVENT = re.compile(r"[a-z]+\.[a-z_]+")
LOGGING = {"debug", "info", "warning", "error", "exception", "_warn", "log"}
SERVICES = [HistoryConfig, PresenceConfig, RateLimitConfig]
SUFFIX = re.compile(r"(_total|_bucket|_sum|_count)$")


def sources() -> Iterator[str]:
    """Every module of ours."""
    for path in (ROOT / "services/tidewire").rglob("*.py"):
        if "rpc" not in path.relative_to(ROOT / "services/tidewire").parts:
            yield path.read_text()


def events(source: str) -> Iterator[str]:
    """The constants that a module logs, and what begins with the name of a service for each of them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for name in texts(node.args[0]) if called in LOGGING else ():
                if EVENT.fullmatch(name):
                    yield name


def texts(node: ast.expr) -> Iterator[str]:
    """What an expression says."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr) and ast.unparse(node).startswith("f'{self._config.service}."):
        yield from (f"{config.service}{ast.literal_eval(node.values[1])}" for config in SERVICES)


def metrics() -> Iterator[tuple[str, set[str]]]:
    """The name of each metric of the code, with its labels; a counter's as it is exposed."""
    for source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[0], ast.Constant):
                name = str(node.args[0].value)
                if re.fullmatch("tidewire_[a-z_]+", name):
                    counts = getattr(node.func, "id", "").startswith(("Counter", "Total"))
                    yield name + "_total" * counts, labels(node)


def labels(call: ast.Call) -> set[str]:
    """The names in the list among a metric's arguments; a constant's name in capitals is the label itself."""
    arguments = [*call.args[2:], *(keyword.value for keyword in call.keywords)]
    items = [item for each in arguments if isinstance(each, ast.List) for item in each.elts]
    return {item.id.lower() if isinstance(item, ast.Name) else ast.literal_eval(item) for item in items}


def documents() -> str:
    """What is there to read."""
    return "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))


def test_every_event_is_listed() -> None:
    """An event that nobody can look up helps nobody."""
    text = (ROOT / "docs/operations.md").read_text()
    logged = {event for source in sources() for event in events(source)}
    assert len(logged) > 15
    assert {f"{config.service}.drained" for config in SERVICES} <= logged
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


def test_every_metric_is_in_the_documents() -> None:
    """Under the name that it is exposed by."""
    text, found = documents(), dict(metrics())
    assert len(found) > 60
    assert sorted(name for name in found if not re.search(rf"{name}\b", text)) == []


def test_labels_of_the_documents_exist() -> None:
    """A selector with another label matches nothing."""
    found, wrong = dict(metrics()), []
    for name, selector in re.findall(r"(tidewire_[a-z_]+)\{([^}]*)\}", documents()):
        used = re.findall(r"(\w+)(?:=~|!~|!=|=)", selector) or selector.split(",")
        wrong += [f"{name}{{{label}}}" for label in used if label not in found[name]]
    assert wrong == []


def test_gauges_that_workers_do_not_sum_are_named() -> None:
    """`..._info` is the same everywhere, and `process_*` is kept apart."""
    paragraph = re.search(r"\*\*Metrics\.\*\*(.*?)\n\n", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    assert paragraph is not None
    least, greatest = paragraph[1].split(": the least;")
    for rule, named in (("MIN", least), ("MAX", greatest)):
        ruled = rf'"(tidewire_[a-z_]+)"(?:(?!Gauge\().)*?Merge\.{rule}\b'
        found = {name for source in sources() for name in re.findall(ruled, source, re.DOTALL)}
        assert len(found) >= 3
        assert sorted(name for name in found if not name.endswith("_info") and f"`{name}`" not in named) == []
