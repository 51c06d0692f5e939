"""A real Secret Service in a home and on a bus of its own: gnome-keyring below `dbus-run-session`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("dbus-run-session", "gnome-keyring-daemon")
PASSWORD = b"s3kr1t-password-of-the-keyring"
PATIENCE = 20.0
_BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:dir={folder}</listen>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
"""A bus that starts nothing by itself: no second daemon, nobody who prompts."""
_DAEMON = 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec gnome-keyring-daemon --foreground --components=secrets "$@"'


class SecretService:
    """The service while it runs. `environment` is what a program needs to find it, and to find no other."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "keyring-home"
        self.home.mkdir(0o700, parents=True, exist_ok=True)
        self.environment = {
            "HOME": str(self.home),
            **{f"XDG_{name}_HOME": str(self.home / name.lower()) for name in ("CONFIG", "DATA", "CACHE")},
        }

    @contextmanager
    def running(self, *, unlocked: bool = True) -> Iterator[None]:
        """Run it while this lasts. Locked, it has the items of the last time, and nobody who could be asked."""
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        runtime = tempfile.mkdtemp(prefix="ks-")  # new, and short: a socket's path has 107 bytes
        bus = Path(runtime, "bus.conf")
        bus.write_text(_BUS.format(folder=runtime))
        self.environment["XDG_RUNTIME_DIR"] = runtime
        process = subprocess.Popen(
            [
                "dbus-run-session",
                "--config-file",
                str(bus),
                "--",
                "sh",
                "-c",
                _DAEMON,
                "sh",
                *(["--unlock"] if unlocked else []),
            ],
            env=environment | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if unlocked:
                process.stdin.write(PASSWORD)
            process.stdin.close()
            self.environment["DBUS_SESSION_BUS_ADDRESS"] = process.stdout.readline().decode().strip()
            self._wait()
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # bus and daemon: their session is their own
            process.wait(PATIENCE)
            process.stdout.close()
            shutil.rmtree(runtime, ignore_errors=True)

    def _wait(self) -> None:
        from keyring.backends.SecretService import Keyring

        deadline = time.monotonic() + PATIENCE
        with in_environment(self.environment):
            while True:
                try:
                    assert Keyring.priority >= 1
                except RuntimeError:
                    assert time.monotonic() < deadline, "gnome-keyring-daemon does not come up"
                    time.sleep(0.02)
                else:
                    return


@contextmanager
def in_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in this very process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def skip_without_programs() -> None:
    """Without the programs, skip the test on a person's machine and fail it in CI."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        reason = f"not installed: {' '.join(missing)} (apt-get install gnome-keyring dbus)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
