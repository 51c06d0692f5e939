"""Having this user's browsers take our own leaf without a warning. The leaf alone: no CA, no other user.

Linux: NSS databases. macOS: the login keychain. Windows: the user's TrustedPeople. Firefox has no such place: it asks
a person, once per profile, and remembers.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopback_auth.errors import ConfigurationError, StoreNotWritable
from loopback_auth.redirect import nss
from loopback_auth.text import printable

_SUBJECT = "localhost (loopback-auth, self-signed)"


def trusted_in(leaf: Path) -> list[str]:
    """Return where the leaf (PEM) is trusted, in words. Raises ConfigurationError where that cannot be known."""
    with _certificate(leaf) as certificate:
        if sys.platform == "darwin":
            trusted = _runs("security", "verify-cert", "-c", str(certificate), "-p", "ssl", "-s", "localhost")
            return ["the login keychain"] if trusted else []
        if sys.platform == "win32":
            there = _runs("certutil", "-user", "-verifystore", "TrustedPeople", _sha1(leaf))
            return ["the user's TrustedPeople"] if there else []
        return [str(database) for database in nss.databases() if nss.holds(database, certificate.read_text())]


def trust(leaf: Path) -> list[str]:
    """Have the leaf trusted, in the place of any older one; return where, in words.

    Raises ConfigurationError where a program is missing, StoreError where it refuses.
    """
    with _certificate(leaf) as certificate:
        if sys.platform == "darwin":
            untrust(leaf)
            _run("security", "add-trusted-cert", "-r", "trustRoot", "-p", "ssl", "-k", _keychain(), str(certificate))
            return ["the login keychain"]
        if sys.platform == "win32":
            untrust(leaf)
            _run("certutil", "-user", "-addstore", "TrustedPeople", str(certificate))
            return ["the user's TrustedPeople"]
        databases = nss.databases()
        for database in databases:
            nss.add(database, certificate)
        return [str(database) for database in databases]


def untrust(leaf: Path | None) -> list[str]:
    """Take it back wherever it was put, older leaves too; return where, in words. Raises as `trust` does."""
    if sys.platform == "darwin":
        if leaf is not None:
            with _certificate(leaf) as certificate:
                _runs("security", "remove-trusted-cert", str(certificate))
        there = _runs("security", "delete-certificate", "-c", _SUBJECT, "-t", _keychain())
        return ["the login keychain"] if there else []
    if sys.platform == "win32":
        there = _runs("certutil", "-user", "-delstore", "TrustedPeople", _SUBJECT)
        return ["the user's TrustedPeople"] if there else []
    return [str(database) for database in nss.databases() if nss.remove(database)]


@contextmanager
def _certificate(leaf: Path) -> Iterator[Path]:
    """The certificate in a file of its own: no other program gets to see the key."""
    (pem,) = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", leaf.read_text(), re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="loopback-auth-") as folder:
        certificate = Path(folder) / "localhost.pem"
        certificate.write_text(pem)
        yield certificate


def _keychain() -> str:
    return str(Path.home() / "Library" / "Keychains" / "login.keychain-db")


def _sha1(leaf: Path) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    certificate = x509.load_pem_x509_certificate(leaf.read_bytes())
    return certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 (the name of a certificate in Windows' stores)


def _runs(*words: str) -> bool:
    """Whether a command of the system says yes."""
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0  # noqa: S603 (an argument list, never a shell)
    except OSError as error:
        raise ConfigurationError(f"{words[0]} is missing") from error


def _run(*words: str) -> None:
    if not _runs(*words):
        raise StoreNotWritable(f"{words[0]} did not take the certificate: {printable(' '.join(words[1:3]))} failed")
