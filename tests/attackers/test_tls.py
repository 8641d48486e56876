"""Somebody on the camera network who has certificates of their own, or wants to speak another language than TLS 1.3."""

import itertools
import socket
import ssl
import warnings
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest
from attackers.besieged import Box, refused
from attackers.wire import SETTINGS, Wire, frame, message
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from facesvc.client import Client
from facesvc.security.authority import Authority, Issued
from facesvc.security.roles import Role

UNAUTHENTICATED, UNAVAILABLE = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE
OK = b"\x0bgrpc-status\x010"
ADMIN = {NameOID.COMMON_NAME: "gate", NameOID.ORGANIZATIONAL_UNIT_NAME: "admin"}


def test_certificates_that_are_worth_nothing(box: Box) -> None:
    now, own = datetime.now(UTC), box.authority
    stranger = Authority.make(own._certificate.subject.rfc4514_string()[3:], now)
    wrong = {
        "none": None,
        "of another authority, by the same name": stranger.issue_client("gate", Role.ADMIN, now),
        "self-signed": signed_by_itself(now),
        "expired": own.issue_client("gate", Role.ADMIN, now - timedelta(days=2), timedelta(days=1)),
        "not yet": own.issue_client("gate", Role.ADMIN, now + timedelta(days=2)),
    }
    for what, identity in wrong.items():
        error = refused(box.client("admin", identity, address=box.mtls).server_info)
        assert error.code is UNAVAILABLE, what
    good = box.client(identity=own.issue_client("gate", Role.AUDITOR, now), address=box.mtls)
    assert good.server_info().version


def test_a_certificate_that_runs_out_while_it_is_used(box: Box) -> None:
    """Neither a connection that is kept, nor one that takes up the session of before, makes it good for longer."""
    now = datetime.now(UTC)
    identity = box.authority.issue_client("gate", Role.AUDITOR, now, timedelta(seconds=4))
    context = ssl.create_default_context(cafile=box.ca)
    context.set_alpn_protocols(["h2"])
    with TemporaryDirectory() as folder:
        for name, content in (("c.pem", identity.certificate), ("c.key", identity.key)):
            Path(folder, name).write_bytes(content)
        context.load_cert_chain(Path(folder, "c.pem"), Path(folder, "c.key"))
    host, _, port = box.mtls.rpartition(":")

    def connect(session: ssl.SSLSession | None = None) -> Wire:
        plain = socket.create_connection((host, int(port)), timeout=20)
        return Wire(context.wrap_socket(plain, server_hostname="localhost", session=session))

    def answer(wire: Wire, stream: int) -> bytes:
        wire.call("/facesvc.v1.AdminService/GetServerInfo", body=[message(b"")], stream=stream)
        return wire.wait(stream)

    kept = connect()
    assert OK in answer(kept, 1)
    numbers = itertools.count(3, 2)
    while b"certificate is over" not in answer(kept, next(numbers)):
        assert datetime.now(UTC) < now + timedelta(seconds=30)
    taken_up = connect(kept.socket.session)
    assert taken_up.socket.session_reused
    assert b"certificate is over" in answer(taken_up, 1)
    for wire in (kept, taken_up):
        wire.socket.close()


def test_a_certificate_that_names_no_role(box: Box) -> None:
    now, own = datetime.now(UTC), box.authority
    for identity in (
        own.issue_server(["box"], now),
        signed_by_itself(now, own, {NameOID.COMMON_NAME: "gate"}),
        signed_by_itself(now, own, {NameOID.COMMON_NAME: "gate", NameOID.ORGANIZATIONAL_UNIT_NAME: "root"}),
        signed_by_itself(now, own, {NameOID.COMMON_NAME: "boss\nlog", NameOID.ORGANIZATIONAL_UNIT_NAME: "admin"}),
        signed_by_itself(now, own, {NameOID.COMMON_NAME: "oidc:boss", NameOID.ORGANIZATIONAL_UNIT_NAME: "admin"}),
    ):
        error = refused(box.client(identity=identity, address=box.mtls).server_info)
        assert error.code in {UNAUTHENTICATED, UNAVAILABLE}  # for that of a server TLS is already the end


def signed_by_itself(
    now: datetime, by: Authority | None = None, names: Mapping[x509.ObjectIdentifier, str] = ADMIN
) -> Issued:
    """A certificate of an administrator by nobody else, or with other names by an authority that was talked into it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(name, value) for name, value in names.items()])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by._certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .sign(by._key if by else key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(certificate.public_bytes(Encoding.PEM), pem)


def shake(box: Box, port: int, version: ssl.TLSVersion, ciphers: str = "") -> str | None:
    """The version of TLS that a server agrees to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what this is about
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(box.ca)
        context.set_alpn_protocols(["h2"])
        context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        if ciphers:
            context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    with (
        closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return wrapped.version()


def test_downgraded_tls_with_every_cipher(box: Box) -> None:
    every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    ciphers = [one["name"] for one in every.get_ciphers() if one["protocol"] != "TLSv1.3"]
    assert len(ciphers) > 20
    ports = [box.port, int(box.mtls.rpartition(":")[2])]
    assert shake(box, box.port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2):
        for port in ports:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                shake(box, port, version)
    for cipher in ciphers:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shake(box, box.port, ssl.TLSVersion.TLSv1_2, cipher)


def test_plain_text_is_not_heard(box: Box) -> None:
    with Client(box.address) as client:
        assert refused(client.server_info).code is UNAVAILABLE
    for said in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0), b"GET / HTTP/1.1\r\nHost: box\r\n\r\n"):
        with closing(socket.create_connection(("127.0.0.1", box.port), timeout=20)) as plain:
            plain.sendall(said)
            heard = b""
            try:
                while more := plain.recv(4096):
                    heard += more
            except ConnectionError:
                pass
        assert heard[:1] in {b"", b"\x15"}  # an alert of TLS (RFC 8446, 5.1), or nothing
