from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.jetstream import FakeStreams
from tidewire.kernel.config import Duration
from tidewire.kernel.meta import Meta
from tidewire.kernel.streams import GENERATION, LAYOUT, META_STREAM, captured, stream_name, vacant
from tidewire.options.storage_options import StorageProfile
from tidewire.storage.found import Stream
from tidewire.storage.plan import HEARD, Orders, make_plan
from tidewire.storage.report import lines
from tidewire.storage.steps import Delete, Plan, Purge, Record, Settle, Step
from tidewire.storage.wanted import Wanted

P = 2
PROFILES = {
    "default": StorageProfile(),
    "fast": StorageProfile(name="fast", storage="memory", replicas=3),
    "mixed": StorageProfile(name="mixed", message_ttl=True),
}
NOW = 1_800_000_000_000


def target(namespaces: Mapping[str, str], partitions: int = P, **changes: object) -> Wanted:
    """What a configuration with these namespaces wants; changes are of the profile `default`."""
    profiles = {**PROFILES, "default": msgspec.structs.replace(PROFILES["default"], **changes)}
    return Wanted(partitions, dict(namespaces), profiles)


def given_orders(**changes: object) -> Orders:
    """Orders of a person; the time stands still unless the test says otherwise."""
    return msgspec.structs.replace(Orders(secret="5ec4e7", now=NOW), **changes)


def planned(streams: FakeStreams, wanted: Wanted, **orders: object) -> Plan:
    """The plan for what is there."""
    return make_plan(wanted, streams.found(wanted), given_orders(**orders))


def migrate(streams: FakeStreams, wanted: Wanted, **orders: object) -> Plan:
    """Carry the plan out, which must have nothing against it."""
    plan = planned(streams, wanted, **orders)
    assert plan.refusals == ()
    for step in plan.work:
        streams.carry_out(step)
    return plan


@pytest.fixture
def streams() -> FakeStreams:
    """A cluster where chat is stored, with a message in each partition."""
    found = FakeStreams()
    migrate(found, target({"chat": "default"}))
    assert [found.publish("chat", partition) for partition in range(P)] == [True] * P
    return found


def refused(streams: FakeStreams, wanted: Wanted, **orders: object) -> list[str]:
    """What stands against it, without force."""
    return planned(streams, wanted, **orders).against(force=False)


def test_without_history_there_is_nothing_to_do() -> None:
    """Not even a bucket: most deployments begin so."""
    assert planned(FakeStreams(), target({})) == Plan((), ())


def test_a_first_migration_makes_everything_in_order() -> None:
    """The number of partitions is fixed before there is a stream that depends on it."""
    plan = planned(FakeStreams(), target({"chat": "default", "_": "fast"}))
    assert list(lines(plan.steps)) == [
        "create  KV_TW_META               key-value bucket, file, 3 copies",
        "record  TW_META                  2 partitions, for good",
        "create  TW_default_0 to 1        file, 1 copy: chat",
        "create  TW_fast_0 to 1           memory, 3 copies: _",
        "record  TW_META                  _ in fast, chat in default",
    ]


def test_what_is_as_it_should_be_stays(streams: FakeStreams) -> None:
    """A second time is nothing to do, also with what the server adds and the operator has set."""
    for config in streams.configs.values():
        config["metadata"]["_nats.ver"] = "2.15.1"
        config["compression"] = "s2"
    assert planned(streams, target({"chat": "default"})).work == ()
    migrate(streams, target({"chat": "default"}, max_messages=2000))
    assert streams.configs[stream_name("default", 0)]["compression"] == "s2"


def test_the_record_is_written_last(streams: FakeStreams) -> None:
    """A process that believes it finds what it speaks of."""
    plan = migrate(streams, target({"chat": "default", "live": "default"}))
    assert [step.verb for step in plan.work] == ["update", "update", "record"]
    assert streams.held is not None
    assert streams.held.meta == Meta(
        partitions=P, namespaces={"chat": "default", "live": "default"}, secret="5ec4e7"
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"max_age": Duration(3600)},
            "profile default: max_age 86400s -> 3600s may throw stored publications away",
        ),
        ({"max_messages": 999}, "profile default: max_msgs_per_subject 1000 -> 999 may throw stored"),
        ({"max_bytes": 1000}, "profile default: max_bytes -1 -> 1000 may throw stored publications away"),
    ],
)
def test_smaller_limits_need_a_word(streams: FakeStreams, changes: dict[str, object], line: str) -> None:
    """Where something is stored: one line for all partitions."""
    wanted = target({"chat": "default"}, **changes)
    [refusal] = refused(streams, wanted)
    assert refusal.startswith(line)
    assert planned(streams, wanted).against(force=True) == []
    empty = FakeStreams()
    migrate(empty, target({"chat": "default"}))
    assert refused(empty, wanted) == []


