"""The certificate of an https redirect URI: the user's own, or a self-signed leaf made once and kept.

A leaf for this machine's loopback names only: there is no certificate authority whose key could be stolen.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from loopback_auth import files
from loopback_auth.errors import ConfigurationError
from loopback_auth.text import printable

VALID_DAYS = 397  # browsers refuse leaves that live longer than 398 days
RENEW_DAYS = 7


def server_context(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """Return the TLS context of the redirect server. Raises ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, path in (("certificate", certificate), ("private key", private_key)):
        try:
            if path.is_fifo():  # it would hold us up, and can be read once
                raise ConfigurationError(f"the {name} {printable(path)} is a pipe", hint="give it as a file")
            path.open("rb").close()
        except OSError as error:
            raise ConfigurationError(
                f"the {name} {printable(path)} cannot be read: {os.strerror(error.errno or 0).lower()}",
                hint="see --certificate and --private-key",
            ) from error
    for attempts_left in (3, 2, 1, 0):
        try:
            context.load_cert_chain(certificate, private_key, password=_no_password)
            break
        except (ssl.SSLError, ValueError) as error:
            if attempts_left:  # OpenSSL reads our own leaf twice, and another login may replace it in between
                continue
            raise ConfigurationError(
                f"{printable(certificate)} and {printable(private_key)} are no certificate and its private key",
                hint="both in PEM, the key without a passphrase",
            ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # OpenSSL would ask on the terminal


def own_leaf(folder: Path, now: datetime.datetime | None = None) -> tuple[Path, bool]:
    """Return the file of this machine's own leaf and its private key, and whether it was made just now.

    One PEM file for both, 0600 in a folder 0700, so that two logins at once cannot mix two pairs.
    It is made anew when it has less than a week left. Raises StoreError.
    """
    pem = folder / "localhost.pem"
    now = now or datetime.datetime.now(datetime.UTC)
    if _good_until(pem) > now + datetime.timedelta(days=RENEW_DAYS):
        return pem, False
    return renew(folder, now), True


def renew(folder: Path, now: datetime.datetime | None = None) -> Path:
    """Make this machine's own leaf anew, with a new key, in the place of one that is there. Raises StoreError."""
    pem = folder / "localhost.pem"
    files.make_folder(str(folder))
    files.replace(str(pem), _make(now or datetime.datetime.now(datetime.UTC)))
    return pem


@dataclass(frozen=True, slots=True)
class Leaf:
    """What can be told of this machine's own leaf."""

    path: Path
    names: tuple[str, ...]
    not_after: datetime.datetime
    fingerprint: str
    public_key_pin: str

    @classmethod
    def read(cls, folder: Path) -> Leaf | None:
        """Return the leaf that is kept in `folder`, None where none is or it is damaged. Raises StoreUnsafe."""
        from cryptography import x509

        pem = folder / "localhost.pem"
        not_after = _good_until(pem)
        if not_after.year == datetime.MINYEAR:
            return None
        leaf = x509.load_pem_x509_certificate(files.read(str(pem)))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = tuple(str(name.value) for name in names)
        return cls(pem, shown, not_after, sha256_fingerprint(pem), public_key_pin(pem))


def sha256_fingerprint(certificate: Path) -> str:
    """Return the fingerprint as browsers show it: SHA-256 of the DER form, in pairs of hex digits."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    digest = x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256())
    return digest.hex(":").upper()


def public_key_pin(leaf: Path) -> str:
    """Return the pin of a certificate's key (RFC 7469 §2.4): SHA-256 of its SubjectPublicKeyInfo, in base64."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_certificate(leaf.read_bytes()).public_key()
    return base64.b64encode(
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode()


def _good_until(pem: Path) -> datetime.datetime:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        files.check_folder(str(pem.parent))
        content = files.read(str(pem))
        leaf = x509.load_pem_x509_certificate(content)
        matches = leaf.public_key() == load_pem_private_key(content, password=None).public_key()
    except (FileNotFoundError, ValueError, TypeError):
        matches = False
    return leaf.not_valid_after_utc if matches else datetime.datetime.min.replace(tzinfo=datetime.UTC)


def _make(now: datetime.datetime) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost (loopback-auth, self-signed)")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName(names), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + builder.sign(key, hashes.SHA256()).public_bytes(pem)
