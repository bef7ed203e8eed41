from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tidewire.kernel.config import decode
from tidewire.platform import rpc_credentials
from tidewire.platform.certificates import CertificateError
from tidewire.platform.rpc_client_options import RpcClientTls
from tidewire.platform.rpc_credentials import Pem, ServerCertificates, read_client, read_server
from tidewire.platform.rpc_options import RpcTls

EDWARDS = Path(__file__).parents[2] / "support/tls"
DAY = 86_400


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs."""
    return Authority(tmp_path / "ca")


def server(authority: Authority) -> RpcTls:
    """Settings with a certificate."""
    cert_file, key_file = authority.issue("server", "a.test")
    return decode(
        RpcTls, {"cert_file": cert_file, "key_file": key_file, "client_ca_file": str(authority.file)}
    )


def test_a_servers_files(authority: Authority) -> None:
    """Their bytes, and when the certificate ends."""
    tls = server(authority)
    now = time.time()
    pem = read_server(tls, now)
    assert pem.chain == Path(tls.cert_file).read_bytes()
    assert pem.key == Path(tls.key_file).read_bytes()
    assert pem.authorities == authority.file.read_bytes()
    assert pem.ends is not None
    assert DAY - 60 < pem.ends - now <= DAY


def test_a_client_may_have_authorities_only(authority: Authority) -> None:
    """And then nothing of its own that ends."""
    tls = decode(RpcClientTls, {"ca_file": str(authority.file)})
    assert read_client(tls, time.time()) == Pem(None, None, authority.file.read_bytes(), None)


def test_keys_of_edwards_curves_are_refused() -> None:
    """BoringSSL has no signatures for them: every handshake would fail, and nothing would say why."""
    tls = decode(
        RpcTls, {"cert_file": str(EDWARDS / "server.pem"), "key_file": str(EDWARDS / "server-key.pem")}
    )
    with pytest.raises(CertificateError) as caught:
        read_server(tls, time.time())
    assert (
        caught.value.why == "has an Edwards curve's key, which gRPC does not speak: use ECDSA (P-256) or RSA"
    )


def test_expired_certificates_are_refused(authority: Authority) -> None:
    """As everywhere."""
    tls = server(authority)
    with pytest.raises(CertificateError, match=r"cert_file .* expired on"):
        read_server(tls, time.time() + 2 * DAY)


def test_authorities_are_judged(authority: Authority) -> None:
    """The error names the setting of its side."""
    for settings, content in ((RpcClientTls, "ca_file"), (RpcTls, "client_ca_file")):
        authority.file.write_text("nothing")
        tls = {**({} if settings is RpcClientTls else _files(authority)), content: str(authority.file)}
        with pytest.raises(CertificateError) as caught:
            (read_client if settings is RpcClientTls else read_server)(decode(settings, tls), time.time())
        assert caught.value.setting == content


def _files(authority: Authority) -> dict[str, str]:
    cert_file, key_file = authority.issue("server", "a.test")
    return {"cert_file": cert_file, "key_file": key_file}


def test_files_that_change_while_they_are_read(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Might be a certificate and another one's key."""
    tls = server(authority)
    judge = rpc_credentials.read_identity

    def slowly(*args: object) -> object:
        judged = judge(*args)  # type: ignore[arg-type]
        authority.issue("server", "a.test")
        return judged

    monkeypatch.setattr(rpc_credentials, "read_identity", slowly)
    with pytest.raises(CertificateError, match="changed while it was read"):
        read_server(tls, time.time())


def test_grpc_is_told_once_of_each_change(authority: Authority) -> None:
    """Nothing at a handshake without one."""
    first = read_server(server(authority), time.time())
    certificates = ServerCertificates(first)
    assert certificates._changed() is None
    certificates.replace(read_server(server(authority), time.time()))
    assert certificates._changed() is not None
    assert certificates._changed() is None