def test_fewer_publications_of_a_channel_are_a_new_generation(streams: FakeStreams) -> None:
    """Were the limit raised again afterwards, a channel that was cut would look as if it were whole."""
    few = list(lines(planned(streams, target({"chat": "default"}, max_messages=500)).work))
    assert few[0].endswith("max_msgs_per_subject 1000 -> 500; begins a new generation")
    for changes in ({"max_messages": 1500}, {"max_age": Duration(3600)}, {"max_bytes": 5}):
        assert not any(
            "generation" in line
            for line in lines(planned(streams, target({"chat": "default"}, **changes)).work)
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"max_age": Duration(90_000)},
        {"max_messages": 1001},
        {"replicas": 3},
        {"duplicate_window": Duration(60)},
    ],
)
def test_what_loses_nothing_is_done(streams: FakeStreams, changes: dict[str, object]) -> None:
    """Larger limits, other copies, another window."""
    migrate(streams, target({"chat": "default"}, **changes))
    assert planned(streams, target({"chat": "default"}, **changes)).work == ()


def test_no_limit_is_the_largest(streams: FakeStreams) -> None:
    """From some bytes to none, and not back."""
    migrate(streams, target({"chat": "default"}), renewed=frozenset())
    for partition in range(P):
        streams.configs[stream_name("default", partition)]["max_bytes"] = 1000
    migrate(streams, target({"chat": "default"}))


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ({}, {"storage": "memory"}, "profile default: storage file -> memory: JetStream cannot change that"),
        (
            {"message_ttl": True},
            {},
            "profile default: allow_msg_ttl True -> False: JetStream cannot change that",
        ),
    ],
)
def test_what_jetstream_cannot_change_is_said_and_not_forced(
    before: dict[str, object], after: dict[str, object], line: str
) -> None:
    """Also where nothing is stored."""
    streams = FakeStreams()
    migrate(streams, target({"chat": "default"}, **before))
    [refusal] = planned(streams, target({"chat": "default"}, **after)).against(force=True)
    assert refusal.startswith(line)


def test_partitions_and_layout_are_for_good(streams: FakeStreams) -> None:
    """Whatever is forced."""
    text = "nats.partitions is 3, and the cluster has 2 for its whole life"
    assert planned(streams, target({"chat": "default"}, partitions=3)).against(force=True) == [text]
    assert streams.held is not None
    other = msgspec.structs.replace(streams.held.meta, layout=LAYOUT + 1)
    streams.held = msgspec.structs.replace(streams.held, meta=other)
    [line] = planned(streams, target({"chat": "default"})).against(force=True)
    assert line.startswith(f"the cluster has layout {LAYOUT + 1}")


def test_a_move_needs_a_word_and_says_what_it_costs(streams: FakeStreams) -> None:
    """A slip in the configuration must not empty a namespace."""
    wanted = target({"chat": "fast"})
    assert refused(streams, wanted) == [
        (
            "namespace chat is in profile default, and storage_profile is fast: --move chat moves it; what is stored of it is "
            f"given up, and for about {HEARD + 15:.0f} s nobody can publish to it"
        )
    ]
    assert refused(streams, wanted, moves=frozenset({"live"})) != []
    assert planned(streams, wanted).against(force=True) == []


def test_a_move_goes_in_the_only_order_that_loses_and_forges_nothing(streams: FakeStreams) -> None:
    """Mark, wait, leave, join, purge, and unmark at the very end."""
    plan = migrate(streams, target({"chat": "fast", "live": "default"}), moves=frozenset({"chat"}))
    assert list(lines(plan.work)) == [
        "update  KV_TW_META               num_replicas 1 -> 3",
        "record  TW_META                  moving: chat",
        f"wait    TW_META                  {HEARD + 15:g} s, until edges have stopped publishing and trying again",
        "update  TW_default_0 to 1        gives up chat",
        "update  TW_default_0 to 1        takes live",
        "purge   KV_TW_META               notes of an earlier life",
        "create  TW_fast_0 to 1           memory, 3 copies: chat",
        "purge   TW_default_0 to 1        what it holds of namespace chat",
        "record  TW_META                  chat in fast, live in default",
    ]
    assert streams.messages[stream_name("default", 0)] == {}
    assert streams.publish("chat", 0)
    assert streams.messages[stream_name("fast", 0)] == {"chat": 1}


def test_a_stream_that_nobody_needs_goes(streams: FakeStreams) -> None:
    """After its last namespace has left, and with what was left there."""
    plan = migrate(streams, target({"chat": "fast"}), moves=frozenset({"chat"}))
    assert [step.stream for step in plan.work if isinstance(step, Delete)] == ["TW_default_0", "TW_default_1"]
    assert set(streams.configs) == {META_STREAM, "TW_fast_0", "TW_fast_1"}


