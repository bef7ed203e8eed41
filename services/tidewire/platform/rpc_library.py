"""The one door to gRPC's library: everything else takes `grpc` from here.

Importing it takes a quarter of a second and 21 MiB, so only what serves or calls by gRPC imports this module, and it does
so after any fork: the library's threads and polling do not survive one.
"""

from __future__ import annotations

import os

os.environ["GRPC_VERBOSITY"] = "NONE"
"""Before the import, which reads it: the library writes to standard error by itself, among others a line for each peer that
fails in TLS, in no format of ours and without a bound. What it knows comes in errors and states as well.
"""

import grpc  # noqa: E402 - see above
import grpc.aio  # noqa: E402 - see above

__all__ = ["grpc"]
