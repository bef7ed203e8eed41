from __future__ import annotations

import grpc
import pytest

from tidewire.kernel import call_errors, errors
from tidewire.kernel.call_errors import CallError, Reason, reason_of, refusal

REPLIES = [each for each in vars(errors).values() if isinstance(each, errors.ReplyError)]
REASONS = [each for each in vars(call_errors).values() if isinstance(each, Reason)]


def test_statuses_are_grpcs_own() -> None:
    """All of them but success, in their order."""
    assert [status.name for status in grpc.StatusCode][1:] == list(call_errors.STATUSES)


@pytest.mark.parametrize("reply", REPLIES)
def test_every_reply_error_comes_back_as_it_went(reply: errors.ReplyError) -> None:
    """A servicer says what an edge would say, and the edge says it."""
    assert len(REPLIES) == 13
    sent = refusal(reply)
    assert sent.reason.reply == reply
    received = CallError(reason_of(sent.reason.status, sent.reason.name), sent.message)
    assert (received.reason, received.reply) == (sent.reason, reply)


def test_names_are_different() -> None:
    """Each name means one thing, and fits into an ASCII header."""
    names = [refusal(reply).reason.name for reply in REPLIES] + [reason.name for reason in REASONS]
    for name in names:
        assert name.isascii()
        assert name.replace("_", "").isalpha()
    meanings = {refusal(reply).reason for reply in REPLIES} | set(REASONS)
    assert len({reason.name for reason in meanings}) == len(meanings)


@pytest.mark.parametrize("reason", REASONS)
def test_every_other_reason_comes_back_too(reason: Reason) -> None:
    """To clients of an edge most of them are "internal", and temporary."""
    assert reason_of(reason.status, reason.name) is reason


@pytest.mark.parametrize("status", call_errors.STATUSES)
@pytest.mark.parametrize("name", [None, "", "from_the_future", "not_permitted"])
def test_a_status_alone_is_about_the_call(status: str, name: str | None) -> None:
    """What a proxy or a newer server says is not what the client of an edge is told."""
    if (status, name) == ("PERMISSION_DENIED", "not_permitted"):
        return
    reason = reason_of(status, name)
    assert reason.status == status
    assert CallError(reason, "of the mesh").reply == errors.INTERNAL


def test_only_one_reason_is_retried() -> None:
    """Each other UNAVAILABLE would be a second kind of "not now"; that another replica should be asked is no failure."""
    unavailable = {reason for reason in REASONS if reason.status == "UNAVAILABLE"}
    assert unavailable == {call_errors.UNAVAILABLE, call_errors.ELSEWHERE, call_errors.NOT_SYNCED}
    assert not [reply for reply in REPLIES if refusal(reply).reason.status == "UNAVAILABLE"]


def test_a_reply_that_is_not_in_the_table() -> None:
    """Is a mistake of the servicer's, and so an internal error."""
    with pytest.raises(KeyError):
        refusal(errors.ReplyError(999, "of an application's"))
