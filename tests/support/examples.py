"""The programs in examples/, as modules and as processes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.wait import PATIENCE

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    """Import an example without running it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dev_file(folder: Path, **fields: Any) -> Path:
    """Write the `.tidewire/dev.json` that examples look for in their folder, and return the folder."""
    (folder / ".tidewire").mkdir(parents=True, exist_ok=True)
    (folder / ".tidewire" / "dev.json").write_text(json.dumps(fields))
    return folder


@contextlib.asynccontextmanager
async def running(
    name: str, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an example in a folder; it is ended at the end, if it has not by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / f"{name}.py"),
        *arguments,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode().rstrip("\n")
