"""A cluster's streams as plain data, with the rules that JetStream holds migrations to."""

from __future__ import annotations

from tidewire.kernel.meta import Held
from tidewire.kernel.streams import META_STREAM, namespace_of, parts_of
from tidewire.storage.differences import differences
from tidewire.storage.found import Found, Stream
from tidewire.storage.steps import Create, Delete, Keep, Purge, Record, Settle, Step, Update
from tidewire.storage.wanted import StreamConfig, Wanted


class FakeStreams:
    """Carries out steps; raises AssertionError where a real server would refuse one."""

    def __init__(self) -> None:
        self.configs: dict[str, StreamConfig] = {}
        self.messages: dict[str, dict[str, int]] = {}
        """For each stream the number of messages of each namespace."""
        self.held: Held | None = None
        self.created = 0
        self.births: dict[str, int] = {}
        self.settled: set[str] = set()

    def found(self, wanted: Wanted) -> Found:
        """What the reader of a cluster would find."""
        streams = {name: self._stream(name, wanted) for name in self.configs if parts_of(name)}
        return Found(dict(sorted(streams.items())), self.configs.get(META_STREAM), self.held)

    def publish(self, namespace: str, partition: int) -> bool:
        """Whether a stream takes a message."""
        for name, config in self.configs.items():
            parts = parts_of(name)
            if parts and parts[1] == partition and namespace in map(namespace_of, config["subjects"]):
                counts = self.messages[name]
                counts[namespace] = counts.get(namespace, 0) + 1
                return True
        return False

    def carry_out(self, step: Step) -> None:
        """Do one step."""
        match step:
            case Keep():
                raise AssertionError("nothing is to be done")
            case Create(stream=name, config=config):
                assert name not in self.configs or self.configs[name] == config
                self._put(name, config)
                self.created += 1
                self.births[name] = self.created
            case Update(stream=name, config=config):
                assert not any(each.impossible for each in differences(self.configs[name], config))
                self._put(name, config)
            case Purge(stream=name, subject=subject):
                if name != META_STREAM:
                    self.messages[name].pop(namespace_of(subject) or "", None)
            case Delete(stream=name):
                self.configs.pop(name, None)
                self.messages.pop(name, None)
            case Record(meta=meta):
                assert META_STREAM in self.configs
                self.held = Held(meta, (self.held.sequence if self.held else 0) + 1)
            case Settle():
                assert self.held is not None
                self.settled |= set(self.held.meta.moving)

    def _put(self, name: str, config: StreamConfig) -> None:
        assert config["subjects"], name
        for other, existing in self.configs.items():
            if other != name:
                assert not set(existing["subjects"]) & set(config["subjects"]), f"{name} overlaps {other}"
        for lost in set(self.configs.get(name, config)["subjects"]) - set(config["subjects"]):
            token = namespace_of(lost)
            assert token is None or token in self.settled, f"{token} leaves {name} while edges publish"
        self.configs[name] = config
        self.messages.setdefault(name, {})

    def _stream(self, name: str, wanted: Wanted) -> Stream:
        counts = self.messages[name]
        bare = Stream(self.configs[name], sum(counts.values()))
        profile, _ = parts_of(name) or ("", 0)
        foreign = (bare.tokens | bare.left) - wanted.tokens(profile)
        return Stream(bare.config, bare.messages, frozenset(token for token in foreign if counts.get(token)))
