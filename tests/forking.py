"""What a process imports once, before children are forked from it that should not have to."""

from __future__ import annotations

import gc
import importlib
import pkgutil

import loopback_auth

LATE = ("cryptography.hazmat.primitives.ciphers.aead", "encodings.idna", "hashlib", "queue", "stringprep", "tomllib")
"""What the package imports only when it needs it, or brings others to import."""


def import_all() -> None:
    """Import the whole package but the sandbox, and let no child look at that again when it collects garbage."""
    for found in pkgutil.walk_packages(loopback_auth.__path__, "loopback_auth."):
        if not found.name.endswith("__main__") and ".sandbox" not in found.name:
            importlib.import_module(found.name)
    for name in LATE:
        importlib.import_module(name)
    gc.freeze()
