"""`api`: a GET with the access token, its answer on stdout, its trouble as exit status; the token goes nowhere else."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from .machine import Machine, SandboxProcess, free_port

ODD = b'{"name": "Caf\xc3\xa9",  "list":[1,2 ], "bytes": "\\u001b[31m"}'


@dataclass
class Api:
    """A resource server that answers as it is told, and notes who asked for what."""

    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/resto/"

    def will(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, {"Content-Type": "application/json"} | named, body))


@pytest.fixture
def api(machine: Machine, sandbox: SandboxProcess) -> Iterator[Api]:
    """The API of an account that was logged in at the sandbox."""
    api = Api()

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.requests.append((self.path, self.headers.get("Authorization", "")))
            company: tuple[int, dict[str, str], bytes] = (200, {}, b'[{"id": 4711, "name": "Cafe Roma"}]')
            status, headers, body = api.answers.pop(0) if api.answers else company
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        api.port = server.server_address[1]
        machine.configure(f'[servers.sandbox]\napi_base = "{api.base}"\n')
        assert machine.log_in("--server", "sandbox").status == 0
        api.requests.clear()
        sandbox.forget()
        yield api
        server.shutdown()
        thread.join()


def call(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["loopback-auth", "api", *arguments],
        env=machine.environment,
        capture_output=True,
        timeout=20,
        cwd=machine.folder,
    )


def test_bytes_in_a_pipe(machine: Machine, api: Api) -> None:
    """In a pipe the answer comes byte for byte as the server sent it, with the token of the account asked for."""
    api.will(200, ODD)
    done = call(machine, "rest/core/company?x=1&y=%20")
    assert (done.returncode, done.stdout, done.stderr) == (0, ODD, b"")
    token = machine.run("token").stdout.strip()
    assert api.requests == [("/resto/rest/core/company?x=1&y=%20", f"Bearer {token}")]


def test_lines_on_a_terminal(machine: Machine, api: Api) -> None:
    """On a terminal JSON comes in lines, in ASCII; other text with what could move the cursor made visible."""
    api.will(200, ODD)
    terminal = machine.pty("api", "rest/core/company")
    assert terminal.end() == 0
    assert terminal.said.replace("\r\n", "\n") == json.dumps(json.loads(ODD), indent=2) + "\n"
    api.will(200, b"plain \x1b]0;owned\x07 text\nand more\x9b31m\n", Content_Type="text/plain")
    terminal = machine.pty("api", "rest/core/company")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.said
    assert "plain \\x1b]0;owned\\x07 text\r\nand more" in terminal.said


ELSEWHERE = (
    "http://127.0.0.1:1/resto/rest", "https://elsewhere.example/resto/", "//elsewhere.example/resto/",
    "../admin", "rest/../../admin", "rest/%2e%2e/%2e%2E/admin", "rest/../..", "rest\\..\\x", "rest core",
    "rest/\ncore", "{base}../x", "http://x@{authority}/resto/", "file:///etc/passwd", "rest#part", "é",
)  # fmt: skip


def test_token_goes_nowhere_else(machine: Machine, api: Api, sandbox: SandboxProcess) -> None:
    """Another host, a way up, a path that clients read differently: 3, and no request at all."""
    for path in ELSEWHERE:
        done = call(machine, path.format(base=api.base, authority=f"127.0.0.1:{api.port}"))
        assert (done.returncode, done.stdout) == (3, b""), (path, done.stderr)
    assert api.requests == []
    assert sandbox.log == []


def test_ways_to_say_a_path(machine: Machine, api: Api) -> None:
    """A path with or without its first slash, and a whole URL below the API base, are the same."""
    for path in ("rest/core/company", "/rest/core/company", f"{api.base}rest/core/company"):
        assert call(machine, path).returncode == 0
    assert [asked for asked, _ in api.requests] == ["/resto/rest/core/company"] * 3


def test_refused_token_is_refreshed_once(machine: Machine, api: Api, sandbox: SandboxProcess) -> None:
    """After a 401 the token is refreshed once, the request repeated once with the new one, and its answer printed."""
    api.will(401, b'{"error": "invalid_token"}')
    api.will(200, ODD)
    done = call(machine, "rest/core/company")
    assert (done.returncode, done.stdout) == (0, ODD)
    assert len(sandbox.token_requests) == 1
    old, new = (sent for _, sent in api.requests)
    assert old != new
    assert new == f"Bearer {machine.run('token').stdout.strip()}"


def test_refused_twice(machine: Machine, api: Api, sandbox: SandboxProcess) -> None:
    """A second 401 ends with 4 and what to type; nothing is refreshed again."""
    api.will(401)
    api.will(401, b"\x1b[31mno")
    ended = machine.run("api", "rest/core/company")
    assert (ended.status, ended.stdout, len(sandbox.token_requests)) == (4, "", 1)
    assert "loopback-auth login default --force" in ended.hints[0]
    assert len(api.requests) == 2
    assert "\x1b" not in ended.stderr


def test_token_that_the_server_forgot(machine: Machine, sandbox: SandboxProcess) -> None:
    """An access token that the sandbox does not know, though it should be good for an hour, is replaced in one call."""
    assert machine.log_in("--server", "sandbox").status == 0
    stored = machine.tokens()
    token = stored.read_text().split("\n")[1]
    stored.write_text(stored.read_text().replace(token, "x" * len(token)))
    sandbox.forget()
    ended = machine.run("api", "rest/core/company")
    assert ended.status == 0, ended.stderr
    assert ended.json[0]["name"] == "Cafe Roma"
    assert [line.split()[2] + line.split()[4] for line in sandbox.log] == ["GET401", "POST200", "GET200"]


CLASSES = {400: 1, 403: 1, 404: 1, 429: 9, 500: 9, 503: 9, 302: 1, 204: 0}


def test_exit_by_class(machine: Machine, api: Api) -> None:
    """Each class of answer has its exit status; bodies of errors are said on stderr, made harmless, never on stdout."""
    for status, expected in CLASSES.items():
        body = b"" if status == 204 else b'{"message": "\x1b]0;owned\x07\r\nloopback-auth: error: forged \xff"}'
        api.will(status, body, Retry_After="7")
        ended = machine.run("api", "rest/core/company")
        assert (ended.status, ended.stdout) == (expected, ""), (status, ended.stderr)
        if expected:
            (error,) = ended.errors
            assert error.startswith(f"{api.base}rest/core/company answered HTTP {status}: ")
            assert all(" " <= letter <= "~" or letter == "\n" for letter in ended.stderr)
        if expected == 9:
            assert ended.hints == ["try again later (Retry-After: 7)"]
    assert len(api.requests) == len(CLASSES)


def test_redirect_is_not_followed(machine: Machine, api: Api, sandbox: SandboxProcess) -> None:
    """A redirect of the API is not followed, neither elsewhere nor on the same host: the token would go along."""
    for location in (f"{api.base}elsewhere", f"{sandbox.base}rest/core/company"):
        api.will(302, b"", Location=location)
        ended = machine.run("api", "rest/core/company")
        assert ended.status == 1
        assert ended.hints == ["redirects are not followed with an access token"]
    assert len(api.requests) == 2
    assert sandbox.log == []


def test_nobody_answers(machine: Machine, sandbox: SandboxProcess) -> None:
    """An API that does not answer ends with 1, and what was stored stays."""
    assert machine.log_in("--server", "sandbox").status == 0
    machine.configure(f'[servers.sandbox]\napi_base = "http://127.0.0.1:{free_port()}/resto/"\n')
    ended = machine.log_in("--server", "sandbox", "--force")
    assert ended.status == 0
    assert "whose data this is could not be asked" in ended.stderr
    ended = machine.run("api", "rest/core/company")
    assert (ended.status, ended.stdout) == (1, "")
    assert "does not answer" in ended.errors[0]


def test_no_account(machine: Machine, api: Api) -> None:
    """Without an account of that name: 4, and what to type."""
    ended = machine.run("api", "rest/core/company", "--account", "elsewhere")
    assert (ended.status, ended.hints) == (4, ["log in: loopback-auth login elsewhere"])


def test_reader_that_leaves(machine: Machine, api: Api) -> None:
    """When whoever reads stdout is gone, the command ends without a word."""
    api.will(200, b"x" * 3_000_000)
    command = "loopback-auth api rest/core/company | head -c 10"
    done = subprocess.run(["sh", "-c", command], env=machine.environment, capture_output=True, timeout=20)
    assert (done.stdout, done.stderr) == (b"x" * 10, b"")
