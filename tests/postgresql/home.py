"""Where the servers of one test process live: their folder, the user they run as, their certificates."""

from __future__ import annotations

import glob
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import certificates, sweep

PROGRAMS = {"initdb": "postgresql", "postgres": "postgresql", "pg_basebackup": "postgresql", "pgbouncer": "pgbouncer"}
"""Program → Debian's package of it."""


class ProgramMissing(Exception):
    """What is not installed, and how to install it."""


def find(name: str) -> str:
    """The path of a program that Debian keeps out of a user's PATH."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), reverse=True)
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin"])
    if found := shutil.which(name, path=path):
        return found
    raise ProgramMissing(f"{name} is not installed: apt-get install --no-install-recommends {PROGRAMS[name]}")


class Home:
    """A folder that is deleted, with all processes that work in it, by `close` or when this process ends, however."""

    def __init__(self) -> None:
        for name in ("initdb", "postgres"):
            find(name)
        self.user, self.group = _server_user()
        # Not in TMPDIR: a socket's path has 107 characters at most, and another user must get there.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._sweeper = subprocess.Popen(
            [sys.executable, "-I", sweep.__file__, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )
        self._hand_over(self.folder, 0o711)
        self._folders = 0
        self.superuser_password = f"s3kr1t-{secrets.token_hex(16)}"  # others on this machine can reach the port
        self.ca_file = self.folder / "ca.crt"
        self.certificate_file = self.folder / "server.crt"
        self.key_file = self.folder / "server.key"
        made = certificates.make()
        for path, content in zip((self.ca_file, self.certificate_file, self.key_file), made, strict=True):
            self.write(path, content)
        self.ca_file.chmod(0o644)
        self.template: Path | None = None
        """The data folder that further clusters copy, once there is one."""

    def make_folder(self) -> Path:
        """A new folder of the servers' user, which others may pass through to a socket."""
        self._folders += 1
        folder = self.folder / str(self._folders)
        folder.mkdir()
        self._hand_over(folder, 0o711)
        return folder

    def write(self, path: Path, content: str) -> None:
        """Write a file that belongs to the servers' user, and that nobody else can read."""
        with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
        self._hand_over(path, 0o600)

    def run(self, *command: str | Path, text: str = "", **environment: str) -> None:
        """Run a program to its end as the servers' user."""
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_ENVIRONMENT | environment,
            cwd=self.folder,
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}")

    def start(self, *command: str | Path, folder: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a server as the servers' user in this folder, its output added to `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_ENVIRONMENT,
                cwd=folder,
                user=self.user,
                group=self.group,
                extra_groups=None if self.user is None else [],
                start_new_session=True,  # Ctrl-C would stop it under the tests that are still to be ended
            )

    def close(self) -> None:
        """End all servers and delete the folder. Any number of calls."""
        assert self._sweeper.stdin is not None
        self._sweeper.stdin.close()
        self._sweeper.wait(60)

    def _hand_over(self, path: Path, mode: int) -> None:
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)
        path.chmod(mode)


_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}  # no PGDATA, PGPORT … of a person's gets through


def _server_user() -> tuple[int | None, int | None]:
    """The servers refuse to run as root; Debian's package makes a user for them."""
    if os.geteuid() != 0:
        return None, None
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        raise ProgramMissing("PostgreSQL does not run as root, and there is no user called postgres") from None
    return entry.pw_uid, entry.pw_gid
