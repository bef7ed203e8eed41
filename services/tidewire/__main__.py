"""`python -m tidewire` is the console script."""

from __future__ import annotations

from tidewire.cli.main import main

if __name__ == "__main__":
    main(prog_name="tidewire")
