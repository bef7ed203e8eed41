"""The upgrade by websockets' own `ServerProtocol`: what ours is compared with, in its verdicts and its cost."""

from __future__ import annotations

from collections.abc import Callable

from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tidewire.edge.handshake import Accept, HeaderFields, Refuse
from tidewire.edge.upgrade import Answer

EXTENSIONS = (
    ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True),
)


def bare_upgrade(head: bytes) -> bytes:
    """Answer a request with nothing of ours in between."""
    protocol = ServerProtocol()
    protocol.receive_data(head)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    return b"".join(protocol.data_to_send())


def reference_answer(
    head: bytes, judge: Callable[[str, HeaderFields], Accept | Refuse], *, compress: bool
) -> Answer:
    """Return what `upgrade.answer_to` does, with websockets' sentences; "" for what its core does not answer itself."""
    protocol = ServerProtocol(extensions=EXTENSIONS if compress else None)
    protocol.receive_data(head)
    request = next((event for event in protocol.events_received() if isinstance(event, Request)), None)
    if request is None:
        return Answer(b"", "bad_request")
    verdict = judge(request.path, request.headers)
    if isinstance(verdict, Refuse):
        return Answer(b"", verdict.outcome)
    if "Sec-WebSocket-Protocol" in request.headers:
        del request.headers["Sec-WebSocket-Protocol"]
    response = protocol.accept(request)
    accepted = response.status_code == 101
    if accepted and verdict.subprotocol is not None:
        response.headers["Sec-WebSocket-Protocol"] = verdict.subprotocol
    protocol.send_response(response)
    return Answer(
        b"".join(protocol.data_to_send()),
        "accepted" if accepted else "bad_upgrade",
        accept=verdict if accepted else None,
        window_bits=_window(protocol) if accepted else 0,
    )


def _window(protocol: ServerProtocol) -> int:
    agreed = [each for each in protocol.extensions if isinstance(each, PerMessageDeflate)]
    return agreed[0].local_max_window_bits if agreed else 0
