"""Who may call which application method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.config import RpcConfig
    from tidewire.kernel.errors import ReplyError

RESERVED_PREFIX = "tw."
EVERY_OTHER = "*"
MAX_METHOD_BYTES = 255


class RpcPolicy:
    """Permissions per method; `*` stands for every method that has no entry of its own."""

    __slots__ = ("_enabled", "_methods")

    def __init__(self, config: RpcConfig) -> None:
        self._enabled = config.enabled
        self._methods = {method.name: method for method in config.methods}

    def may_call(self, method: str, user: str) -> ReplyError | None:
        """Judge a call of an application's method; None is yes. `tw.` is reserved for those of the edge itself."""
        if method.startswith(RESERVED_PREFIX):
            return errors.METHOD_NOT_FOUND
        if not self._enabled:
            return errors.NOT_AVAILABLE
        try:
            length = len(method.encode())
        except UnicodeEncodeError:
            return errors.BAD_REQUEST.saying("bad request: the method's name is not valid Unicode")
        if not 0 < length <= MAX_METHOD_BYTES:
            return errors.BAD_REQUEST.saying(
                f"bad request: a method's name has 1 to {MAX_METHOD_BYTES} bytes"
            )
        rule = self._methods.get(method) or self._methods.get(EVERY_OTHER)
        if rule is None or not (rule.allow_for_client if user else rule.allow_for_anonymous):
            return errors.PERMISSION_DENIED
        return None
