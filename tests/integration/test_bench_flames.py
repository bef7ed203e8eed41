"""The flame graphs of bench/flames: recorded from a real edge, without a path of the machine; or one sentence why not."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import msgspec
import pytest

from bench.flames.__main__ import FLAMES, flame, presentable, record
from bench.load.measure import Plan
from bench.load.servers import prepare
from bench.load.tools import build

pytestmark = pytest.mark.timeout(180)  # the test compiles, which takes its time on a busy machine
REFUSED = r"^tidewire: py-spy may not look into the edge: .*SYS_PTRACE"


def test_a_graph_shows_the_fan_out_and_no_path_of_the_machine(tmp_path: Path) -> None:
    """Where the system lets py-spy look; elsewhere the sentence says what would."""
    tools = prepare(build(tmp_path / "programs"), tmp_path, 50)
    plan = Plan(tools, runs=1, seconds=1, warmup=0.2, factor=1, server_cpu=None, load_cpu=None)
    stand = msgspec.structs.replace(FLAMES["fan-out"], connections=50)
    file = tmp_path / "fan-out.svg"
    try:
        flame(stand, plan, file)
    except SystemExit as ended:
        assert re.search(REFUSED, str(ended.code))  # noqa: PT017 - one of two right ends
        return
    svg = file.read_text()
    assert stand.name in svg
    assert re.search(r"Hub\.\S+ \(tidewire/edge/hub\.py:\d+\)", svg)
    titles = re.findall(r"<title>([^<]*)", svg)
    assert not [title for title in titles if re.search(r"[ (]/", title)]
    assert str(Path.cwd()) not in svg


def test_paths_are_cut_to_what_is_the_same_everywhere() -> None:
    """Packages keep their names; other files only their own."""
    lines = {
        "f (/home/me/.venv/lib/python3.11/site-packages/nats/client.py:1)": "f (nats/client.py:1)",
        "f (/src/tidewire/services/tidewire/edge/hub.py:2)": "f (tidewire/edge/hub.py:2)",
        "f (/usr/lib/python3.11/asyncio/runners.py:3)": "f (asyncio/runners.py:3)",
        "read (/usr/lib/x86_64-linux-gnu/libc.so.6)": "read (libc.so.6)",
        '<text id="title" x="50%">/opt/py-spy record --pid 1</text>': '<text id="title" x="50%">t</text>',
        "f (tidewire/edge/hub.py:4)": "f (tidewire/edge/hub.py:4)",
    }
    assert {line: presentable(line, "t") for line in lines} == lines


def test_without_py_spy_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says what installs it."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SystemExit) as ended:
        record(os.getpid(), 1, tmp_path / "a.svg", "a")
    assert ended.value.code == "tidewire: py-spy is missing: run `make setup`"


def test_a_process_that_may_not_be_looked_into_is_one_sentence(tmp_path: Path) -> None:
    """Such as one that is no Python: py-spy's own reason stands in it."""
    with pytest.raises(SystemExit, match=REFUSED):
        record(2**22 + 1, 1, tmp_path / "a.svg", "a")
