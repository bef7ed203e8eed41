"""What the commands of the services share: one process of a service, from its configuration to its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from tidewire.cli.options import load_section
from tidewire.platform import lifecycle, logs
from tidewire.platform.settings import load

if TYPE_CHECKING:
    from tidewire.platform.service import Core, Surroundings
    from tidewire.platform.service_options import ProcessConfig

    C = TypeVar("C", bound=ProcessConfig)


def launcher(
    config_type: type[C], config_file: Path | None
) -> Callable[[Callable[[C, Surroundings], Core[C]]], NoReturn]:
    """Read the configuration, and return what runs the process of the core that it is given, to the end.

    Until then gRPC's library, which takes a quarter of a second, need not be there. Raises ConfigFailure.
    """
    lifecycle.hold_reloads()
    config = load_section(config_type, config_file)
    log = logs.configure(config.log.level, config.log.format, service=config.service)

    def launch(create: Callable[[C, Surroundings], Core[C]]) -> NoReturn:
        from tidewire.platform.service import ServiceProcess

        def process() -> ServiceProcess[C]:
            return ServiceProcess(create, config, log, lambda: load(config_type, config_file, os.environ))

        sys.exit(lifecycle.run(process, log))

    return launch
