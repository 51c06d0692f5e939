"""Where things are kept: one folder if `LOOPBACK_AUTH_HOME` says so, else where the platform keeps such things.

On the way of every `token`, so nothing but `os` and `sys` is imported.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from collections.abc import Mapping


def home(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return `LOOPBACK_AUTH_HOME` as an absolute path, None where it is not set."""
    folder = environ.get("LOOPBACK_AUTH_HOME")
    return os.path.abspath(os.path.expanduser(folder)) if folder else None


def configuration(environ: Mapping[str, str] = os.environ) -> str:
    """Return the folder of `config.toml`."""
    return home(environ) or _platform(environ, "XDG_CONFIG_HOME", ".config")


def data(environ: Mapping[str, str] = os.environ) -> str:
    """Return the folder of `secrets/`, `certificate/` and `sandbox/`."""
    return home(environ) or _platform(environ, "XDG_DATA_HOME", ".local/share")


def store_address(environ: Mapping[str, str] = os.environ) -> str:
    """Return what `LOOPBACK_AUTH_STORE` says, else `store` in `config.toml`; "file:" where neither says anything.

    A relative folder in the configuration is below the folder of that. Raises OSError, ValueError: it cannot be read.
    """
    chosen = environ.get("LOOPBACK_AUTH_STORE", "")
    if chosen:
        return chosen
    folder = configuration(environ)
    address = _configured(os.path.join(folder, "config.toml"))
    if address.startswith("file:") and address != "file:":
        return "file:" + os.path.join(folder, os.path.expanduser(address[5:]))
    return address or "file:"


def accounts(environ: Mapping[str, str] = os.environ) -> str:
    """Return the folder where `token` looks first. Raises what `store_address` raises."""
    return folder_of(store_address(environ), environ)


def folder_of(address: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return this computer's folder of a store: all of it, or what it keeps here beside what it keeps elsewhere.

    A folder for each store, so that what one has left here is never taken for another's.
    """
    kind, _, rest = address.partition(":")
    if kind == "file":
        return os.path.abspath(os.path.expanduser(rest)) if rest else os.path.join(data(environ), "accounts")
    return os.path.join(data(environ), "stores", _as_name(without_password(address)))


def without_password(address: str) -> str:
    """Return the address of a store without what opens it, for people and for names of folders."""
    scheme, slashes, rest = address.partition("://")
    if not slashes:  # libpq's other form, which is no address here
        return " ".join(one for one in address.split(" ") if "=" not in one or not _opens(one))
    authority, slash, path = rest.partition("/")
    if "@" in authority:  # whatever stands before it: a question mark in a password is one for libpq, too
        path, question, query = path.partition("?")
    else:
        address, question, query = rest.partition("?")
        authority, slash, path = address.partition("/")
        if "@" in path and ":" in authority:  # a password with a slash, which is no address
            authority, slash, path = address, "", ""
    user, at, host = authority.rpartition("@")
    shown = "&".join(one for one in query.split("&") if not _opens(one))
    return scheme + slashes + user.partition(":")[0] + at + host + slash + path + (question if shown else "") + shown


def _opens(parameter: str) -> bool:
    return "password" in parameter.partition("=")[0].lower()


def _as_name(text: str) -> str:
    """Return a name of a file for each text: letters, digits, dots and dashes as they are, the rest as `=xx`."""
    name = "".join(one if one.isascii() and (one.isalnum() or one in ".-") else f"={ord(one):02x}" for one in text)
    if len(name) <= _LONGEST_NAME:
        return name
    import hashlib  # 3 ms, which few need to wait for

    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


_LONGEST_NAME = 200


def _configured(path: str) -> str:
    """Return `store` of a `config.toml`, "" where it says nothing. Raises PermissionError: another user may have."""
    import stat

    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        return ""  # there is none, or something that is no file, which says nothing
    try:
        status = os.fstat(descriptor)
        address = _store_line(os.read(descriptor, 1 << 20)) if stat.S_ISREG(status.st_mode) else ""
    finally:
        os.close(descriptor)
    if address and os.name == "posix" and (status.st_uid not in (0, os.getuid()) or status.st_mode & stat.S_IWOTH):
        raise PermissionError
    return address


def _store_line(text: bytes) -> str:
    """Return `store` at the top of a `config.toml`, "" where there is none. TOML is read where it has to be: 5 ms."""
    top = (b"\n" + text).partition(b"\n[")[0]
    lines = [line for line in top.splitlines() if _key(line) == b"store"]
    if not lines:
        return ""
    key, _, value = (part.strip() for part in lines[0].partition(b"="))
    plain = value[1:-1]
    if (
        len(lines) == 1
        and key == b"store"
        and len(value) > 2
        and value[:1] == value[-1:] == b'"'
        and not any(mark in plain for mark in (b'"', b"\\"))
        and not any(mark in top for mark in (b'"""', b"'''"))
    ):
        return plain.decode()
    import tomllib

    found = tomllib.loads(text.decode()).get("store", "")
    if not isinstance(found, str):
        raise ValueError("store is not text")  # noqa: TRY004 (as what TOML itself raises)
    return found


def _key(line: bytes) -> bytes:
    return line.partition(b"=")[0].partition(b".")[0].strip().strip(b"\"'")


def _platform(environ: Mapping[str, str], variable: str, usual: str) -> str:
    join = os.path.join
    user = os.path.expanduser("~")
    if not os.path.isabs(user):  # no HOME and no name, as in a container: never a folder called ~ wherever we are
        user = os.path.abspath(os.sep)
    if sys.platform == "win32":
        return join(environ.get("LOCALAPPDATA") or join(user, "AppData", "Local"), "loopback-auth")
    if sys.platform == "darwin":
        return join(user, "Library", "Application Support", "loopback-auth")
    chosen = environ.get(variable, "")
    return join(chosen if chosen.startswith("/") else join(user, usual), "loopback-auth")  # XDG: absolute, or ignored
