"""What the system and its files say: mounts, sockets, certificates."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from loopback_auth.endpoints.trust import tls_context
from loopback_auth.errors import ConfigurationError
from loopback_auth.redirect import holder
from loopback_auth.redirect.certificate import own_leaf, server_context
from loopback_auth.store.network import is_share, network_file_system

from .shapes import nearly, nearly_bytes
from .stored import folder
from .target import MARK, Target, parsed

# --- mounts ---

MOUNTS = nearly_bytes(
    st.lists(
        st.builds(
            "36 27 0:31 {} {} rw,noatime{} - {} {} rw".format,
            st.sampled_from(["/", "/sub"]),
            st.sampled_from(["/", "/", "/a", "/a/b", "/a\\040b", "/a\\134", "/\\777", "/a\\04", "relative"]),
            st.sampled_from(["", "", " shared:1", " shared:1 master:2", " -"]),
            st.sampled_from(["ext4", "nfs4", "nfs4", "cifs", "fuse", "fuse.sshfs", "overlay", "\udcff", ""]),
            st.sampled_from(["/dev/sda1", "server:/x", "https://dav.example/", "", " "]),
        ).map(lambda line: line.encode(errors="surrogateescape")),
        min_size=1,
        max_size=5,
    ).map(b"\n".join),
    2,
)


def check_mounts(drawn: tuple[bytes, str]) -> bool:
    """The name of a network file system, which stands there, or none."""
    content, path = drawn
    mountinfo = folder() / "mountinfo"
    mountinfo.write_bytes(content)
    found = network_file_system(path, str(mountinfo))
    assert found is None or found.encode("ascii") in content
    return found is not None


MOUNT: Target[tuple[bytes, str]] = Target(
    "mountinfo",
    st.tuples(MOUNTS, st.sampled_from(["/", "/a", "/a/b/c", "/a b", "/a\\", "/\udcff", "a", ""])),
    check_mounts,
    kept=((b"", "/"), (b"36 27 0:31 / /\\777 rw - nfs4 x rw", "/\udcff"), (b" - \n - - ", "/"), (b"\0" * 100, "/")),
    share=0.1,
    examples=60,
    large=(
        lambda size: (b"36 27 0:31 / / rw - nfs4 x rw\n" * (size // 30), "/a"),
        lambda size: (b"\\040" * (size // 4), "/a"),
        lambda size: (b" - " * (size // 3), "/a"),
        lambda size: (b"36 27 0:31 / " + b"/" * size + b" rw - nfs4 x rw", "/a"),
    ),
    limit=1 << 20,
)

SHARES = nearly(
    st.sampled_from(["\\\\server\\share", "//server/share", "\\\\?\\UNC\\a\\b", "C:\\Users", "\\\\?\\C:\\a"]), 2
)


def check_share(path: str) -> bool:
    """A path on a share begins with two strokes; its case and the kind of its strokes do not matter."""
    found = is_share(path)
    assert not found or path.replace("/", "\\").startswith("\\\\")
    assert found == is_share(path.replace("\\", "/"))
    return found


SHARE: Target[str] = Target(
    "Windows share", SHARES, check_share, kept=("", "\\", "\\\\", "\\\\?", "//?/unc/"), share=0.2
)

# --- sockets ---

SOCKETS = st.lists(
    st.builds(
        "   0: {}:{} 00000000:0000 {} 00000000:00000000 00:00000000 00000000  {}        0 {} 1 0 100 0 0 10 0".format,
        st.sampled_from(["0100007F", "00000000000000000000000001000000"]),
        st.sampled_from(["1F90", "1F90", "1F90", "0016", "FFFF"]),
        st.sampled_from(["0A", "0A", "0A", "01"]),
        st.sampled_from(["0", "1000", "4294967295"]),
        st.sampled_from(["4711", "0", "x"]),
    ),
    max_size=4,
).map(lambda lines: "\n".join(["  sl  local_address", *lines, ""]).encode())


class _Table:
    """Stands for `Path` where the kernel's tables are read: they are files of ours."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def read_text(self, *how: str, **more: str) -> str:
        return (folder() / "sockets" if "/proc/net/" in str(self._path) else self._path).read_text(*how, **more)

    def glob(self, pattern: str) -> list[Path]:
        return []


