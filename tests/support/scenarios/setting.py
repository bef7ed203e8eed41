"""Where the scenarios play: the configuration of the edges, and what answers on NATS."""

from __future__ import annotations

from tests.support.edges import OPEN

CONFIG = {
    "client": {
        "allow_anonymous_connect_without_token": True,
        "expired_close_delay": "4s",
        "expired_sub_close_delay": "4s",
    },
    "channel": {
        "namespaces": [
            {"name": "live", **OPEN},
            {"name": "read", "allow_subscribe_for_client": True},
            {"name": "closed"},
            {"name": "prices", **OPEN, "allow_wildcards": True},
            {"name": "tagged", **OPEN, "allow_tags_filter": True},
            {"name": "delta", **OPEN, "allowed_delta_types": ["fossil"], "delta_publish": True},
            {
                "name": "public",
                **OPEN,
                "allow_subscribe_for_anonymous": True,
                "allow_publish_for_anonymous": True,
            },
        ]
    },
    "rpc": {"enabled": True, "methods": [{"name": "sum"}, {"name": "fail"}, {"name": "nobody"}]},
    "send": {"enabled": True},
}
"""Of the edges. A responder on NATS answers `sum` and `fail`, and sends back to `live:sent` what clients send."""

FOR_USERS = {
    "client": {"single_connection": "replace", "subscribe_to_user_personal_channel": {"enabled": True}}
}
"""On top of CONFIG, on the edges of USERS."""
USERS = (2, 3)

SENT = "live:sent"
APPLICATION_ERROR = 450
