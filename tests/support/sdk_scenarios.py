"""What every SDK, version and format must be able to do with the edge: the rows of the matrix, each a function of one player.

docs/protocol.md tells what each row shows.
"""

from __future__ import annotations

from tests.support.scenarios import calls, connections, server_side, subscriptions
from tests.support.sdk_matrix import Scenario

SCENARIOS = [
    Scenario(connections.token_callback),
    Scenario(connections.anonymous),
    Scenario(connections.invalid_token),
    Scenario(connections.expired_token),
    Scenario(connections.token_refresh),
    Scenario(connections.token_lapse),
    Scenario(connections.connect_again),
    Scenario(subscriptions.publication),
    Scenario(subscriptions.unsubscribe_and_resubscribe),
    Scenario(subscriptions.subscription_token),
    Scenario(subscriptions.expired_subscription_token),
    Scenario(subscriptions.foreign_subscription_token),
    Scenario(subscriptions.refused_subscriptions),
    Scenario(subscriptions.subscription_refresh),
    Scenario(subscriptions.subscription_lapse),
    Scenario(subscriptions.subscription_token_refused),
    Scenario(subscriptions.tags_filter, frozenset({"js-5.0"})),
    Scenario(subscriptions.deltas, frozenset({"js-5.0"})),
    Scenario(subscriptions.wildcard),
    Scenario(server_side.server_side_subscriptions),
    Scenario(server_side.personal_channel),
    Scenario(server_side.subscribe_order, frozenset({"python-0.5"})),
    Scenario(server_side.unsubscribe_order),
    Scenario(server_side.disconnect_order),
    Scenario(server_side.single_connection),
    Scenario(calls.refused_publications),
    Scenario(calls.capability),
    Scenario(calls.presence_and_history_off),
    Scenario(calls.rpc),
    Scenario(calls.send, frozenset({"python"})),
]
