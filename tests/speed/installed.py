"""Where the other tools are installed: a folder beside `.venv`, filled by the bench from public registries.

Each has its own place there, made anew when what was asked for changes; nothing is installed into the system.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.speed.far import ROOT

CACHE = ROOT / ".bench"
_PATIENCE = 600


class NotInstalledError(Exception):
    """Why a tool cannot be had here, in one line."""


def python_environment(name: str, requirements: Path) -> Path:
    """Return the Python of a virtual environment that holds exactly these requirements."""
    place = CACHE / name
    python = place / "bin" / "python"
    if _is_there(place, requirements.read_text()):
        return python
    _empty(place)
    _run(sys.executable, "-m", "venv", str(place))
    _run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(requirements))
    _mark(place, requirements.read_text())
    return python


def node_modules(name: str, packages: list[str]) -> Path:
    """Return a folder whose `node_modules` holds these packages."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotInstalledError("no Node.js here")
    place = CACHE / name
    if not _is_there(place, " ".join(packages)):
        _empty(place)
        (place / "package.json").write_text("{}")
        _run("npm", "install", "--silent", "--ignore-scripts", "--prefix", str(place), *packages)
        _mark(place, " ".join(packages))
    return place


def debian_package(name: str) -> tuple[Path, str]:
    """Return the root of a folder that holds this package and what of its dependencies is not here; and its version."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NotInstalledError("no Debian packages here")
    place = CACHE / name
    wanted = _run("apt-cache", "policy", name)
    if "Candidate:" not in wanted:
        raise NotInstalledError("not in this Debian, or apt-get update was never run")
    version = wanted.split("Candidate:")[1].split()[0]
    if not _is_there(place, version):
        _empty(place)
        planned = _run("apt-get", "--simulate", "--no-install-recommends", "install", name)
        missing = [line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")] or [name]
        _run("apt-get", "--quiet", "download", *missing, inside=place)
        for package in place.glob("*.deb"):
            _run("dpkg-deb", "--extract", str(package), str(place / "root"))
            package.unlink()
        _mark(place, version)
    return place / "root", version


def _is_there(place: Path, wanted: str) -> bool:
    try:
        return (place / "made-for").read_text() == _fingerprint(wanted)
    except OSError:
        return False


def _mark(place: Path, wanted: str) -> None:
    (place / "made-for").write_text(_fingerprint(wanted))


def _fingerprint(wanted: str) -> str:
    return hashlib.sha256(f"{ROOT} {sys.version} {wanted}".encode()).hexdigest()


def _empty(place: Path) -> None:
    print(f"installing into {place.relative_to(ROOT)}", file=sys.stderr)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def _run(*command: str, inside: Path = ROOT) -> str:
    try:
        done = subprocess.run(
            command, cwd=inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotInstalledError(f"{Path(command[0]).name} failed: {' '.join(last)}")
    return done.stdout
