from __future__ import annotations

import os

from tidewire.platform.board import Board


def test_what_one_process_says_the_others_see() -> None:
    """Each child has its own cells; a start takes readiness back."""
    board = Board(3)
    board.begin(1, 4)
    pid = os.fork()
    if not pid:
        board.ready(1)
        os._exit(board.restarts(1))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert [board.is_ready(child) for child in range(3)] == [False, True, False]
    assert [board.restarts(child) for child in range(3)] == [0, 4, 0]
    board.begin(1, 5)
    assert not board.is_ready(1)
