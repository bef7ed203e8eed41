"""Settings of Centrifugo (v6) that have another name here or none, per section: what the error about them adds.

Where a text says "here it is ...", what follows is a setting; the tests hold it to that.
"""

from __future__ import annotations

from typing import Final

_NATS_ONLY: Final = "there is no HTTP or gRPC API: backends publish and give orders over NATS"
_NO_PROXY: Final = "no proxies yet: tokens say who may do what, and rpc is answered over NATS"
_PRESENCE: Final = "the presence service keeps who is there, and edges lease it: here it is presence.target"
_META_TTL: Final = "positions are those of the streams and do not expire: see storage.profiles"
_WEBSOCKET_ONLY: Final = "WebSocket is the only transport"

TOP: Final = {
    "http_server": "here it is http, with http.tls in it",
    "engine": "edges share NATS: here it is nats.urls",
    "broker": "edges share NATS: here it is nats.urls",
    "node": "here it is node_name",
    "shutdown": "here it is drain",
    "opentelemetry": "here it is tracing.endpoint",
    "prometheus": "/metrics is always there: here it is http.internal_port",
    "health": "/live and /ready are always there: here it is http.internal_port",
    "presence_manager": _PRESENCE,
    "proxies": _NO_PROXY,
    "admin": "there is no admin page: see the metrics and logs",
    "pid_file": "there is none: let the service manager follow the process",
    **dict.fromkeys(["http_api", "grpc_api", "swagger", "consumers", "api_key"], _NATS_ONLY),
    **dict.fromkeys(["sse", "http_stream", "emulation", "webtransport"], _WEBSOCKET_ONLY),
    **dict.fromkeys(["uni_websocket", "uni_sse", "uni_http_stream", "uni_grpc"], _WEBSOCKET_ONLY),
    # Flat, as before v6.
    "address": "here it is http.address",
    "port": "here it is http.port",
    "allowed_origins": "here it is client.allowed_origins",
    "token_hmac_secret_key": "here it is client.token.hmac_secret_key",
    "token_rsa_public_key": "here it is client.token.public_keys",
    "token_ecdsa_public_key": "here it is client.token.public_keys",
    "token_jwks_public_endpoint": "here it is client.token.jwks",
    "namespaces": "here it is channel.namespaces",
}
TLS: Final = {
    "enabled": "it is where there is a certificate: here it is http.tls.cert_file",
    "cert_pem": "here it is http.tls.cert_file",
    "key_pem": "here it is http.tls.key_file",
    "client_ca_pem": "here it is http.tls.client_ca_file",
    "server_ca_pem": "put the authorities behind the certificate: here it is http.tls.cert_file",
}
CLIENT: Final = {
    "proxy": _NO_PROXY,
    "insecure": "here it is client.allow_anonymous_connect_without_token",
    "insecure_skip_token_signature_verify": "signatures are always checked",
    "disallow_anonymous_connection_tokens": "sign no token without a sub",
    "rate_limit": "here it is client.command_rate_limit, for all commands of a connection together",
    "user_id_http_header": "show a token in the header Authorization, or in a cookie: here it is client.token.cookie",
    "presence_update_interval": _PRESENCE,
    "history_max_publication_limit": "here it is channel.namespaces[].history_max_publication_limit",
    "recovery_max_publication_limit": "here it is channel.namespaces[].recovery_max_publication_limit",
    "allowed_delta_types": "here it is channel.namespaces[].allowed_delta_types",
}
PERSONAL_CHANNEL: Final = {
    "personal_channel_namespace": "here it is client.subscribe_to_user_personal_channel.namespace",
    "single_connection": "here it is client.single_connection",
}
TOKEN: Final = {
    "rsa_public_key": "here it is client.token.public_keys, a list of groups with key or key_file",
    "ecdsa_public_key": "here it is client.token.public_keys, a list of groups with key or key_file",
    "jwks_public_endpoint": "here it is client.token.jwks, a list of groups with url",
    "audience_regex": "here it is client.token.audience, one exact text",
    "issuer_regex": "here it is client.token.issuer, one exact text",
    "user_id_claim": "the user id is always the claim sub",
}
SUBSCRIPTION_TOKEN: Final = {
    **{name: hint.replace(".token.", ".subscription_token.") for name, hint in TOKEN.items()},
    "enabled": "any key in this section puts it in force",
}
WEBSOCKET: Final = {
    "disabled": _WEBSOCKET_ONLY,
    "handler_prefix": "it is always /connection/websocket",
    "write_timeout": "a client that reads too slowly is closed: here it is client.queue_max_size",
    "compression_level": "the level is always 1",
}
CHANNEL: Final = {
    "private_prefix": "it is always $",
    "namespace_boundary": "it is always :",
    "user_boundary": "it is always #",
    "user_separator": "it is always a comma",
    "history_meta_ttl": _META_TTL,
    "proxy": _NO_PROXY,
}
CHANNEL_OPTIONS: Final = {
    "batch_flush_latest": "here it is channel.namespaces[].conflate, for publications with a key",
    "history_meta_ttl": _META_TTL,
    **{
        f"{event}_proxy_{what}": _NO_PROXY
        for event in ("subscribe", "publish", "sub_refresh", "subscribe_stream")
        for what in ("enabled", "name")
    },
}
RPC: Final = {
    "proxy": _NO_PROXY,
    "without_namespace": "here it is rpc.methods",
    "namespaces": "here it is rpc.methods",
    "ping": "here it is rpc.methods, with a NATS responder for the method",
}
