"""NSS databases: where Chromium's family looks on Linux for what this user trusts. Written by NSS's own certutil.

Firefox has such a database per profile, but takes no leaf from it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from loopback_auth import files
from loopback_auth.errors import ConfigurationError, StoreNotWritable
from loopback_auth.text import printable

NAME = "loopback-auth localhost"
"""Ours in a database; nothing else there is ever touched."""
_PEER = "P,,"
"""Trusted as a server, itself and nothing that it signed."""


def databases(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the databases that a browser of this user reads; where there is none, the one that all of them would.

    Newer Chromium makes its own in the XDG folder, and leaves that aside once the old one is there: so none is made
    beside another.
    """
    home = Path(os.path.expanduser("~"))
    data = environ.get("XDG_DATA_HOME", "")
    usual = home / ".pki" / "nssdb"
    newer = (Path(data) if data.startswith("/") else home / ".local" / "share") / "pki" / "nssdb"
    snap = home / "snap" / "chromium" / "current" / ".pki" / "nssdb"
    return [found for found in (usual, newer, snap) if (found / "cert9.db").exists()] or [usual]


def holds(database: Path, certificate: str) -> bool:
    """Whether a database trusts this certificate (PEM) as a server. Raises ConfigurationError without certutil."""
    if not (database / "cert9.db").exists():
        return False
    return any(trust.startswith("P") for trust in _ours(database)) and certificate.split() in _certificates(database)


def add(database: Path, certificate: Path) -> None:
    """Trust a certificate as a server; one that was trusted under our name no longer is.

    Raises StoreError, ConfigurationError without certutil.
    """
    program()
    if not (database / "cert9.db").exists():
        if not database.parent.exists():
            files.make_folder(str(database.parent))
        files.make_folder(str(database))
        _certutil(database, "-N", "--empty-password")
    remove(database)
    try:
        _certutil(database, "-A", "-t", _PEER, "-n", NAME, "-i", str(certificate))
    except StoreNotWritable:
        remove(database)  # where a password is needed it is taken in, and then not trusted
        raise


def remove(database: Path) -> bool:
    """Trust nothing of ours any longer; return whether something was there. Raises as `add` does."""
    if not (database / "cert9.db").exists():
        return False
    ours = _ours(database)
    for _ in ours:  # one at a time, though all have one name
        _certutil(database, "-D", "-n", NAME)
    return bool(ours)


def program() -> str:
    """Return certutil. Raises ConfigurationError."""
    found = shutil.which("certutil")
    if found is None:
        raise ConfigurationError(
            "certutil is missing",
            hint="it keeps what Chromium and Chrome trust: apt-get install libnss3-tools, or dnf install nss-tools",
        )
    return found


def _ours(database: Path) -> list[str]:
    """Return how each certificate under our name is trusted: for TLS, mail and code."""
    return re.findall(rf"^{NAME} +(\S*,\S*,\S*) *$", _certutil(database, "-L"), re.MULTILINE)


def _certificates(database: Path) -> list[list[str]]:
    """Return the certificates under our name, as the words of their PEM form."""
    listed = _certutil(database, "-L", "-n", NAME, "-a")
    return [one.split() for one in re.findall(r"-----BEGIN .*?-----END CERTIFICATE-----", listed, re.DOTALL)]


def _certutil(database: Path, *words: str) -> str:
    done = subprocess.run(  # noqa: S603 (an argument list, never a shell)
        [program(), *words, "-d", f"sql:{database}"],
        stdin=subprocess.DEVNULL,  # certutil asks for ever where nothing can be read
        capture_output=True,
        start_new_session=True,  # and would ask for a password on the terminal
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = re.findall(r"^certutil: (.*?)\.?$", done.stderr, re.MULTILINE) or ["certutil failed"]
        raise StoreNotWritable(
            f"{printable(database)} cannot be used: {printable(said[-1], 120)}",
            hint=f"see what is in it: certutil -L -d sql:{printable(database)}",
        )
    return done.stdout
