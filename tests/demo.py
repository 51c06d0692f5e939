"""The first thing to try: sandbox, login, token and a request with it, each shown as it would be typed.

Standard library only; run by `scripts/demo`. Everything lives in a temporary folder and on a port of its own,
and is gone at the end, also after Ctrl-C. With a person at a terminal and a display the login is theirs, in
their browser; anywhere else `tests/walker.py` is the browser and nobody is waited for.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent  # where the virtual environment has `loopback-auth`
ACCOUNT = {"WALKER_USER": "cafe-roma", "WALKER_PASSWORD": "espresso"}  # printed on the sandbox's login page
PATIENCE = 60.0  # seconds for a step that waits for no person


class DemoFailed(Exception):
    """A step did not do what this story promises."""


def main() -> int:
    """Tell the story; 0 only when every step worked."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a text file, unless replaced
    traces.listen()
    try:
        try:
            tell(traces.make_folder())
        finally:
            traces.remove()
    except DemoFailed as failure:
        print(f"scripts/demo: {failure}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    finally:
        traces.remove()  # for the signal that came while the first was at work; there is no second one
    say("Next, with a registration of your own:")
    print("  pipx install .")
    print("  loopback-auth login --server lightspeed-l-staging --client-id YOUR_CLIENT_ID")
    return 0


def tell(folder: Path) -> None:
    port = free_port()
    environment = environment_in(folder, port)
    person = somebody_is_there()
    say(f"The sandbox stands in for the real server; this demo's lives at port {port} and in {folder}.")
    server = Sandbox(environment, port, folder / "sandbox.log")

    if person:
        say("Log in, as a developer does: your browser opens. Who may log in is printed on the page.")
    else:
        say("Log in. Nobody with a display here, so a small built-in client walks the browser's pages.")
        environment |= ACCOUNT
        environment["BROWSER"] = shlex.join([sys.executable, str(ROOT / "tests" / "walker.py")])
    run("loopback-auth login --server sandbox", environment, patience=None if person else PATIENCE)
    say("What the sandbox saw of it:")
    server.show()

    say("From now on, any script gets a valid access token (shortened here, not by the command).")
    token = run("loopback-auth token", environment, show=shortened).strip()
    if not token:
        raise DemoFailed("`loopback-auth token` printed nothing")

    say("A request with it: which restaurant is this?")
    company = ask_which_company(f"http://127.0.0.1:{port}/resto/rest/core/company", token, environment)
    try:
        name = json.loads(company)[0]["name"]
    except (ValueError, LookupError, TypeError) as failure:
        raise DemoFailed("the answer names no restaurant") from failure
    say(f"It is {name}. And what is stored now:")
    run("loopback-auth status", environment)


def ask_which_company(url: str, token: str, environment: dict[str, str]) -> str:
    if shutil.which("curl", path=environment["PATH"]):
        return run(f'curl -sS --fail -H "Authorization: Bearer $(loopback-auth token)" {url}', environment, show=str)
    prompt(f"GET {url}  (no curl here: asked from Python)")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=PATIENCE) as response:
            answer = str(response.read(), "utf-8")
    except OSError as failure:
        raise DemoFailed(f"the sandbox did not answer: {failure}") from failure
    print(answer)
    return answer


# -- where it runs


def environment_in(folder: Path, port: int) -> dict[str, str]:
    """The caller's environment without the caller's own settings of the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPBACK_AUTH_")}
    direct = ",".join(filter(None, [kept.get("no_proxy") or kept.get("NO_PROXY"), "127.0.0.1,localhost,::1"]))
    return kept | {
        "LOOPBACK_AUTH_HOME": str(folder / "home"),
        "LOOPBACK_AUTH_SANDBOX_PORT": str(port),
        "PATH": f"{PROGRAMS}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def somebody_is_there() -> bool:
    """Whether a person can be asked to log in: a terminal to read, a display to show it on, and no CI."""
    terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    display = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return terminal and bool(display or os.environ.get("BROWSER")) and not os.environ.get("CI")


def free_port() -> int:
    """A port that is free on 127.0.0.1 and on ::1: the sandbox takes both."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as four:
            port = int(four.getsockname()[1])
            try:
                socket.create_server(("::1", port), family=socket.AF_INET6).close()
            except OSError as failure:
                if failure.errno == errno.EADDRINUSE:
                    continue  # any other: this machine has no IPv6
            return port


