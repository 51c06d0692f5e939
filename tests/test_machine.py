"""Which machine this is: one name for as long as it is this one, and none where it has none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import loopback_auth
from loopback_auth import machine

from .store.planted import as_root

OWN = "0123456789abcdef0123456789abcdef"
HASHED = hashlib.sha256(f"loopback-auth\0{OWN}".encode()).hexdigest()[:32]
SHOWING = "from loopback_auth import machine; print(machine.identity())"
ETC, DBUS = Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the files of Linux")


def identity_elsewhere(tmp_path: Path, etc: bytes | None, dbus: bytes | None) -> str:
    """Return what a machine with these files says, which is a mount namespace with others in their place."""
    as_root()
    mounts = []
    for path, content in ((ETC, etc), (DBUS, dbus)):
        folder = tmp_path / path.parent.name
        folder.mkdir()
        if content is not None:
            (folder / path.name).write_bytes(content)
        if path.parent.is_dir():
            mounts.append(f"mount --bind {folder} {path.parent}")
        elif content is not None:
            mounts.append(f"mount -t tmpfs tmpfs {path.parents[1]} && cp -r {folder} {path.parents[1]}")
    script = f'({" && ".join(mounts)}) || exit 99; exec "$0" "$@"'
    environment = {**os.environ, "PYTHONPATH": str(Path(loopback_auth.__file__).parents[1])}
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, "-c", SHOWING]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if shown.returncode == 99 or "unshare" in shown.stderr:
        pytest.skip(f"needs the right to mount: {shown.stderr.strip()}")
    assert shown.stderr == ""
    return shown.stdout.strip()


def test_a_machine_keeps_its_name() -> None:
    """Asked twice, and by another process: the same, 32 hex digits; or none, where it has none."""
    name = machine.identity()
    shown = subprocess.run([sys.executable, "-c", SHOWING], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(name)
    assert machine.identity() == name
    assert name is None or (len(name) == 32 and set(name) <= set("0123456789abcdef"))


def test_the_system_s_own_id_is_not_shown() -> None:
    """What is kept in a record does not give the machine's id away."""
    if not ETC.exists() or not ETC.read_text().strip():
        pytest.skip("this machine has no id")
    assert machine.identity() not in {None, ETC.read_text().strip()}


@pytest.mark.parametrize(
    ("etc", "dbus", "name"),
    [
        (f"{OWN}\n".encode(), None, HASHED),
        (OWN.encode(), b"another\n", HASHED),
        (None, f"{OWN}\n".encode(), HASHED),
        (b"", f"{OWN}\n".encode(), HASHED),
        (b"\n", None, "None"),
        (b"uninitialized\n", f"{OWN}\n".encode(), HASHED),
        (b"uninitialized\n", None, "None"),
        (b"\xff\xfe" * 16, f"{OWN}\n".encode(), HASHED),
        (None, None, "None"),
    ],
)
def test_where_the_name_comes_from(tmp_path: Path, etc: bytes | None, dbus: bytes | None, name: str) -> None:
    """/etc/machine-id, else D-Bus's; one that is empty, not set yet or no text is none, as in many containers."""
    assert identity_elsewhere(tmp_path, etc, dbus) == name


def test_two_machines_have_two_names(tmp_path: Path) -> None:
    """Another id is another name."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = identity_elsewhere(tmp_path / "one", b"1" * 32, None)
    assert one != identity_elsewhere(tmp_path / "two", b"2" * 32, None)
