"""How fast one connection may send commands: what is over its rate is refused, and who goes on all the same is closed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from tidewire.edge.client_options import TOKEN_COST
from tidewire.edge.presence_ports import USER_STATUS
from tidewire.edge.wire.commands import Command

if TYPE_CHECKING:
    from tidewire.kernel.token_bucket import Allowance

PONG = Command()


def has_token(command: Command) -> bool:
    """Return whether a signature has to be checked for a command."""
    for request in (command.connect, command.subscribe, command.refresh, command.sub_refresh):
        if request is not None:
            return bool(request.token)
    return False


def reads_history(command: Command) -> bool:
    """Return whether publications are to be read for a command; for a position alone memory is enough."""
    if command.subscribe is not None:
        return command.subscribe.recover
    return command.history is not None and command.history.limit != 0


def asks_who_is_there(command: Command) -> bool:
    """Return whether the presence service has to list, or to count, who is there: work for each of them."""
    asked = command.presence is not None or command.presence_stats is not None
    return asked or (command.rpc is not None and command.rpc.method == USER_STATUS)


def cost(command: Command) -> int:
    """Return what a command counts: nothing for a pong, TOKEN_COST for one with a token, or with much to read."""
    if has_token(command) or reads_history(command) or asks_who_is_there(command):
        return TOKEN_COST
    return 0 if not command.id and command == PONG else 1


class Sifted(msgspec.Struct, frozen=True, gc=False):
    """The commands of a frame: which are carried out, which are refused, and after how many seconds these would not be.

    `abuse`: so much was refused before that none is carried out and the connection is closed.
    """

    admitted: Sequence[Command]
    refused: Sequence[Command] = ()
    wait: float = 0.0
    abuse: bool = False


class Throttle(msgspec.Struct, gc=False):
    """The buckets of one connection, as the times at which they are full again (`Allowance`).

    Refused commands have one of their own, of the same size: they are answered as fast again as the others, and who sends
    still more does not look at the answers. `refused` counts them for the log.
    """

    full_at: float = 0.0
    patient_at: float = 0.0
    refused: int = 0

    def admits(self, total: int, allowance: Allowance, now: float) -> bool:
        """Take commands that cost so much together, all or none."""
        self.full_at, wait = allowance.take(self.full_at, now, total)
        return not wait

    def sift(self, commands: Sequence[Command], allowance: Allowance, now: float) -> Sifted:
        """Take the commands of one frame, in order. One that is refused costs no other its place."""
        if self.admits(sum(map(cost, commands)), allowance, now):
            return Sifted(commands)
        admitted: list[Command] = []
        refused: list[Command] = []
        for command in commands:
            self.full_at, wait = allowance.take(self.full_at, now, cost(command))
            (refused if wait else admitted).append(command)
        self.refused += len(refused)
        self.patient_at, abuse = allowance.take(self.patient_at, now, len(refused))
        _, wait = allowance.take(self.full_at, now, sum(map(cost, refused)))
        return Sifted(admitted, refused, wait, abuse > 0)
