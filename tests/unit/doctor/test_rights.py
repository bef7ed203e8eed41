from __future__ import annotations

from tidewire.doctor.rights import FORGE, Right, needed
from tidewire.kernel.nats_config import edge_user
from tidewire.kernel.subjects import channel_of


def within(subject: str, pattern: str) -> bool:
    """Whether a NATS pattern holds a subject."""
    tokens, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        tokens, wanted = tokens[: len(wanted) - 1], [*wanted[:-1]]
        return len(subject.split(".")) > len(wanted) and within(".".join(tokens), ".".join(wanted))
    return len(tokens) == len(wanted) and all(
        want in ("*", token) for token, want in zip(tokens, wanted, strict=True)
    )


def test_every_line_of_the_edges_user_is_tried_within_itself() -> None:
    """In its order, which begins with what no backend hears, and with the queue group that the line names."""
    user = edge_user("edge")
    rights = list(needed("edge"))
    assert [right.subject for right in rights] == [subject for subject, _ in user.publish + user.subscribe]
    assert [right.verb for right in rights] == ["publish"] * len(user.publish) + ["subscribe"] * len(
        user.subscribe
    )
    for right in (*rights, FORGE):
        subject, queue = right.trial("0123abcd")
        pattern, _, group = right.subject.partition(" ")
        assert within(subject, pattern), right
        assert queue == group
        assert "*" not in subject
        assert ">" not in subject
    assert not rights[0].is_heard


def test_trials_are_no_channel_and_no_method_of_anybody() -> None:
    """No edge delivers them, and no application can have such a method."""
    trials = {right.subject: right.trial("0123abcd")[0] for right in needed("edge")}
    assert trials["tw.in.>"] == "tw.in.0._tw.chk.0123abcd"
    assert channel_of(trials["tw.in.>"].encode(), 1) is None
    assert trials["tw.rpc.*"] == "tw.rpc.tw%2E0123abcd"
    assert trials["tw.pub.> tw-map"].startswith("tw.pub._tw.")


def test_backends_hear_calls_hooks_and_events_only() -> None:
    """Those are published to be traced, not delivered."""
    heard = [right.subject for right in needed("edge") if right.is_heard]
    assert heard == ["tw.rpc.*", "tw.hook.*", "tw.ev.>"]
    assert not Right("subscribe", "tw.ev.>", "").is_heard
