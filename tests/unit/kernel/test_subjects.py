from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.channels import (
    NASTY,
    PARTITIONS_OF_VECTORS,
    Vector,
    channels,
    foreign,
    random_channels,
    refused,
    texts,
    vectors,
)
from tidewire.kernel.channels import is_restricted, split_channel
from tidewire.kernel.subjects import (
    CONTROL_ALL,
    EVERY_NODE,
    PROBE,
    InvalidChannelError,
    channel_of,
    channel_partition,
    control_subject,
    decode_channel,
    encode_channel,
    encode_token,
    in_pattern,
    in_subject,
    in_subject_of_tokens,
    partition_of,
    presence_event_subject,
    rpc_subject,
)

SURROGATE = "\ud800"
OWN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-%")

# The page's tables.


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector.tokens)
def test_each_vector_of_the_page_holds(vector: Vector) -> None:
    """In both directions, and with its partition."""
    assert encode_channel(vector.channel) == vector.tokens
    assert decode_channel(vector.tokens) == vector.channel
    assert partition_of(vector.tokens, PARTITIONS_OF_VECTORS) == vector.partition
    subject = f"tw.in.{vector.partition}.{vector.tokens}".encode()
    assert in_subject(vector.channel, PARTITIONS_OF_VECTORS) == subject


@pytest.mark.parametrize("channel", refused())
def test_each_name_that_the_page_refuses_has_no_subject(channel: str) -> None:
    """An empty name, or a namespace that cannot exist."""
    with pytest.raises(InvalidChannelError):
        encode_channel(channel)


@pytest.mark.parametrize("tokens", foreign())
def test_each_foreign_subject_of_the_page_has_no_channel(tokens: str) -> None:
    """One channel has one subject: what is spelt otherwise is nobody's."""
    with pytest.raises(InvalidChannelError):
        decode_channel(tokens)


# What holds for every name.


@given(channels())
def test_every_channel_comes_back_from_its_subject(channel: str) -> None:
    """The mapping is reversible."""
    assert decode_channel(encode_channel(channel)) == channel


@settings(max_examples=300)
@given(
    texts
    | channels().map(encode_channel)
    | st.lists(st.sampled_from([*NASTY, "%24", "%e9", "chat"])).map("".join)
)
@example("chat.%.room")
@example("chat.%.%.room")
@example("chat.a%41")
@example("chat.%ff")
@example("_.%")
def test_text_is_the_subject_of_one_channel_or_of_none(text: str) -> None:
    """Whatever decoding accepts is what encoding would have written."""
    try:
        channel = decode_channel(text)
    except InvalidChannelError:
        return
    assert encode_channel(channel) == text


@given(texts)
def test_name_has_a_subject_or_is_refused(name: str) -> None:
    """No text makes encoding fail in another way."""
    try:
        tokens = encode_channel(name)
    except InvalidChannelError:
        return
    assert decode_channel(tokens) == name


@given(channels())
def test_no_name_can_inject_anything(channel: str) -> None:
    """No wildcard, space, line end or empty token; a lone `%` only for privacy; never the edges' own `_tw`."""
    namespace, *rest = encode_channel(channel).split(".")
    parts = split_channel(channel)
    assert namespace == ("_" if parts.namespace is None else parts.namespace)
    assert all(token and OWN.issuperset(token) for token in (namespace, *rest))
    assert ("%" in rest) is parts.private
    assert rest.count("%") == int(parts.private)
    assert rest.index("%") == 0 if parts.private else rest


@given(channels(), channels())
def test_different_channels_have_different_subjects(one: str, other: str) -> None:
    """Follows from reversibility; said once more for the pairs that a client could confuse."""
    assert (encode_channel(one) == encode_channel(other)) is (one == other)


@given(channels().filter(lambda channel: not channel.startswith("$") and ":" in channel))
def test_private_channel_never_meets_its_look_alikes(channel: str) -> None:
    """`$ns:x`, `ns:$x`, `ns:%.x` and `ns:x` are four channels."""
    namespace, _, name = channel.partition(":")
    alike = [f"${channel}", f"{namespace}:${name}", f"{namespace}:%.{name}", channel]
    assert len({encode_channel(each) for each in alike}) == 4


@given(channels())
def test_followers_of_a_namespace_see_that_namespace_alone(channel: str) -> None:
    """The first token is the namespace, so `tw.in.*.<namespace>.>` and rights on it cut exactly there."""
    tokens = encode_channel(channel)
    namespace = split_channel(channel).namespace
    assert tokens.startswith(f"{namespace or '_'}.")
    assert len(tokens.split(".")) >= 2


# Who is refused.


@pytest.mark.parametrize(
    "namespace", ["_", "_x", "_tw", "__", "", "a", "a.b", "a*", "a>", "a b", "é1", "a%", "a\n", "ab\n"]
)
@pytest.mark.parametrize("prefix", ["", "$"])
def test_namespace_that_cannot_exist_is_refused(prefix: str, namespace: str) -> None:
    """Those that begin with `_` are reserved: `_` stands for no namespace, `_tw` for the edges' own."""
    with pytest.raises(InvalidChannelError, match="no namespace can have this name"):
        encode_channel(f"{prefix}{namespace}:x")