def test_a_stream_without_namespaces_that_holds_something_is_not_deleted_unasked(
    streams: FakeStreams,
) -> None:
    """Whose that is nobody knows any more."""
    for partition in range(P):
        config = streams.configs[stream_name("default", partition)]
        config["subjects"] = [vacant("default", partition)]
    migrate_to = target({"live": "fast"})
    assert streams.held is not None
    streams.held = msgspec.structs.replace(
        streams.held, meta=msgspec.structs.replace(streams.held.meta, namespaces={})
    )
    assert refused(streams, migrate_to) == [
        f"TW_default_{partition} is of no use, and holds 1 messages: --force deletes it"
        for partition in range(P)
    ]


def test_history_is_given_up_only_by_force(streams: FakeStreams) -> None:
    """Where something is stored; else it just ends."""
    assert refused(streams, target({})) == [
        (
            "namespace chat has no history in this configuration, and profile default holds publications of it: --force "
            "gives them up"
        )
    ]
    empty = FakeStreams()
    migrate(empty, target({"chat": "default"}))
    migrate(empty, target({}))
    assert set(empty.configs) == {META_STREAM}
    assert empty.held is not None
    assert empty.held.meta.namespaces == {}


def test_a_namespace_that_comes_back_begins_a_new_generation(streams: FakeStreams) -> None:
    """What was published to it elsewhere meanwhile is not in this stream, and nothing there would show it."""
    both = {"chat": "default", "live": "default"}
    migrate(streams, target(both))
    migrate(streams, target({**both, "chat": "fast"}), moves=frozenset({"chat"}))
    plan = migrate(streams, target(both), moves=frozenset({"chat"}))
    assert "update  TW_default_0 to 1        takes chat; begins a new generation" in list(lines(plan.work))
    metadata = streams.configs["TW_default_0"]["metadata"]
    assert metadata[GENERATION] == str(NOW)
    migrate(streams, target({**both, "chat": "fast"}), moves=frozenset({"chat"}))
    migrate(streams, target(both), moves=frozenset({"chat"}))
    assert streams.configs["TW_default_0"]["metadata"][GENERATION] == str(NOW + 1)
    assert planned(streams, target(both)).work == ()


def test_a_new_generation_is_never_one_that_was(streams: FakeStreams) -> None:
    """A restored stream has the generation of its copy: counting on from there would give the same epoch twice."""
    copy = msgspec.json.decode(msgspec.json.encode(streams.configs))
    migrate(streams, target({"chat": "default"}), renewed=frozenset({"default"}))
    first = streams.configs["TW_default_0"]["metadata"][GENERATION]
    streams.configs = copy
    migrate(streams, target({"chat": "default"}), renewed=frozenset({"default"}), now=NOW + 5)
    assert (first, streams.configs["TW_default_0"]["metadata"][GENERATION]) == (str(NOW), str(NOW + 5))
    migrate(streams, target({"chat": "default"}), renewed=frozenset({"default"}), now=NOW - 1000)
    assert streams.configs["TW_default_0"]["metadata"][GENERATION] == str(NOW + 6)


def test_notes_of_an_earlier_life_go_before_a_stream_is_made_and_after_it_is_renewed(
    streams: FakeStreams,
) -> None:
    """Else the new one looks as if it had gone back, or the old epoch were in force for a moment."""
    renewal = planned(streams, target({"chat": "default"}), renewed=frozenset({"default"}))
    del streams.configs["TW_default_0"]
    creation = planned(streams, target({"chat": "default"}))
    assert [step.verb for step in renewal.work[:2]] == ["update", "purge"]
    assert [step.verb for step in creation.work[:2]] == ["purge", "create"]
    for plan in (renewal, creation):
        [note] = [step for step in plan.work if isinstance(step, Purge) and step.subject.endswith("_0")]
        assert (note.stream, note.subject) == (META_STREAM, "$KV.TW_META.*.TW_default_0")


def test_a_lost_record_is_made_again_from_what_the_streams_show(streams: FakeStreams) -> None:
    """And a move is still one."""
    streams.held = None
    assert refused(streams, target({"chat": "fast"})) != []
    migrate(streams, target({"chat": "default"}), secret="0ther")
    assert streams.held is not None
    assert streams.held.meta.secret == "0ther"


