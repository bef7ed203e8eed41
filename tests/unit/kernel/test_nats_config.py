"""The configuration text; that a real nats-server obeys it is shown in tests/integration/test_nats_config.py."""

from __future__ import annotations

from tidewire.kernel.nats_config import (
    NatsServerConfig,
    NatsUser,
    backend_user,
    edge_user,
    history_user,
    migrate_user,
    presence_user,
    render,
)


def server(*users: NatsUser) -> NatsServerConfig:
    """A server of 16 partitions with the given users."""
    return NatsServerConfig(
        host="127.0.0.1", port=4222, store_dir="/var/lib/nats", partitions=16, users=users
    )


def subjects(rights: tuple[tuple[str, str], ...]) -> list[str]:
    """The subjects of a list of rights, without their comments."""
    return [subject for subject, _ in rights]


def test_mapping_names_the_partitions() -> None:
    """The server hashes the whole subject of `tw.pub.>` onto as many partitions as the deployment has."""
    assert 'mappings { "tw.pub.>": "tw.in.{{partition(16)}}.>" }' in render(server())


def test_without_users_there_is_no_account() -> None:
    """A development server has no accounts: who reaches it may do everything."""
    text = render(server())
    assert "accounts" not in text
    assert "password" not in text


def test_passwords_are_variables() -> None:
    """No password is in the text, each is a variable of its own."""
    text = render(server(edge_user("edge"), backend_user("chat-bot", ("chat",))))
    assert "password: $NATS_PASSWORD_EDGE\n" in text
    assert "password: $NATS_PASSWORD_CHAT_BOT\n" in text


def test_every_user_is_denied_what_jetstream_republishes() -> None:
    """A forged message on tw.out would look as if it had been stored."""
    users = (edge_user("edge"), backend_user("a", ("chat",)), backend_user("b", ("live",)), migrate_user("m"))
    assert render(server(*users)).count('deny: ["tw.out.>"]') == 4
    assert 'deny: ["tw.out.>", "$JS.API.STREAM.PURGE.KV_TW_META"]' in render(server(history_user("history")))


def test_the_presence_service_is_no_edge() -> None:
    """It asks, tells what it alone knows, and publishes for nobody."""
    user = presence_user("presence")
    assert subjects(user.publish) == ["tw.pres.s.>", "tw.pres.j.>", "tw.pres.r.>", "tw.pres.o.>"]
    assert subjects(user.subscribe) == ["tw.pres.>", "_INBOX_presence.>"]


def test_backend_has_rights_on_its_namespaces_only() -> None:
    """Both names of a namespace's subjects are needed, and nothing else is given."""
    user = backend_user("app", ("chat", "_"))
    assert subjects(user.publish) == ["tw.in.*.chat.>", "tw.in.*._.>", "tw.pub.chat.>", "tw.pub._.>"]
    assert subjects(user.subscribe) == ["tw.in.*.chat.>", "tw.in.*._.>", "_INBOX_app.>"]


def test_responder_answers_to_the_edges_inbox_only() -> None:
    """RPC is answered by a right on the edges' inbox; `allow_responses` would open every subject."""
    user = backend_user("app", ("chat",), rpc_of="edges", events=True)
    assert "_INBOX_edges.>" in subjects(user.publish)
    assert {"tw.rpc.>", "tw.ev.>"} <= set(subjects(user.subscribe))
    assert "allow_responses" not in render(server(user))


def test_edge_reads_unmapped_publications_in_the_queue_group_only() -> None:
    """The rescue of publications from unmapped servers must happen once, so the right is tied to the group."""
    assert "tw.pub.> tw-map" in subjects(edge_user("edge").subscribe)
    assert "tw.pub.>" not in subjects(edge_user("edge").publish)


def test_only_migrations_make_streams() -> None:
    """And whoever runs all the time has as few words of JetStream's API as it needs."""
    users = (edge_user("e"), history_user("h"), migrate_user("m"), backend_user("b", ("chat",), orders=True))
    words = {
        user.name: [
            subject.removeprefix("$JS.API.")
            for subject in subjects(user.publish)
            if subject.startswith("$JS")
        ]
        for user in users
    }
    assert words == {
        "e": ["DIRECT.GET.KV_TW_META.$KV.TW_META.layout", "DIRECT.GET.*.tw.in.>"],
        "h": ["DIRECT.GET.>", "STREAM.MSG.GET.*", "STREAM.INFO.*", "STREAM.PURGE.*"],
        "m": [
            "STREAM.NAMES",
            "STREAM.INFO.*",
            "STREAM.CREATE.*",
            "STREAM.UPDATE.*",
            "STREAM.DELETE.*",
            "STREAM.PURGE.*",
            "STREAM.MSG.GET.*",
        ],
        "b": [],
    }


def test_text_is_quoted() -> None:
    """A path with quotes and backslashes stays one string."""
    config = NatsServerConfig(host="::1", port=1, store_dir='a"b\\c', partitions=1)
    assert 'store_dir: "a\\"b\\\\c"' in render(config)


def test_ipv6_address_is_in_brackets() -> None:
    """An IPv6 host is told from its port."""
    config = NatsServerConfig(host="::1", port=4222, store_dir="x", partitions=1)
    assert 'listen: "[::1]:4222"' in render(config)
