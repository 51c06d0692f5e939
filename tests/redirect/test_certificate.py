"""The certificate of an https redirect URI: what is in our own, how it is kept, and whose else may be used."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from loopback_auth import files
from loopback_auth.errors import ConfigurationError, StoreUnsafe
from loopback_auth.redirect.certificate import own_leaf, server_context, sha256_fingerprint
from tests.store.planted import mode, names, run_hint, symlink

NOW = datetime.datetime(2030, 5, 17, 12, 0, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def leaf(pem: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "certificate"


def test_a_leaf_for_this_machine_alone(folder: Path) -> None:
    """For localhost, 127.0.0.1 and ::1, to serve and nothing else; no CA, so there is no key to misuse."""
    pem, made = own_leaf(folder, NOW)
    assert made
    certificate = leaf(pem)
    names_ = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names_) == [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert certificate.issuer == certificate.subject
    assert "loopback-auth" in certificate.subject.rfc4514_string()
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    certificate.verify_directly_issued_by(certificate)


def test_its_life_is_one_that_browsers_accept(folder: Path) -> None:
    """Valid from an hour ago, for clocks that differ, and for less than 398 days in all."""
    certificate = leaf(own_leaf(folder, NOW)[0])
    assert certificate.not_valid_before_utc == NOW - datetime.timedelta(hours=1)
    assert certificate.not_valid_after_utc == NOW + 397 * DAY
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < 398 * DAY


def test_key_and_certificate_are_one_private_file(folder: Path) -> None:
    """One file, 0600, in a folder 0700, and nothing beside it."""
    pem, _ = own_leaf(folder, NOW)
    assert (mode(folder), mode(pem)) == ("0700", "0600")
    assert names(folder) == ["localhost.pem"]
    assert pem.read_bytes().count(b"-----BEGIN ") == 2


def test_it_is_kept_until_a_week_before_its_end(folder: Path) -> None:
    """The same leaf for every login, so that a browser is asked once; a new one when less than a week is left."""
    pem, _ = own_leaf(folder, NOW)
    before = pem.read_bytes()
    assert own_leaf(folder, NOW + 389 * DAY) == (pem, False)
    assert pem.read_bytes() == before
    assert own_leaf(folder, NOW + 390 * DAY) == (pem, True)
    assert pem.read_bytes() != before
    assert leaf(pem).not_valid_after_utc == NOW + 787 * DAY


@pytest.mark.parametrize("damage", ["empty", "no key", "other key", "garbage", "cut"])
def test_a_damaged_one_is_made_anew(folder: Path, tmp_path: Path, damage: str) -> None:
    """A file without a certificate and its own key is replaced."""
    pem, _ = own_leaf(folder, NOW)
    whole = pem.read_bytes()
    key_end = whole.index(b"-----BEGIN CERT")
    other = own_leaf(tmp_path / "other", NOW)[0].read_bytes()
    contents = {
        "empty": b"",
        "no key": whole[key_end:],
        "other key": other[: other.index(b"-----BEGIN CERT")] + whole[key_end:],
        "garbage": b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        "cut": whole[:-100],
    }
    pem.write_bytes(contents[damage])
    assert own_leaf(folder, NOW) == (pem, True)
    server_context(pem, pem)
    assert own_leaf(folder, NOW) == (pem, False)


def test_a_key_that_others_can_read_is_refused(folder: Path) -> None:
    """A private key that was open to others is not used silently; the hint mends it."""
    pem, _ = own_leaf(folder, NOW)
    pem.chmod(0o644)
    with pytest.raises(StoreUnsafe) as caught:
        own_leaf(folder, NOW)
    run_hint(caught.value.hint[0])
    assert own_leaf(folder, NOW) == (pem, False)


def test_a_link_in_its_place_is_refused(folder: Path) -> None:
    """A key is not read through a link."""
    pem, _ = own_leaf(folder, NOW)
    symlink(pem)
    with pytest.raises(StoreUnsafe):
        own_leaf(folder, NOW)


MAKING = """
import sys
from pathlib import Path
from loopback_auth.redirect.certificate import own_leaf, server_context
sys.stdin.read(1)
for _ in range(5):
    pem, made = own_leaf(Path(sys.argv[1]))
    server_context(pem, pem)