def test_a_setting_of_the_operators_is_mended(streams: FakeStreams) -> None:
    """What proofs rest on must be as it was made."""
    for partition in range(P):
        config = streams.configs[stream_name("default", partition)]
        config |= {"allow_rollup_hdrs": True, "republish": None, "subject_delete_marker_ttl": 60}
    plan = migrate(streams, target({"chat": "default"}))
    [line] = lines(plan.work)
    assert "allow_rollup_hdrs True -> False" in line
    assert "republish" in line
    assert "subject_delete_marker_ttl 60 -> 0" in line


def test_edges_get_the_time_that_is_asked_for(streams: FakeStreams) -> None:
    """Half the old profile's window of ids on top of when they have heard; or what a person says."""
    wanted = target({"chat": "fast"})
    [default] = [step for step in planned(streams, wanted).work if isinstance(step, Settle)]
    [short] = [step for step in planned(streams, wanted, settle=0.5).work if isinstance(step, Settle)]
    assert (default.seconds, short.seconds) == (HEARD + 15, 0.5)


def test_what_is_unknown_cannot_move(streams: FakeStreams) -> None:
    """A slip of the pen is told."""
    assert refused(streams, target({"chat": "default"}), moves=frozenset({"caht"})) == [
        "--move: nothing is known of namespace caht"
    ]


def test_a_stream_reads_its_metadata_as_it_may_be() -> None:
    """Somebody may have written anything there."""
    assert Stream({"metadata": {GENERATION: "x"}}).generation == 0
    assert Stream({"metadata": None}).left == frozenset()
    assert Stream({"subjects": [captured("chat", 0), "other.>"]}).tokens == {"chat"}


NAMES = ("_", "chat", "live", "news")
CONFIGURATIONS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(PROFILES)), max_size=4)


class Lives:
    """Checks after each step that no namespace comes back to an epoch in which it was not for a while."""

    def __init__(self, streams: FakeStreams) -> None:
        self._streams = streams
        self._now: set[tuple[object, ...]] = set()
        self._ended: set[tuple[object, ...]] = set()

    def carry_out(self, step: Step) -> None:
        """Do one step."""
        self._streams.carry_out(step)
        now = {
            (token, name, self._streams.births[name], Stream(config).generation)
            for name, config in self._streams.configs.items()
            for token in Stream(config).tokens
        }
        self._ended |= self._now - now
        self._now = now
        assert not self._ended & now


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(CONFIGURATIONS, st.integers(0, 40), st.booleans(), st.sampled_from(NAMES)),
        min_size=1,
        max_size=6,
    )
)
def test_any_migrations_that_end_anywhere_end_well(
    migrations: list[tuple[dict[str, str], int, bool, str]],
) -> None:
    """Each is cut short after some steps, by a kill or because the configuration changes meanwhile.

    Then everything is in its place and only there, edges were never surprised, and no epoch is in force again for a
    namespace that was elsewhere.
    """
    streams = FakeStreams()
    lives = Lives(streams)
    for number, (namespaces, cut, goes_on, published) in enumerate(migrations):
        for attempt in range(2 if goes_on else 1):
            plan = planned(streams, target(namespaces), now=NOW + number)
            assert plan.against(force=True) == []
            for step in plan.work if attempt else plan.work[:cut]:
                lives.carry_out(step)
        streams.publish(published, 0)
    last = target(migrations[-1][0])
    for step in planned(streams, last, now=NOW + len(migrations)).work:
        lives.carry_out(step)
    assert planned(streams, last).work == ()
    taken = {name: Stream(config).tokens for name, config in streams.configs.items() if name != META_STREAM}
    assert taken == {name: last.tokens(name.split("_")[1]) for name in last.streams}
    assert all(set(streams.messages[name]) <= taken[name] for name in taken)
    if streams.held is not None:
        assert streams.held.meta == Meta(partitions=P, namespaces=last.namespaces, secret="5ec4e7")


def test_records_keep_the_secret(streams: FakeStreams) -> None:
    """Another one would let a publication be stored twice that is repeated across the migration."""
    plan = planned(streams, target({"chat": "fast"}), moves=frozenset({"chat"}), secret="0ther")
    assert {step.meta.secret for step in plan.work if isinstance(step, Record)} == {"5ec4e7"}


def test_where_the_record_is_gone_what_is_stored_begins_a_new_generation(streams: FakeStreams) -> None:
    """With it went which streams had gone back: their old epochs would be good again. Killed anywhere, it is not forgotten."""
    wanted = target({"chat": "default"})
    streams.configs.pop(META_STREAM)
    streams.held = None
    steps = planned(streams, wanted).work
    for step in steps[:2]:
        streams.carry_out(step)
    plan = migrate(streams, wanted)
    assert [line.split("  ")[-1] for line in lines(plan.steps) if "generation" in line] == [
        "begins a new generation"
    ]
    assert {each.generation for each in streams.found(wanted).streams.values()} == {NOW}
    assert not planned(streams, wanted).work
