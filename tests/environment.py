"""Makes the virtual environment the scripts run in, and installs the system parts the tests drive.

Standard library only, any Python 3.11 or newer: it runs before anything is installed, by `scripts/python`.
"""

from __future__ import annotations

import argparse
import fcntl
import glob
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = {"runtime": ROOT / "tests" / "requirements.txt", "dev": ROOT / "tests" / "requirements-dev.txt"}

SYSTEM_PARTS = {  # Debian's package → the commands any of which shows that the part is there
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "chromium-driver": ("chromedriver",),
    "firefox-esr": ("firefox-esr", "firefox"),
    "libnss3-tools": ("certutil",),
    "openssh-server": ("sshd",),
    "tmux": ("tmux",),
    "strace": ("strace",),
    "iproute2": ("ip",),
    "postgresql": ("initdb",),
    "pgbouncer": ("pgbouncer",),
    "gnome-keyring": ("gnome-keyring-daemon",),
    "dbus-daemon": ("dbus-run-session",),
}
NO_MAIN_CLUSTER = Path("/etc/postgresql-common/createcluster.d/loopback-auth-tests.conf")


class SetupFailed(Exception):
    """What could not be installed, for a person to read."""


def say(message: str) -> None:
    print(f"scripts: {message}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=LOCKS)
    parser.add_argument("--system-parts", action="store_true", help="browsers and tools the tests drive")
    options = parser.parse_args(arguments)
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two scripts started at once make one environment
        make_environment(options.kind)
        if options.system_parts:
            install_system_parts()
    except SetupFailed as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        os.close(folder)
    return 0


# -- the virtual environment ----------------------------------------------------------------------


def make_environment(kind: str) -> None:
    """Leave `.venv` holding exactly the locked versions of `kind` and the project itself, editable."""
    if any(is_current(each) for each in (kind, "dev")):
        return
    lock = LOCKS[kind]
    say(f"installing {lock.relative_to(ROOT)} into .venv (Python {sys.version.split()[0]})")
    if not runs(PYTHON):
        make_empty_environment()
    pip("install", "--quiet", "--require-hashes", "--requirement", str(lock))
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    pip("check")  # a dependency that pyproject.toml has and the lock has not
    stamp(kind).write_text(fingerprint(kind))


def is_current(kind: str) -> bool:
    try:
        return stamp(kind).read_text() == fingerprint(kind) and runs(PYTHON)
    except OSError:
        return False


def stamp(kind: str) -> Path:
    return VENV / f"made-for-{kind}"


def fingerprint(kind: str) -> str:
    """Everything that decides what is in the environment, the folder included: moved, it is made anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    parts = [project["build-system"], project["project"], project["tool"]["hatch"], str(ROOT)]
    text = json.dumps(parts) + LOCKS[kind].read_text("utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def runs(python: Path) -> bool:
    """Whether this interpreter is there, starts, is new enough and belongs to this very folder."""
    expected = "import sys; sys.exit(sys.version_info < (3, 11) or sys.prefix != sys.argv[1])"
    try:
        return subprocess.run([python, "-I", "-c", expected, VENV], capture_output=True).returncode == 0
    except OSError:
        return False


def make_empty_environment() -> None:
    """With pip inside where this Python can do that (Debian needs python3-venv), or filled from outside."""
    failure = venv("--clear")
    if failure and can_install():
        apt_get([f"python3.{sys.version_info.minor}-venv"])
        failure = venv("--clear")
    if failure and importlib.util.find_spec("pip"):
        failure = venv("--clear", "--without-pip")
    if failure:
        raise SetupFailed(f"no virtual environment; on Debian: apt-get install python3-venv\n{failure}")


def venv(*arguments: str) -> str:
    """Return what went wrong, which is nothing when it worked."""
    return quietly([sys.executable, "-m", "venv", *arguments, VENV])


def pip(*arguments: str) -> None:
    """Run pip on the environment; a second time without pip's cache when the first failed."""
    own = importable_there("pip")
    command: list[str | Path] = [sys.executable, "-m", "pip", "--python", PYTHON]
    if own:
        command = [PYTHON, "-m", "pip"]
    settings = {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if quietly([*command, *arguments], **settings):
        failure = quietly([*command, *arguments, "--no-cache-dir"], **settings)
        if failure:
            raise SetupFailed(f"pip {' '.join(arguments)} failed:\n{failure}")


def importable_there(name: str) -> bool:
    return not quietly([PYTHON, "-c", f"import {name}"])


# -- the system's parts ----------------------------------------------------------------------


def missing_system_parts() -> list[str]:
    """Debian's names of the packages whose commands are not there."""
    outside = ["/usr/sbin", "/usr/bin", "/snap/bin", *glob.glob("/usr/lib/postgresql/*/bin")]
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *outside])
    return [
        package
        for package, commands in SYSTEM_PARTS.items()
        if not any(shutil.which(command, path=search) for command in commands)
    ]


def install_system_parts() -> None:
    """Install what is missing as root; otherwise, and where apt fails, say what to type and go on."""
    missing = missing_system_parts()
    if missing and can_install():
        apt_get(missing)
        missing = missing_system_parts()
    if missing:
        names = " ".join(missing)
        say(f"not here, so tests that need them cannot run: apt-get install --no-install-recommends {names}")


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_get(packages: list[str]) -> None:
    say(f"apt-get install {' '.join(packages)}")
    if "postgresql" in packages:  # else a cluster of the machine's own is made, and started at every boot
        NO_MAIN_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
        NO_MAIN_CLUSTER.write_text("create_main_cluster = false\n")
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        failure = quietly(["apt-get", "-q", *arguments], DEBIAN_FRONTEND="noninteractive")
        if failure:
            say(f"apt-get {' '.join(arguments)} failed:\n{failure[-4000:]}")
    NO_MAIN_CLUSTER.unlink(missing_ok=True)


# -- both --------------------------------------------------------------------------------------


def quietly(command: Sequence[str | Path], **settings: str) -> str:
    """Run it with these variables set; return nothing when it worked, and all it printed when it did not."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **settings},
        cwd=ROOT,
    )
    return (done.stdout or f"exit status {done.returncode}") if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