@pytest.mark.parametrize("channel", ["", "$", "chat:", "$chat:"])
def test_empty_name_is_refused(channel: str) -> None:
    """It would be an empty token."""
    with pytest.raises(InvalidChannelError, match="name is empty"):
        encode_channel(channel)


@pytest.mark.parametrize("channel", [f"chat:{SURROGATE}", SURROGATE, f"$a{SURROGATE}", f"{SURROGATE}:x"])
def test_lone_surrogates_are_refused(channel: str) -> None:
    """JSON can spell them, UTF-8 cannot."""
    with pytest.raises(InvalidChannelError):
        encode_channel(channel)


@pytest.mark.parametrize(
    "tokens",
    [
        "",
        ".",
        "chat",
        "chat.",
        ".x",
        "_tw.chk.00",
        "chat..x",
        "chat.%",
        "chat.%.",
        "chat.x.",
        f"chat.{SURROGATE}",
    ],
)
def test_tokens_that_no_channel_has_are_refused(tokens: str) -> None:
    """The probes' own subjects are among them, so no channel ever meets them."""
    with pytest.raises(InvalidChannelError):
        decode_channel(tokens)
    assert PROBE.startswith("_tw.")


# Partitions and other subjects.


@pytest.mark.parametrize("partitions", [1, 16, 64, 1024])
def test_channels_spread_over_all_partitions(partitions: int) -> None:
    """Evenly: twenty channels for each partition leave none empty and none with four times its share."""
    counts = [0] * partitions
    for number in range(20 * partitions):
        counts[partition_of(encode_channel(f"chat:room-{number}"), partitions)] += 1
    assert min(counts) > 0
    assert max(counts) < 80


def test_tokens_of_a_channel_and_the_channel_have_the_same_subject() -> None:
    """What is found on `tw.pub` goes where an edge would have published it."""
    for channel in random_channels(200, seed=1):
        tokens = encode_channel(channel).encode()
        assert in_subject_of_tokens(tokens, 16) == in_subject(channel, 16)


def test_tokens_that_are_no_text_are_hashed_as_they_are() -> None:
    """nats-server hashes bytes."""
    assert in_subject_of_tokens(b"raw.\xff\xe9", 16) == b"tw.in.1.raw.\xff\xe9"


@pytest.mark.parametrize(
    ("method", "token"),
    [
        ("sum", "sum"),
        ("orders.create", "orders%2Ecreate"),
        ("a b", "a%20b"),
        ("*", "%2A"),
        ("%", "%25"),
        ("é", "%C3%A9"),
    ],
)
def test_method_is_one_token(method: str, token: str) -> None:
    """Dots too are encoded, so a method is heard exactly where it is expected."""
    assert encode_token(method) == token
    assert rpc_subject(method) == f"tw.rpc.{token}".encode()


@pytest.mark.parametrize("method", ["", SURROGATE])
def test_method_that_is_no_token_is_refused(method: str) -> None:
    """Empty, or not valid Unicode."""
    with pytest.raises(InvalidChannelError):
        rpc_subject(method)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_different_methods_have_different_tokens(one: str, other: str) -> None:
    """And a token is never split by what is in it."""
    assert (encode_token(one) == encode_token(other)) is (one == other)
    assert OWN.issuperset(encode_token(one))


# Wildcard subscriptions and control subjects.


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        ("*", "tw.in.*._.*"),
        ("*.a", "tw.in.*._.*.a"),
        ("stocks:*", "tw.in.*.stocks.*"),
        ("stocks:nasdaq.*", "tw.in.*.stocks.nasdaq.*"),
        ("stocks:*.x.*", "tw.in.*.stocks.*.x.*"),
        ("stocks:a*.*", "tw.in.*.stocks.a%2A.*"),
        ("stocks:>.*", "tw.in.*.stocks.%3E.*"),
        ("stocks:%2A.*", "tw.in.*.stocks.%252A.*"),
        ("stocks:a b.*", "tw.in.*.stocks.a%20b.*"),
    ],
)
def test_pattern_is_a_subject_with_stars_where_it_has_lone_ones(pattern: str, subject: str) -> None:
    """And for the partition; every other character is encoded as in a channel."""
    assert in_pattern(pattern) == subject.encode()


def parts(name: str) -> list[str]:
    """The parts of a name: a dot ends one, unless it stands at an end or follows another."""
    return re.split(r"(?<!^)(?<!\.)\.(?!$)", name)


def matches(pattern: str, channel: str) -> bool:
    """Whether a pattern means a channel, by their names alone."""
    wanted, found = split_channel(pattern), split_channel(channel)
    if (wanted.private, wanted.namespace) != (found.private, found.namespace):
        return False
    pairs = list(zip(parts(wanted.name), parts(found.name), strict=False))
    return len(parts(wanted.name)) == len(parts(found.name)) and all(
        part in {"*", other} for part, other in pairs
    )


