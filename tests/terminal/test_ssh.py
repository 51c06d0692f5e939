"""Logging in on another computer over real SSH: with its port forwarded as the printed line says, or by pasting."""

from __future__ import annotations

import os
import pwd
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .machine import ROOT, Machine, SandboxProcess, bare_environment, free_port, part, redirect_of, walking
from .ptys import PATIENCE
from .test_paste import LOGGED_IN, WAITING, addresses

# ssh's two ends are in two networks: a file system is what they share, so bytes go through a socket in it.
RELAY = """\
import socket, sys, threading
def pump(read, write, end):
    while piece := read(65536):
        write(piece)
    end()
def join(one, other):
    def half(read, write):
        try: pump(read.recv, write.sendall, lambda: write.shutdown(socket.SHUT_WR))
        except OSError: pass
    threading.Thread(target=half, args=[one, other], daemon=True).start()
    half(other, one)
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
while True:
    one = listening.accept()[0]
    other = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    threading.Thread(target=join, args=[one, other], daemon=True).start()
"""
PROXY = """\
import os, socket, sys, threading
far = socket.socket(socket.AF_UNIX)
far.connect(sys.argv[1])
def up():
    while piece := os.read(0, 65536):
        far.sendall(piece)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while piece := far.recv(65536):
    os.write(1, piece)
"""
CONNECT = 'import socket, sys; socket.create_connection(("127.0.0.1", sys.argv[1]))'


@dataclass
class SSHServer:
    """An sshd of the user who runs the tests, with keys and settings of its own; `~/.ssh` and /etc/ssh play no part."""

    folder: Path
    port: int

    def client(self, *more: str) -> list[str]:
        """The words that make ssh know this server; `more` are further lines of its settings."""
        file = self.folder / f"client-{len(more)}"
        lines = [
            f"IdentityFile {self.folder / 'key'}",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            f"UserKnownHostsFile {self.folder / 'known_hosts'}",
            "GlobalKnownHostsFile /dev/null",
            "StrictHostKeyChecking accept-new",
            "BatchMode yes",
            "LogLevel ERROR",
            *more,
        ]
        file.write_text("\n".join(lines) + "\n")
        return ["ssh", "-F", str(file)]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    command = part("sshd")
    part("ssh")
    if os.geteuid() != 0:
        pytest.skip("an sshd that is not root's gives no terminal: it aborts where it cannot write login records")
    user = pwd.getpwuid(os.geteuid())
    if not os.access(user.pw_shell, os.X_OK) or user.pw_shell.endswith(("nologin", "false")):
        pytest.skip(f"{user.pw_name} has no login shell")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized_keys").write_text((folder / "key.pub").read_text())
    port = free_port()
    settings = folder / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host_key'}\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        "AuthenticationMethods publickey\nPermitRootLogin prohibit-password\nPermitUserRC no\nPrintMotd no\n"
    )
    separation = Path("/run/sshd")  # sshd, as root, wants this empty folder; the init script makes it
    made = os.geteuid() == 0 and not separation.exists()
    if made:
        separation.mkdir(0o755)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([command, "-D", "-e", "-f", str(settings)], stdin=subprocess.DEVNULL, stderr=log)
    try:
        _wait_for(port, folder / "log")
        yield SSHServer(folder, port)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        if made:
            separation.rmdir()


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def there(machine: Machine, sandbox: SandboxProcess) -> str:
    """The command to type on the other computer: sshd gives it an environment of its own, and ours is added."""
    ours = {name: machine.environment[name] for name in ("PATH", "HOME", "LOOPBACK_AUTH_HOME", "PYTHONPATH")}
    ours["LOOPBACK_AUTH_SANDBOX_PORT"] = str(sandbox.port)
    words = "\n".join(f"export {name}='{value}'" for name, value in ours.items())
    script = f"{words}\nexec loopback-auth login --server sandbox --timeout 20s"
    return str(machine.program(machine.folder / "login-there", script))


def connect(sshd: SSHServer, there: str) -> str:
    me = pwd.getpwuid(os.geteuid()).pw_name
    return " ".join([*sshd.client(), "-t", "-p", str(sshd.port), f"{me}@127.0.0.1", there])


def test_paste_over_ssh(machine: Machine, sshd: SSHServer, there: str, sandbox: SandboxProcess) -> None:
    """Over SSH, without any forwarding, the address that the browser at home ended on is pasted, and logs in."""
    tmux = machine.tmux()
    tmux.type(connect(sshd, there))
    tmux.shows(WAITING)
    shown = tmux.everything()
    assert "No browser was opened (this is an SSH session)." in shown
    redirect = redirect_of(addresses(shown)[1])
    tmux.paste(redirect)
    tmux.press("Enter")
    tmux.shows(LOGGED_IN)
    assert tmux.status() == 0
    assert redirect.partition("code=")[2][:20] not in "".join(tmux.everything().split())
    assert len(sandbox.token_requests) == 1


def test_forwarded_port_over_ssh(machine: Machine, sshd: SSHServer, there: str, sandbox: SandboxProcess) -> None:
    """The printed ssh -L line, typed on a computer with a network of its own, serves the browser there."""
    elsewhere = other_computer()
    tmux = machine.tmux()
    tmux.type(connect(sshd, there))
    tmux.shows(WAITING)
    shown = tmux.everything()
    line = re.search(r"^ +(ssh -L (\d+):127\.0\.0\.1:\2 -p (\d+) (\S+)@127\.0\.0\.1)\s*$", shown, re.MULTILINE)
    assert line, shown
    assert (int(line[3]), line[4]) == (sshd.port, pwd.getpwuid(os.geteuid()).pw_name)
    relay = machine.folder / "relay.py"
    relay.write_text(RELAY)
    proxy = machine.folder / "proxy.py"
    proxy.write_text(PROXY)
    wire = sshd.folder / "wire"
    relaying = subprocess.Popen([sys.executable, str(relay), str(wire), str(sshd.port)])
    try:
        while not wire.exists():
            time.sleep(0.02)
        ssh = sshd.client(
            f"ProxyCommand {sys.executable} {proxy} {wire}",
            f"LocalForward {sandbox.port} 127.0.0.1:{sandbox.port}",  # the browser at home reaches the server, too
            "ExitOnForwardFailure yes",
        )
        forwarding = line[1].replace("ssh", " ".join(ssh), 1) + " sleep 20"
        walker = f"{sys.executable} {ROOT / 'tests' / 'walker.py'} {addresses(shown)[0]}"
        script = (
            "ip link set lo up || exit 9\n"
            f"{forwarding} </dev/null & \n"
            f"until {sys.executable} -c '{CONNECT}' {line[2]} 2>/dev/null; do sleep 0.1; done\n"
            f"{walker}; ended=$?\nkill $!; exit $ended\n"
        )
        environment = bare_environment() | walking(machine)
        done = subprocess.run(
            [*elsewhere, "sh", "-c", script], env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
    finally:
        relaying.kill()
        relaying.wait()
        wire.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr + (machine.folder / "walker.log").read_text()
    tmux.shows(LOGGED_IN)
    assert tmux.status() == 0
    assert len(sandbox.token_requests) == 1


def other_computer() -> list[str]:
    """The words that run a command with a network of its own, in which nothing of ours listens."""
    part("ip")
    words = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*words, "ip", "link", "set", "lo", "up"], capture_output=True).returncode != 0:
        pytest.skip("this machine gives no one a network of their own (unshare)")
    return words
