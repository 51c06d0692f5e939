"""Runs `*.session` files: scripts of what a person types and what the real command says to it.

    # a comment
    + directive arguments          set-up, see `_DIRECTIVES`; the content of a file follows in lines that begin with |
    $ NAME=value loopback-auth …   a command, as a shell would read it (without pipes and substitutions)
    < text                         its standard input; without it there is none
    text                           a line of stdout; an empty one is written .
    ! text                         a line of stderr
    ? 3                            its exit status, where that is not 0
    @ mode PATH 0600               the mode of a file afterwards, or absent

Commands run in a folder of the session's own, without a terminal. {home} is LOOPBACK_AUTH_HOME; {http}, {https},
{silent}, {dead} are ports of servers.py; {free} is the port of redirect URIs; {sandbox} is the sandbox's; {state} is
the state of the last authorization request. {time}, {seconds}, {figure}, {pid}, {nonce}, {program}, {fingerprint},
{pin}, {date}, {days} stand for what differs each time.

`python -m tests.sessions.session --write FILE…` writes into the files what the command said: read the difference.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import parse_qs, urljoin, urlsplit

import loopback_auth
from loopback_auth import clock
from loopback_auth.oauth.registration import AuthorizationServer, ClientRegistration
from loopback_auth.oauth.token import TokenSet
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.store.file import FileStore
from loopback_auth.store.transit import Transit
from tests.sessions.servers import Answer, Servers

ROOT = Path(loopback_auth.__file__).resolve().parents[1]
MARK = "s3kr1t-"
"""In every secret of a session."""
AT_ONCE = 6
"""Sessions that are played at once: those that wait for a deadline cost nothing meanwhile."""
PATIENCE = 45.0
"""Seconds for one command."""
_VARYING = (
    (re.compile(r"taken by .+ \(process \d+\)"), "taken by {program}"),
    (re.compile(r"\b1[789]\d{8}\b"), "{time}"),
    (re.compile(r"(?<![\w+/])[\w+/]{43}="), "{pin}"),  # before the nonces: a slash in it looks like the start of one
    (re.compile(r"(?<=[=/])(?:[A-Za-z0-9_-]{43}|[A-Za-z0-9_-]{22})(?![\w-])"), "{nonce}"),
    (re.compile(r"(?<=\"expires_in\": )[1-9]\d*"), "{seconds}"),
    (re.compile(r"\b\d+ s old {2,}"), "{seconds} s old  "),
    (
        re.compile(r"\b\d+(?= s old| s ago)|(?<=trying again in )[12]\.\d(?= s)|\b(8[5-9]\d|900)(?= s, or insist)"),
        "{seconds}",
    ),
    (re.compile(r"(?<=\"refresh_token_age\": )\d+|(?<=\"seconds\": )\d+\.\d"), "{seconds}"),
    (re.compile(r"(?<= after )\d+\.\d(?= s: )"), "{seconds}"),
    (re.compile(r"\b[\d.]+(?= ms )"), "{figure}"),
    (re.compile(r"[\w.-]+\.\d+\.new\b"), "{file}.{pid}.new"),
    (re.compile(r"\b(?:[0-9A-F]{2}:){31}[0-9A-F]{2}\b"), "{fingerprint}"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \(396 days left\)"), "{date} ({days} days left)"),
    (re.compile(r"(?<=\"days_left\": )396\b"), "{days}"),
    (re.compile(r"\bprobe\.\d+\b"), "probe.{pid}"),
)


class Unsuitable(Exception):
    """This session cannot be played by this user, and why."""


@dataclass
class Step:
    """A command with the set-up before it and what it said."""

    before: list[str] = field(default_factory=list)
    command: str = ""
    stdin: str | None = None
    said: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        stdin = [] if self.stdin is None else [f"< {self.stdin}"]
        return [*self.before, *([f"$ {self.command}"] if self.command else []), *stdin, *self.said]


def parse(text: str) -> list[Step]:
    """Return the steps of a session; the last may be without a command."""
    steps, step = [], Step()
    for line in text.splitlines():
        if line.startswith("$ "):
            if step.command:
                steps.append(step)
                step = Step()
            step.command = line[2:]
        elif step.command and line.startswith("< "):
            step.stdin = line[2:]
        elif not line or line == "|" or line.startswith(("# ", "+ ", "| ")):
            if step.command:
                steps.append(step)
                step = Step()
            step.before.append(line)
        else:
            assert step.command, f"this belongs to no command: {line}"
            step.said.append(line)
    return [*steps, step]


class Player:
    """Plays the steps of one session in a folder of its own."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.home = folder / "home"
        self.home.mkdir(0o700)
        self._folder = folder
        self._servers = servers
        self._state = ""
        self._visits: list[str] = []
        self._signal: tuple[int, str] | None = None
        self._holding: list[object] = []
        self._ports: dict[str, str] = {}
        self._opened = 0
        self._environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ} | {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "COLUMNS": "120",
            "PYTHONPATH": str(ROOT),
            "LOOPBACK_AUTH_HOME": str(self.home),
        }

    def play(self, steps: list[Step]) -> Iterator[Step]:
        """Yield each step with what was said this time."""
        for step in steps:
            self._prepare(step.before)
            said: list[str] = []
            if step.command:
                said = self._run(step) + [self._looked_at(line) for line in step.said if line.startswith("@ ")]
            yield Step(step.before, step.command, step.stdin, said)

    def filled(self, text: str) -> str:
        """`text` with what its placeholders stand for here."""
        for name in ("http", "https", "silent", "dead", "free", "sandbox"):
            if f"{{{name}}}" in text:
                self._ports[name] = str(self._servers.port(name))
                text = text.replace(f"{{{name}}}", self._ports[name])
        return text.replace("{home}", str(self.home)).replace("{state}", self._state)

    def _shown(self, text: str) -> str:
        text = text.replace(str(self.home), "{home}")
        for name, port in self._ports.items():
            text = re.sub(rf"(?<!\d){port}(?!\d)", f"{{{name}}}", text)
        for pattern, placeholder in _VARYING:
            text = pattern.sub(placeholder, text)
        return text

    # -- set-up

    def _prepare(self, lines: list[str]) -> None:
        for number, line in enumerate(lines):
            if line.startswith("+ "):
                name, _, rest = line[2:].partition(" ")
                rest = rest if name == "browser" else self.filled(rest)  # the browser's state is not known yet
                content = []
                for following in lines[number + 1 :]:
                    if not following.startswith("|"):
                        break
                    content.append(self.filled(following[2:]))
                self._DIRECTIVES[name](self, rest, "".join(f"{one}\n" for one in content))

    def _write(self, rest: str, content: str) -> None:
        path, _, mode = rest.partition(" ")
        file = self.home / path
        for folder in reversed([one for one in file.parents if not one.exists()]):
            folder.mkdir(0o700)
        file.write_text(content)
        file.chmod(int(mode or "600", 8))

    def _folder_at(self, path: str, _content: str) -> None:
        for folder in reversed([one for one in (self.home / path / "x").parents if not one.exists()]):
            folder.mkdir(0o700)

    def _chmod(self, rest: str, _content: str) -> None:
        mode, _, path = rest.partition(" ")
        (self.home / path).chmod(int(mode, 8))

    def _link(self, rest: str, _content: str) -> None:
        kind, path, target = rest.split()
        if kind == "hard":
            (self.home / path).hardlink_to(self.home / target)
        else:
            (self.home / path).symlink_to(self.home / target)

    def _chown(self, rest: str, _content: str) -> None:
        number, _, path = rest.partition(" ")
        os.chown(self.home / path, int(number), int(number))

    def _needs(self, user: str, _content: str) -> None:
        if user == "certutil":
            if shutil.which(user) is None:
                raise Unsuitable(f"{user} is not installed")
        elif (user == "root") != (os.geteuid() == 0):
            raise Unsuitable(f"this session is {user}'s: the system's answer depends on who asks")

    def _set(self, rest: str, _content: str) -> None:
        name, _, value = rest.partition("=")
        self._environment[name] = value

    def _token(self, rest: str, _content: str) -> None:
        self._servers.token = Answer.parse(rest) if rest else Answer()

    def _api(self, rest: str, _content: str) -> None:
        self._servers.api = [Answer.parse(one.strip()) for one in rest.split(" then ")]

    def _occupy(self, rest: str, _content: str) -> None:
        self._servers.occupy(int(rest))

    def _browser(self, rest: str, _content: str) -> None:
        self._visits.append(rest)

    def _signalled(self, rest: str, _content: str) -> None:
        name, _, text = rest.partition(" at ")
        self._signal = (signal.Signals[f"SIG{name}"], text)

    def _lock(self, account: str, _content: str) -> None:
        lock = FileStore(str(self.home / "accounts")).lock(account)
        assert lock.try_acquire()
        self._holding.append(lock)

    def _let_go(self) -> None:
        for lock in self._holding:
            lock.__exit__(None, None, None)  # type: ignore[attr-defined]  # a FileLock

    def _rename(self, rest: str, _content: str) -> None:
        """`FROM TO`."""
        old, new = rest.split()
        (self.home / old).rename(self.home / new)

    def _account(self, rest: str, _content: str) -> None:
        """`NAME key=value…`: age, days (of the refresh token), lifetime, type, company, refresh, access, secret, …"""
        name, *words = shlex.split(rest)
        about = dict(word.split("=", 1) for word in words)
        at = f"http://127.0.0.1:{self._servers.port('http')}"
        self._ports["http"] = str(self._servers.port("http"))
        server = AuthorizationServer(
            name=about.get("server", "my-idp"),
            title="My IdP",
            authorization_endpoint=f"{at}/authorize",
            token_endpoint=about.get("endpoint", f"{at}/token"),
            api_base=None if about.get("api") == "none" else f"{at}/api/",
            company_path="company" if about.get("api") == "company" else None,
            state="none" if about.get("state") == "none" else "required",
            refresh_token_idle_lifetime=2592000 if "days" in about else None,
        )
        kind, _, value = about.get("secret", "none").partition(":")
        reference = {kind: value.split("+") if kind == "command" else value} if value else None
        now = clock.now()
        received = clock.Moment(now.unix - float(about.get("age", 0)), "-", 0.0)
        lifetime = about.get("lifetime", "3600")
        company = about.get("company")
        account = Account(
            name=name,
            registration=ClientRegistration(
                server=server,
                client_id="cli",
                redirect_uri="http://127.0.0.1:0/",
                token_endpoint_auth_method="client_secret_basic" if about.get("secret") else "none",
                ca_file=about.get("ca"),
            ),
            client_secret=reference,
            tokens=TokenSet(
                Secret(about.get("access", "s3kr1t-access").replace("\\n", "\n")),
                None if about.get("refresh") == "none" else Secret("s3kr1t-refresh"),
                None if lifetime == "none" else int(lifetime),
                about.get("scope"),
                about.get("type"),
            ),
            generation=1,
            logged_in_at=received.unix,
            refresh_token_at=now.unix - float(about.get("days", 0)) * 86400,
            received=received,
            company={"id": company, "name": "Cafe Roma"} if company else None,
        )
        Accounts(FileStore(str(self.home / "accounts"))).save(account)

    def _transit(self, rest: str, _content: str) -> None:
        """`NAME leaving STORE` or `NAME arriving STORE`: a move of the account to that folder has got so far."""
        name, way, folder = rest.split()
        source, target = (Accounts(FileStore(str(self.home / one))) for one in ("accounts", folder))
        account = source.load(name)
        assert account is not None
        if way == "leaving":
            source.save(replace(account, stored_as=str(Transit("leaving", "0a1b2c3d", target.address))))
        else:
            target.save(replace(account, stored_as=str(Transit("arriving", "0a1b2c3d", source.address))))

    _DIRECTIVES: ClassVar[dict[str, Callable[[Player, str, str], None]]] = {
        "write": _write,
        "folder": _folder_at,
        "chmod": _chmod,
        "chown": _chown,
        "link": _link,
        "needs": _needs,
        "set": _set,
        "token": _token,
        "api": _api,
        "occupy": _occupy,
        "browser": _browser,
        "signal": _signalled,
        "lock": _lock,
        "account": _account,
        "rename": _rename,
        "transit": _transit,
    }

    # -- a command

    def _run(self, step: Step) -> list[str]:
        words = shlex.split(self.filled(step.command))
        environment = dict(self._environment)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        assert words.pop(0) == "loopback-auth"
        opened = self._folder / f"opened-{(number := self._opened)}"
        self._opened = number + 1
        environment.setdefault("BROWSER", f"ln -s %s {opened}")  # the address becomes a link's target: no shell, quick
        if environment.get("LOOPBACK_AUTH_SANDBOX_PORT") is None:
            environment["LOOPBACK_AUTH_SANDBOX_PORT"] = self.filled("{sandbox}")
        process = subprocess.Popen(
            [sys.executable, "-m", "loopback_auth", *words],
            stdin=subprocess.DEVNULL if step.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.home,
            env=environment,
        )
        output: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        threads = [Thread(target=_read, args=(process, name, output)) for name in output]
        if self._visits:
            threads.append(Thread(target=self._visit, args=(process, opened, self._visits)))
        self._visits = []
        for thread in threads:
            thread.start()
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.write(self.filled(f"{step.stdin}\n").encode())
                process.stdin.close()
        if self._signal is not None:
            number, text = self._signal
            _until(lambda: process.poll() is not None or text.encode() in output["stderr"])
            process.send_signal(number)
            self._signal = None
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        for thread in threads:
            thread.join()
        stdout, stderr = (output[name].decode() for name in ("stdout", "stderr"))
        found = re.search(r"[?&]state=([\w-]{43})", stdout + stderr)
        self._state = found[1] if found else self._state
        assert MARK not in stderr, f"a secret was printed by {step.command}"
        assert MARK not in stdout or {"token", "--print-token"} & {*words}, f"a secret was printed by {step.command}"
        return [
            *(self._shown(line) or "." for line in stdout.splitlines()),
            *(f"! {self._shown(line)}" for line in stderr.splitlines()),
            *([f"? {status if status >= 0 else f'killed by {-status}'}"] if status else []),
        ]

    def _visit(self, process: subprocess.Popen[bytes], opened: Path, queries: list[str]) -> None:
        """Be the browser: the start page, the authorization endpoint, where the person does something, the redirect."""
        _until(lambda: process.poll() is not None or opened.is_symlink())
        if not opened.is_symlink():
            return
        location, cookie = _get(os.readlink(opened), "")
        asked = parse_qs(urlsplit(location).query)
        self._state = asked.get("state", [""])[0]
        for query in queries:
            place, _, parameters = query.partition("?")
            redirect = urlsplit(asked["redirect_uri"][0])
            with suppress(OSError, http.client.HTTPException):
                url = f"{redirect.scheme}://{redirect.netloc}{place or redirect.path}?{self.filled(parameters)}"
                page, _ = _get(url, cookie)
                if page:
                    _get(urljoin(url, page), cookie)

    def _looked_at(self, line: str) -> str:
        _, what, path, _ = line.split(maxsplit=3)
        assert what == "mode", f"no such look: {line}"
        file = self.home / path
        return (
            f"@ mode {path} {file.lstat().st_mode & 0o7777:04o}" if os.path.lexists(file) else f"@ mode {path} absent"
        )