class Sandbox:
    """`loopback-auth sandbox` in a process of its own; what it prints is shown when asked for."""

    def __init__(self, environment: dict[str, str], port: int, log: Path) -> None:
        self._log = log
        self._shown = 0
        prompt("loopback-auth sandbox &")
        with log.open("wb") as output:
            self._process = traces.start(
                lambda: subprocess.Popen(
                    ["loopback-auth", "sandbox"],
                    executable=PROGRAMS / "loopback-auth",
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # Ctrl-C reaches this script, and this script ends the sandbox
                )
            )
        self._wait_until_listening(port)
        self.show()

    def _wait_until_listening(self, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.05)
        self.show()
        raise DemoFailed("the sandbox did not start")

    def show(self) -> None:
        """Print what it has said since the last time, once it has nothing to add."""
        deadline = time.monotonic() + 2
        said = before = b""
        while time.monotonic() < deadline and not (said and said == before):
            time.sleep(0.1)
            said, before = self._log.read_bytes()[self._shown :], said
        self._shown += len(said)
        print(str(said, "utf-8", "replace"), end="", flush=True)


# -- commands


def run(
    command: str,
    environment: dict[str, str],
    *,
    show: Callable[[str], str] | None = None,
    patience: float | None = PATIENCE,
) -> str:
    """Run a command as typed. Its output is shown as it comes, or with `show` when it is over, and returned.

    Without `patience` a person is at work: the command gets the terminal, and all the time it takes.
    """
    prompt(command)
    process = traces.start(
        lambda: subprocess.Popen(
            ["/bin/sh", "-c", command] if "$" in command else shlex.split(command),
            executable=None if "$" in command else PROGRAMS / "loopback-auth",
            env=environment,
            stdin=subprocess.DEVNULL if patience else None,
            stdout=subprocess.PIPE if show else None,
            stderr=sys.stdout,  # one story, in its order, also where only standard output is kept
            process_group=0 if patience else None,
        )
    )
    try:
        output = str(process.communicate(timeout=patience)[0] or b"", "utf-8", "replace")
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"`{command}` took more than {patience:.0f} seconds") from None
    finally:
        end(process)
    if process.returncode != 0:
        raise DemoFailed(f"`{command}` ended with status {process.returncode}")
    if show:
        print(show(output).rstrip("\n"))
    return output


def end(process: subprocess.Popen[bytes]) -> None:
    """End it if it still runs: asked first, then not asked; nothing of its group is left."""
    own_group = process.poll() is None and os.getpgid(process.pid) == process.pid
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            if own_group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


class Traces:
    """What this run leaves on the machine, and takes away however it ends: processes and one folder.

    Ctrl-C and its kin leave through the `finally` blocks, once, and never between a thing's making and its listing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._held: int | None = None
        self._making = False
        self._folder: Path | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def listen(self) -> None:
        for number in self.SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._arrived)

    def make_folder(self) -> Path:
        with self._undisturbed():
            self._folder = Path(tempfile.mkdtemp(prefix="loopback-auth-demo-"))
        return self._folder

    def start(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._undisturbed():
            self._processes.append(start())
        return self._processes[-1]

    def remove(self) -> None:
        for process in self._processes:
            end(process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        self._making = True
        try:
            yield
        finally:
            self._making = False
        if self._held is not None:
            self._arrived(self._held, None)

    def _arrived(self, number: int, _: FrameType | None) -> None:
        if self._making:
            self._held = number
            return
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # tidying up is not interrupted
        sys.exit(128 + number)


traces = Traces()


# -- what is seen


def prompt(command: str) -> None:
    print(f"{colour('2')}${colour('0')} {colour('1')}{command}{colour('0')}", flush=True)


def say(words: str) -> None:
    print(f"\n{colour('36')}# {words}{colour('0')}", flush=True)


def colour(code: str) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return "" if plain else f"\033[{code}m"


def shortened(token: str) -> str:
    token = token.strip()
    return f"{token[:6]}…  ({len(token)} characters)"


if __name__ == "__main__":
    sys.exit(main())
