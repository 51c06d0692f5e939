"""Which file systems are shared over a network: a lock on some of them excludes nobody, so nothing is spent there."""

from __future__ import annotations

import os
import re
import sys

MOUNTINFO = "/proc/self/mountinfo"
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "davfs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.davfs2", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse"),
}
"""Left out: gfs2 and ocfs2, whose locks hold in the whole cluster; 9p, virtiofs and overlay, which containers are given
by the machine that they run on."""
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")


def network_file_system(path: str, mountinfo: str = MOUNTINFO) -> str | None:
    """Return the type of the network file system that holds `path`, None for a local one.

    None also where nobody can say: on macOS, and where the mounts cannot be read. `path` need not be there yet: its
    nearest parent that is counts.
    """
    path = os.path.realpath(path)  # on Windows, a letter that stands for a share becomes that share
    if sys.platform == "win32":
        return "a network share" if is_share(path) else None
    try:
        with open(mountinfo, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return None
    return _type_at(os.fsencode(path), lines)


def is_share(path: str) -> bool:
    r"""Whether a path of Windows is on a share: `\\server\share`, also as `\\?\UNC\server\share`."""
    path = path.replace("/", "\\").lower()
    return path.startswith("\\\\?\\unc\\") or (path.startswith("\\\\") and path[2:4] not in ("?\\", ".\\"))


def _type_at(path: bytes, lines: list[bytes]) -> str | None:
    """Return the type of the deepest mount above `path`, and of several on one point the last: it hides the others.

    A line is `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS… - TYPE SOURCE OPTIONS`, see proc_pid_mountinfo(5).
    """
    deepest, found = b"", None
    for line in lines:
        place, _, what = line.partition(b" - ")
        words, (kind, source) = place.split(b" "), (*what.split(b" "), b"")[:2]
        if len(words) < 6 or not words[4].startswith(b"/"):
            continue
        point = _ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), words[4])
        if (path + b"/").startswith(point.rstrip(b"/") + b"/") and len(point) >= len(deepest):
            is_url = kind == b"fuse" and b"://" in source  # which is how davfs2 mounts
            name = kind.decode("ascii", "replace")
            deepest, found = point, name if name in _NETWORK or is_url else None
    return found
