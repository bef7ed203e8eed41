"""May a page of this origin connect? (RFC 6454; browsers send `Origin` with every WebSocket handshake)."""

from __future__ import annotations

import re
from collections.abc import Sequence

ANY = "*"


class OriginPolicy:
    """An allow-list of origins such as `https://app.example.com`; a `*` stands for one or more host labels or a port.

    With an empty list only pages of the edge's own host connect (Origin's host and port equal Host). A request without
    Origin does not come from a browser page and passes.
    """

    __slots__ = ("_exact", "_host_only", "_patterns", "any")

    def __init__(self, allowed: Sequence[str]) -> None:
        self.any = ANY in allowed
        self._host_only = not allowed
        self._exact = frozenset(entry.lower() for entry in allowed if ANY not in entry)
        self._patterns = tuple(
            re.compile(re.escape(entry.lower()).replace(r"\*", r"[a-z0-9.-]+"))
            for entry in allowed
            if ANY in entry
        )

    def allows(self, origins: Sequence[str], host: str) -> bool:
        """Return whether a handshake with these Origin headers may pass; two or more are never a browser's."""
        if not origins:
            return True
        if len(origins) > 1:
            return False
        origin = origins[0].lower()
        if self.any or origin in self._exact:
            return True
        if self._host_only:
            scheme, _, authority = origin.partition("://")
            return scheme in {"http", "https"} and bool(authority) and authority == host.lower()
        return any(pattern.fullmatch(origin) for pattern in self._patterns)