def check_sockets(content: bytes) -> bool:
    """Who listens on a port, by inode and user, as far as a table of the kernel says it."""
    (folder() / "sockets").write_bytes(content)
    real = vars(holder)["Path"]
    vars(holder)["Path"] = _Table
    try:
        found = holder._listeners(8080)
    finally:
        vars(holder)["Path"] = real
    lines = [line.split() for line in content.decode().splitlines()[1:]]
    listening = [line for line in lines if line[3] == "0A" and line[1].endswith(":1F90")]
    assert found == [(line[9], int(line[7])) for line in listening] * 2  # both tables are this one
    return bool(found)


# --- certificates ---


@cache
def _pair() -> tuple[bytes, bytes]:
    """A private key and its certificate, in PEM."""
    content = own_leaf(folder() / "certificate")[0].read_bytes()
    key, begin, certificate = content.partition(b"-----BEGIN CERTIFICATE-----")
    return key, begin + certificate


def check_certificate(drawn: tuple[bytes, bytes]) -> bool:
    """A context to serve with, or which two files are no pair; nobody is asked for a passphrase."""
    certificate, key = folder() / "fuzz.crt", folder() / f"{MARK[:-1]}.key"
    certificate.write_bytes(certificate_bytes := drawn[0])
    key.write_bytes(drawn[1])
    good, context = parsed(lambda: server_context(certificate, key), ConfigurationError)
    if context is not None:
        assert b"BEGIN" in certificate_bytes
        assert context.minimum_version >= 0x0303
    return good


def _pems() -> st.SearchStrategy[tuple[bytes, bytes]]:
    def both(_nothing: None) -> st.SearchStrategy[tuple[bytes, bytes]]:
        key, certificate = _pair()
        encrypted = key.replace(b"PRIVATE", b"ENCRYPTED PRIVATE")
        old = key.replace(b"-----\n", b"-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1)
        return st.tuples(
            nearly_bytes(st.sampled_from([certificate, certificate, certificate * 3, key + certificate]), 1),
            nearly_bytes(st.sampled_from([key, key, certificate + key, encrypted, old]), 1),
        )

    return st.none().flatmap(both)


CERTIFICATE: Target[tuple[bytes, bytes]] = Target(
    "certificate and key",
    _pems(),
    check_certificate,
    kept=((b"", b""), (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN PRIVATE KEY-----"), (b"\0", b"\xff")),
    share=0.2,
    examples=50,
)


def check_ca_file(content: bytes) -> bool:
    """A context that verifies, or a file without certificates."""
    path = folder() / "ca.pem"
    path.write_bytes(content)
    good, context = parsed(lambda: tls_context(str(path)), ConfigurationError)
    if context is not None:
        assert context.check_hostname
        assert context.verify_mode == 2
        assert context.minimum_version >= 0x0303
    return good


CA_FILE: Target[bytes] = Target(
    "CA file",
    st.none().flatmap(
        lambda _: nearly_bytes(st.sampled_from([_pair()[1], _pair()[1] * 2, b"# mine\n" + _pair()[1]]), 1)
    ),
    check_ca_file,
    kept=(b"", b"-----BEGIN ", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", b"\xff\xfe\0"),
    share=0.2,
    examples=25,
)

SOCKET: Target[bytes] = Target(
    "/proc/net/tcp",
    SOCKETS,
    check_sockets,
    kept=(b"", b"  sl  local_address\n"),
    share=0.2,
    examples=60,
)

TARGETS = (MOUNT, SHARE, SOCKET, CERTIFICATE, CA_FILE)