def _get(url: str, cookie: str) -> tuple[str, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    try:
        connection.request("GET", f"{parts.path or '/'}?{parts.query}", headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("Location", ""), (answer.getheader("Set-Cookie") or "").partition(";")[0]
    finally:
        connection.close()


def _read(process: subprocess.Popen[bytes], name: str, into: dict[str, bytes]) -> None:
    with getattr(process, name) as stream:
        while piece := os.read(stream.fileno(), 65536):
            into[name] += piece


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)


def slow_first(file: Path) -> bool:
    """A key that sorts the sessions that mostly wait before the others."""
    return not file.name.startswith("slow_")


def played(file: Path) -> str:
    """Play a session and return its text with what was said this time."""
    with tempfile.TemporaryDirectory(prefix="session-") as name, Servers(Path(name)) as servers:
        player = Player(Path(name), servers)
        try:
            lines = [line for step in player.play(parse(file.read_text())) for line in step.lines()]
        finally:
            player._let_go()
    return "".join(f"{line}\n" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Play sessions, and with --write keep what was said."""
    parser = argparse.ArgumentParser(description="Play session files; status 1 where something else was said.")
    parser.add_argument("--write", action="store_true", help="write what was said into the files")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    different = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        plays = {file: pool.submit(played, file) for file in sorted(options.files, key=slow_first)}
    for file, play in plays.items():
        try:
            text = play.result()
        except Unsuitable as why:
            print(f"{file}: left as it is: {why}")
            continue
        if text != file.read_text():
            different += 1
            print(f"{file}: {'written' if options.write else 'something else was said'}")
            if options.write:
                file.write_text(text)
    return 0 if options.write or not different else 1


if __name__ == "__main__":
    sys.exit(main())
