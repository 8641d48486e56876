"""The box's own certificates, looked at by others: OpenSSL by ``ssl``, and the verifier of ``cryptography``."""

import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.verification import ClientVerifier, PolicyBuilder, ServerVerifier, Store, VerificationError

from facesvc.errors import ConfigError, DependencyError, InputError
from facesvc.security.authority import (
    LEAF_DAYS,
    Authority,
    Identity,
    Issued,
    expiry_of,
    identity_of,
    names_of,
    write,
)
from facesvc.security.roles import Role

NOW = datetime.now(UTC).replace(microsecond=0)
LEAF = timedelta(days=LEAF_DAYS)
NAMES = ["box.office", "127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make("facesvc on box", NOW)


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue_server(NAMES, NOW)


def builder(authority: Authority, at: datetime = NOW) -> PolicyBuilder:
    store = Store([x509.load_pem_x509_certificate(authority.pem)])
    return PolicyBuilder().store(store).time(at)


def server_verifier(authority: Authority, name: str, at: datetime = NOW) -> ServerVerifier:
    try:
        subject: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    return builder(authority, at).build_server_verifier(subject)  # type: ignore[arg-type]  # one of its two


def client_verifier(authority: Authority) -> ClientVerifier:
    return builder(authority).build_client_verifier()


def leaf(certificate: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate)


def put(folder: Path, issued: Issued, name: str = "server") -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    write(certificate, issued.certificate, secret=False)
    write(key, issued.key, secret=True)
    return certificate, key


@pytest.mark.parametrize("name", NAMES)
def test_the_chain_of_a_server_holds_for_each_of_its_names(authority: Authority, issued: Issued, name: str) -> None:
    chain = server_verifier(authority, name).verify(leaf(issued.certificate), [])
    assert chain[-1] == leaf(authority.pem)


def test_it_holds_for_no_other_name_authority_or_time(authority: Authority, issued: Issued) -> None:
    other = Authority.make("facesvc on box", NOW)
    over = NOW + timedelta(days=LEAF_DAYS, seconds=1)
    early = NOW - timedelta(minutes=6)
    for verifier in (
        server_verifier(authority, "other.office"),
        server_verifier(authority, "127.0.0.2"),
        server_verifier(other, "box.office"),
        server_verifier(authority, "box.office", over),
        server_verifier(authority, "box.office", early),
    ):
        with pytest.raises(VerificationError):
            verifier.verify(leaf(issued.certificate), [])


def test_a_clock_that_is_a_little_behind_is_no_obstacle(authority: Authority, issued: Issued) -> None:
    server_verifier(authority, "box.office", NOW - timedelta(minutes=4)).verify(leaf(issued.certificate), [])


def test_a_client_is_no_server_and_a_server_no_client(authority: Authority, issued: Issued) -> None:
    client = authority.issue_client("gate", Role.CAMERA, NOW)
    with pytest.raises(VerificationError):
        server_verifier(authority, "gate").verify(leaf(client.certificate), [])
    with pytest.raises(VerificationError):
        client_verifier(authority).verify(leaf(issued.certificate), [])
    with pytest.raises(InputError, match="certs issue"):
        identity_of(issued.certificate, NOW)


def test_nobody_signs_with_what_was_issued(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    false = Authority.read(*put(tmp_path, issued)).issue_server(["box.office"], NOW)
    with pytest.raises(VerificationError):
        server_verifier(authority, "box.office").verify(leaf(false.certificate), [leaf(issued.certificate)])


def test_openssl_shakes_hands_over_them_on_tls_1_3(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*put(tmp_path, issued))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cadata=authority.pem.decode())
    client = ssl.create_default_context(cadata=authority.pem.decode())
    client.load_cert_chain(*put(tmp_path, authority.issue_client("gate", Role.DOOR, NOW), "gate"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="box.office"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert [end.version() for end in ends] == ["TLSv1.3"] * 2
    der = ends[1].getpeercert(binary_form=True)
    assert der is not None
    assert identity_of(ssl.DER_cert_to_PEM_cert(der).encode(), NOW) == Identity("gate", Role.DOOR, NOW + LEAF)


@pytest.mark.parametrize("role", list(Role))
def test_a_client_is_who_its_certificate_says(authority: Authority, role: Role) -> None:
    client = authority.issue_client("Büro 1, OU=admin", role, NOW)
    leaf(client.certificate).verify_directly_issued_by(leaf(authority.pem))
    assert identity_of(client.certificate, NOW) == Identity("Büro 1, OU=admin", role, NOW + LEAF)


def test_names_and_expiry_are_read_back(authority: Authority, tmp_path: Path) -> None:
    certificate, _ = put(tmp_path, authority.issue_server(NAMES, NOW, timedelta(days=3)))
    assert names_of(certificate) == NAMES
    assert expiry_of(certificate) == NOW + timedelta(days=3)


def test_an_authority_is_the_same_when_it_is_read_again(authority: Authority, tmp_path: Path) -> None:
    files = put(tmp_path, Issued(authority.pem, authority.key_pem), "ca")
    again = Authority.read(*files)
    assert again.pem == authority.pem
    issued = again.issue_server(["box.office"], NOW)
    server_verifier(authority, "box.office").verify(leaf(issued.certificate), [])


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines", "\0"])
def test_a_client_has_a_name_that_can_be_printed(authority: Authority, name: str) -> None:
    with pytest.raises(InputError, match="cannot stand in a certificate"):
        authority.issue_client(name, Role.CAMERA, NOW)


def test_a_server_has_names(authority: Authority) -> None:
    with pytest.raises(InputError, match="has to have a name"):
        authority.issue_server([], NOW)
    with pytest.raises(InputError, match="neither a host name in ASCII nor an address"):
        authority.issue_server(["büro.example"], NOW)
    long = f"{'a' * 60}.{'b' * 60}.example"
    server_verifier(authority, long).verify(leaf(authority.issue_server([long], NOW).certificate), [])


def test_a_wrong_file_is_named_in_words(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    certificate, key = put(tmp_path, Issued(authority.pem, authority.key_pem), "ca")
    nonsense, missing, other = tmp_path / "nonsense", tmp_path / "missing", tmp_path / "rsa.key"
    nonsense.write_bytes(b"\xff nothing")
    rsa_key = rsa.generate_private_key(65537, 1024)
    other.write_bytes(rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for files, words in (
        ((missing, key), "missing cannot be read: No such file"),
        ((certificate, missing), "missing cannot be read: No such file"),
        ((nonsense, key), "nonsense or .* is no PEM"),
        ((certificate, nonsense), "nonsense is no PEM"),
        ((certificate, other), "rsa.key is no key of ours"),
        ((certificate, put(tmp_path, issued)[1]), "is not the key of"),
    ):
        with pytest.raises(ConfigError, match=words):
            Authority.read(*files)
    for read in (names_of, expiry_of):
        for file in (missing, nonsense):
            with pytest.raises(ConfigError, match=f"{file} cannot be read"):
                read(file)
    with pytest.raises(ConfigError, match="names nobody"):
        names_of(certificate)
    with pytest.raises(InputError, match="certs issue"):
        identity_of(b"nonsense", NOW)


def test_a_key_is_for_its_owners_eyes_also_in_the_place_of_an_open_file(tmp_path: Path) -> None:
    for secret, mode in ((True, 0o600), (False, 0o644)):
        file, draft = tmp_path / "file", tmp_path / ".file.new"
        for before in (file, draft):
            before.write_bytes(b"before, and longer")
            before.chmod(0o666)
        write(file, b"after", secret=secret)
        assert file.read_bytes() == b"after"
        assert file.stat().st_mode & 0o777 == mode
        assert not draft.exists()


def test_where_nothing_can_be_written_the_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=r"nowhere/server\.key cannot be written: No such file"):
        write(tmp_path / "nowhere" / "server.key", b"", secret=True)


def test_whoever_reads_during_a_renewal_finds_a_whole_file(tmp_path: Path) -> None:
    file, contents = tmp_path / "file", {bytes([n]) * 50_000 for n in range(20)}
    write(file, min(contents), secret=False)

    def renew() -> None:
        for content in contents:
            write(file, content, secret=False)

    writer = threading.Thread(target=renew)
    writer.start()
    while writer.is_alive():
        assert file.read_bytes() in contents
    writer.join()