def hears(subject: bytes, published: bytes) -> bool:
    """Whether NATS delivers what is published to a subscription, by its rules for `*`."""
    wanted, found = subject.split(b"."), published.split(b".")
    return len(wanted) == len(found) and all(
        token in {b"*", part} for token, part in zip(wanted, found, strict=True)
    )


_part = st.sampled_from(["a", "b", "nasdaq", "*", "**", "a*", ">", "%", "%2A", "é", "$a", "#b", " ", "x:y"])
_odd = _part | st.sampled_from(["", ".", "..", "a.", ".a"])


@st.composite
def patterns_and_channels(draw: st.DrawFn) -> tuple[str, str]:
    """A pattern, and a channel that looks like what it means: often it is."""
    prefix = draw(st.sampled_from(["", "$", "ab:", "$ab:"]))
    name = [*draw(st.lists(_part, max_size=2)), "*", *draw(st.lists(_part, max_size=2))]
    other = [draw(_odd) if part == "*" else part for part in name]
    other += draw(st.sampled_from([[], [], [], ["a"], [""]]))
    elsewhere = draw(st.sampled_from([prefix, prefix, prefix, "", "$ab:", "ab:", "cd:"]))
    return prefix + ".".join(name), elsewhere + ".".join(other)


@settings(max_examples=300)
@given(patterns_and_channels())
@example(("chat:*", "$chat:x"))
@example(("chat:*.*", "$chat:x"))
@example(("*", "chat:x"))
@example(("ab:*", "ab:.a"))
def test_pattern_hears_the_channels_that_it_means_and_no_other(pair: tuple[str, str]) -> None:
    """No name can bring a channel under a pattern that does not mean it; a private one only where NATS cannot tell."""
    pattern, channel = pair
    try:
        subject, published = in_pattern(pattern), in_subject(channel, 16)
    except InvalidChannelError:
        return
    if hears(subject, published):
        assert matches(pattern, channel) or is_restricted(channel)
    else:
        assert not matches(pattern, channel)


@given(channels(), st.sampled_from([1, 16, 1024]))
def test_channel_comes_back_from_the_subject_of_its_partition_and_of_no_other(
    channel: str, partitions: int
) -> None:
    """A partition that is not the channel's was written by no edge and by no mapping."""
    subject = in_subject(channel, partitions)
    assert channel_of(subject, partitions) == channel
    head, inbound, partition, tokens = subject.split(b".", 3)
    for forged in (
        b"%d" % (int(partition) + 1),
        b"-1",
        b"",
        b"x",
        b"0" + partition,
        partition + b" ",
        b"%b.0" % partition,
    ):
        assert channel_of(b".".join((head, inbound, forged, tokens)), partitions) is None


@pytest.mark.parametrize(
    "subject",
    [b"", b"tw", b"tw.in", b"tw.in.0", b"tw.in.0.", b"tw.in.0.chat", b"tw.in.0.chat.", b"tw.in.0.chat.\xff"],
)
def test_subject_that_no_channel_has_is_nobodys(subject: bytes) -> None:
    """Cut short, or not even text."""
    assert channel_of(subject, 1) is None


@pytest.mark.parametrize(
    ("tokens", "spelt"), [("chat.a", "chat.%61"), ("chat.%2A", "chat.*"), ("_.a", "_._.a")]
)
def test_channel_has_one_spelling(tokens: str, spelt: str) -> None:
    """Another one, in the partition that it would have, is forged."""
    assert channel_of(b"tw.in.0." + tokens.encode(), 1) is not None
    found = channel_of(b"tw.in.0." + spelt.encode(), 1)
    assert found is None or encode_channel(found) == spelt


@given(st.binary(max_size=60))
def test_any_subject_is_a_channels_or_nobodys(tokens: bytes) -> None:
    """Nothing is raised, whatever a native client publishes."""
    found = channel_of(b"tw.in.0." + tokens, 1)
    assert found is None or encode_channel(found).encode() == tokens


@pytest.mark.parametrize(
    ("node", "subject"),
    [("edge-1", b"tw.ctl.edge-1"), ("a.b", b"tw.ctl.a%2Eb"), ("*", b"tw.ctl.%2A"), (">", b"tw.ctl.%3E")],
)
def test_node_is_one_token(node: str, subject: bytes) -> None:
    """No name hears another's orders."""
    assert control_subject(node) == subject


def test_every_node_has_a_subject_that_no_node_may_have() -> None:
    """The configuration refuses the name."""
    assert control_subject(EVERY_NODE) == CONTROL_ALL
    with pytest.raises(InvalidChannelError):
        control_subject("")


@pytest.mark.parametrize("channel", ["a", "chat:room.1", "$chat:a b"])
def test_joins_and_leaves_are_told_on_the_channels_partition(channel: str) -> None:
    """That of its publications."""
    partition = channel_partition(channel, 16)
    subject = presence_event_subject(channel, 16)
    assert subject == f"tw.pres.j.{partition}.{encode_channel(channel)}".encode()
    assert in_subject(channel, 16).split(b".")[2] == b"%d" % partition