"""


def test_several_processes_at_once_do_not_mix_two_pairs(folder: Path) -> None:
    """First logins at the same moment: each has a certificate with its own key at any time, and one remains."""
    making = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", MAKING, str(folder)], stdin=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in making:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.close()
    assert [process.wait(30) for process in making] == [0] * 4
    assert names(folder) == ["localhost.pem"]
    assert own_leaf(folder)[1] is False


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_browser_that_trusts_it_is_served(folder: Path, host: str) -> None:
    """A real TLS handshake by name and by address, 1.2 or newer."""
    pem, _ = own_leaf(folder)
    context = server_context(pem, pem)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    trusting = ssl.create_default_context(cafile=str(pem))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with context.wrap_socket(ours, server_side=True) as served:
            served.sendall(b"hello")

    serving = threading.Thread(target=serve)
    serving.start()
    with trusting.wrap_socket(theirs, server_hostname=host) as browser:
        assert browser.recv(5) == b"hello"
        assert browser.version() in ("TLSv1.2", "TLSv1.3")
    serving.join()


def test_a_leaf_that_is_replaced_while_it_is_read(folder: Path, tmp_path: Path) -> None:
    """OpenSSL reads the file twice: another login that replaces it in between does not end this one."""
    pem, _ = own_leaf(folder)
    other = own_leaf(tmp_path / "other")[0].read_bytes()
    contents = [pem.read_bytes(), other]
    stop = threading.Event()

    def replace_it_now_and_then() -> None:
        while not stop.wait(0.001):
            contents.reverse()
            files.replace(str(pem), contents[0])

    replacing = threading.Thread(target=replace_it_now_and_then)
    replacing.start()
    try:
        for _ in range(400):
            server_context(pem, pem)
    finally:
        stop.set()
        replacing.join()


def test_the_fingerprint_is_the_one_browsers_show(folder: Path) -> None:
    """SHA-256 of the DER form, in pairs of hex digits."""
    pem, _ = own_leaf(folder, NOW)
    der = leaf(pem).public_bytes(serialization.Encoding.DER)
    import hashlib

    digest = hashlib.sha256(der).hexdigest().upper()
    assert sha256_fingerprint(pem).replace(":", "") == digest
    assert len(sha256_fingerprint(pem)) == 95


def test_a_pipe_is_no_certificate(tmp_path: Path) -> None:
    """A FIFO where a certificate should be holds up nothing."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(ConfigurationError, match="is a pipe"):
        server_context(fifo, fifo)


def test_ones_own_certificate_and_key(folder: Path, tmp_path: Path) -> None:
    """Certificate and key in two files, as mkcert writes them."""
    whole = own_leaf(folder, NOW)[0].read_bytes()
    cut = whole.index(b"-----BEGIN CERT")
    certificate, key = tmp_path / "localhost.pem", tmp_path / "localhost-key.pem"
    certificate.write_bytes(whole[cut:])
    key.write_bytes(whole[:cut])
    assert server_context(certificate, key).minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("which", ["certificate", "private key"])
def test_a_file_that_is_not_there(folder: Path, tmp_path: Path, which: str) -> None:
    """The file that cannot be read is named."""
    pem, _ = own_leaf(folder, NOW)
    gone = tmp_path / "gone.pem"
    with pytest.raises(ConfigurationError) as caught:
        server_context(gone if which == "certificate" else pem, pem if which == "certificate" else gone)
    assert str(caught.value) == f"the {which} {gone} cannot be read: no such file or directory"
    assert caught.value.hint == ("see --certificate and --private-key",)


@pytest.mark.parametrize("kind", ["encrypted", "of another", "nonsense"])
def test_a_key_that_does_not_fit(folder: Path, tmp_path: Path, kind: str) -> None:
    """A key with a passphrase is refused without asking for it on the terminal; so is one of another certificate."""
    pem, _ = own_leaf(folder, NOW)
    key = tmp_path / "key.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if kind == "encrypted":
        loaded = serialization.load_pem_private_key(pem.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        private, encryption = loaded, serialization.BestAvailableEncryption(b"s3kr1t-passphrase")
    encoding, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(b"nonsense" if kind == "nonsense" else private.private_bytes(encoding, pkcs8, encryption))
    with pytest.raises(ConfigurationError) as caught:
        server_context(pem, key)
    assert str(caught.value) == f"{pem} and {key} are no certificate and its private key"
    assert caught.value.hint == ("both in PEM, the key without a passphrase",)
