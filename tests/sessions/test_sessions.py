"""Every session says what it said before, and together they show every message of the package."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import click
import pytest

import loopback_auth
from loopback_auth import errors
from loopback_auth.cli.commands import ALIASES, COMMANDS, group
from tests.sessions.session import AT_ONCE, Unsuitable, parse, played, slow_first

FOLDER = Path(__file__).parent
SESSIONS = sorted(FOLDER.glob("*.session"), key=lambda file: (slow_first(file), file.name))
PACKAGE = Path(loopback_auth.__file__).parent
LONGEST = 160
"""Characters of a message in a session; what comes from outside is short there."""
SAYS = {"error", "warning"}
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type)} | {"UsageError"}
NOT_SHOWN = {
    # the system, not the user, decides whether these come
    r"this machine has no loopback interface for .*": "a machine without lo",
    r"cannot listen on .* port .*: .*": "neither taken nor forbidden: not to be had at will",
    r"the folder of .* cannot be made: .*": "setup asks on a terminal first",
    r".* cannot be removed: .*": "a disk that turns read-only in the middle",
    r".* cannot be looked at: .*": "root sees all",
    # what a kill or a failing disk leaves: held by the fault suite
    r"the refresh token of account .* was sent, and no answer came": "a process that was killed",
    r"another process (has renewed account|is working on) .*": "two processes, and a lock file that is gone",
    r"nothing was (sent|spent); try again": "two processes, and a lock file that is gone",
    r"it was left as it is; try again": "two processes, and a lock file that is gone",
    r"account .* is on its way; finish it: .*": "a disk that fails in the middle of a move",
    r".* cannot be locked: .*": "a file system without locks",
    r"put the accounts on a disk that knows locks: .*": "a file system without locks",
    r".* is on a network file system .*": "a network mount",
    r"put the accounts on a local disk: .*": "a network mount",
    r"or, if only one machine ever uses them: .*": "a network mount",
    r"(the tokens|new tokens of account .*) came, and .*": "a disk that fails in mid-refresh",
    r"nothing is lost, the answer is kept.*": "a disk that fails in mid-refresh",
    # on a terminal: held by the tests that drive one
    r"what was pasted is not the redirect of this login: .*": "a terminal",
    r".*: the answer was no": "a terminal",
    r"no client id was given": "a terminal",
    r"that is the id of client .* at .*": "a terminal",
    r"each environment has ids of its own": "a terminal",
    r"this server gives every client a secret": "a terminal",
    r"it came with the client id": "a terminal",
    r".* may name another store, and cannot be read, .*": "another user",
    r"or say which store is meant: .*": "another user",
    r"another user of this machine asked for (the|a) start page .*": "another user",
    r"the .* is a pipe": "a session makes none",
    r"give it as a file": "a session makes none",
    r"the output cannot be written: .*": "a full disk",
    r"which accounts\? .*": "a terminal",
    r"a login of account .* is under way already": "two logins at once",
    r"finish it in its browser window, or end it .*": "two logins at once",
    r"a request that is not a redirect of these logins was ignored: .*": "login says the same, and shows it",
    r"a redirect arrived at .*, and these logins wait at another path": "login says the same, and shows it",
    r"the redirect URI registered with the server must be the one of config\.toml": "login says the same, and shows it",
    r".* is larger than .* MiB: that is no list of accounts": "longer than a session should be",
    r".*, line .*: this is not UTF-8": "sessions are",
    r"save it as UTF-8": "sessions are",
    r"the server did not revoke the tokens of account .*": "a server of one's own",
    r"interrupted: .* of .* accounts were moved": "a terminal",
    r"the same command goes on": "a terminal",
    r"the client secret of .* is not moved: every machine that refreshes needs it in .*": "a store for many machines",
    # a store for many machines
    r"a shared store is always sealed": "a server",
    r"copy the accounts: loopback-auth store copy": "a server",
    r".* is not sealed, as all is in this store: somebody else has put it there": "a server",
    # the keyring: held by tests/system_keyring
    r".* did not answer within .* s": "15 seconds",
    r"the keyring cannot be asked any more: the program is ending": "an interpreter that leaves",
    r"another process is at the keyring and does not finish": "30 seconds, and a process that hangs",
    r".* has lost the key to the last answer for account .*": "a process that was killed",
    r"forget the account, and log in again: .*": "a process that was killed",
    # macOS and Windows
    r".* did not take the certificate: .*": "another system",
    # guards behind other guards
    r"the client .* has no client_secret": "fetch raises first",
    r"the preset holds no secret": "presets are ours",
    r"unexpected: .*": "a fault of ours",
    r"this is a fault of loopback-auth: .*": "a fault of ours",
    r"its code is longer than .* bytes": "longer than a line of a session should be",
    r".* is larger than .* bytes: .*": "longer than a line of a session should be",
    r"the login of account .* was finished already": "two processes finish at once",
    r"account .* was changed by another (process|machine)": "two processes write at once",
    r"account .* is being refreshed by another machine": "two machines at once",
    r"nothing was removed; try again": "two machines at once",
    r"this process stood still before it refreshed account .*": "a process that is stopped",
    # held by tests/postgresql
    r"the store .* (can only be read|refuses this user|does not let us in|did not do it): .*": "a PostgreSQL server",
    r"nothing was spent; name the primary server, .*": "a PostgreSQL server",
    r"the store .* has no tables of this version": "a PostgreSQL server",
    r"make them: loopback-auth store init": "a PostgreSQL server",
    r"(what it needs, as SQL|store init is for whoever owns the database): .*": "a PostgreSQL server",
    r"its password goes into ~/\.pgpass or PGPASSWORD": "a PostgreSQL server",
    r"make it, as a superuser: createdb .*": "a PostgreSQL server",
    r"the store .* says that tokens are stored before .*": "a PostgreSQL server",
    r"nothing was spent; its administrator can mend it: .*": "a PostgreSQL server",
    r"move the accounts to a file store first: .*": "a PostgreSQL server",
    r"--yes is missing: every machine that uses .*": "a PostgreSQL server",
    r"add --yes, or forget one account: .*": "a PostgreSQL server",
    r"look at its user, password and name": "a PostgreSQL server",
    r"the store .* (does not show that it is who it should be|takes no more connections): .*": "a PostgreSQL server",
    r"nothing was sent; sslrootcert=FILE .*": "a PostgreSQL server",
    r"its schema loopback_auth is another program's: .*": "a PostgreSQL server",
    r"nothing was spent; try again when others have left, .*": "a PostgreSQL server",
    r"the tables of the store .* are .*": "a PostgreSQL server",
    r"has its owner changed them\?": "a PostgreSQL server",
    r"use that one here, too": "a PostgreSQL server",
    r"bring them up to date: .*": "a PostgreSQL server",
    r"the store is a PostgreSQL server, and the library .*": "a library that is not installed",
    r"pipx inject loopback-auth 'psycopg.*": "a library that is not installed",
    r"the answer is larger than .* MiB": "64 MiB",
    r"the token endpoint cannot be reached in time": "two tries to connect that take longer than a whole request",
    r"the request left, no answer came, and then there was no connection": "a server that goes away in mid-answer",
    r".* names no member .*": "servers.toml is ours",
}
"""Messages that no session shows, as patterns, and why."""


@pytest.fixture(scope="module")
def plays(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[str]]]:
    """Play the sessions that were asked for, some at once, the slow ones first."""
    wanted = {one.callspec.params["file"] for one in request.session.items if hasattr(one, "callspec")
              and "file" in one.callspec.params and isinstance(one.callspec.params["file"], Path)}  # fmt: skip
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {file.name: pool.submit(played, file) for file in SESSIONS if file in wanted}


@pytest.mark.parametrize("file", SESSIONS, ids=lambda file: file.stem)
def test_session(file: Path, plays: dict[str, Future[str]]) -> None:
    """The real command says, line by line, what the session file holds."""
    try:
        said = plays[file.name].result()
    except Unsuitable as why:
        pytest.skip(str(why))
    assert said.splitlines() == file.read_text("utf-8").splitlines()


def shown() -> list[tuple[str, str, str]]:
    """Every message of every session: the session, `error`, `warning` or `hint`, and the text."""
    pattern = re.compile(r"^! loopback-auth: (error|warning|hint): (.*)$")
    return [
        (file.name, match[1], match[2])
        for file in SESSIONS
        for step in parse(file.read_text("utf-8"))
        for line in step.said
        if (match := pattern.match(line))
    ]


def pattern_of(node: ast.expr) -> str | None:
    """A pattern for the text that a literal stands for; None for what is no literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(pattern_of(one) or ".*" for one in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return f"{pattern_of(node.left) or '.*'}{pattern_of(node.right) or '.*'}"
    return None


def texts(node: ast.expr) -> Iterator[str]:
    """The patterns of all literals that an argument may become."""
    if (pattern := pattern_of(node)) is not None:
        yield pattern
    elif isinstance(node, ast.Tuple):
        for one in node.elts:
            yield from texts(one)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


def messages() -> Iterator[tuple[str, str]]:
    """Where each message of the source is, and its pattern: of errors, their hints, and warnings."""
    for module in sorted(PACKAGE.rglob("*.py")):
        if "sandbox" in module.relative_to(PACKAGE).parts or module.name == "errors.py":
            continue
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            said = name in SAYS and isinstance(function, ast.Attribute)
            if not said and name not in KINDS:
                continue
            hints = [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
            for argument in [*(node.args if said else node.args[:1]), *hints]:
                for pattern in texts(argument):
                    if pattern.replace(".*", ""):
                        yield f"{module.relative_to(PACKAGE)}:{argument.lineno}", pattern


def test_every_message_is_shown() -> None:
    """Each message of the package stands in a session, or on the list of those that cannot."""
    lines = [text for _, _, text in shown()]
    missing = [
        f"{where}: {pattern}"
        for where, pattern in messages()
        if not any(re.search(pattern, line) for line in lines)
        and not any(re.fullmatch(one, re.sub(r"\\(.)", r"\1", pattern)) for one in NOT_SHOWN)
    ]
    assert missing == []


def test_messages_have_one_voice() -> None:
    """A message is short, begins in lower case (but for names), ends without a full stop, and shows no class name."""
    names = r"(HTTP|GET|[{\[/.$-]|\d)"
    wrong = [
        (file, text)
        for file, kind, text in shown()
        if len(text) > LONGEST
        or text.endswith(".")
        or (text[0].isupper() and not re.match(names, text))
        or re.search(r"\[Errno|<class|Traceback", text)
        or (kind == "error" and "  " in text)
    ]
    assert wrong == []


def test_hints_name_what_exists() -> None:
    """A command that a hint names is one of ours, and each of its flags is one that the command, or `login`, has."""
    context = click.Context(group)
    flags: dict[str, set[str]] = {}
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        flags[name] = {flag for parameter in command.params for flag in parameter.opts} | {"--help"}
    for file, _, text in shown():
        called = re.search(r"(?:: |run |see )loopback-auth (\w+)", text)
        if called:
            name = ALIASES.get(called[1], called[1])
            assert name in COMMANDS, (file, text)
        ours = text.partition("gnome-keyring-daemon ")[0]  # what follows is for another program
        unknown = flags_in(ours) - set().union(*flags.values())
        if called:
            unknown |= flags_in(text[called.end() :].partition(";")[0]) - flags[name]
        assert not unknown or "no such option" in text, (file, text)


def flags_in(text: str) -> set[str]:
    """The flags that stand in a text."""
    return set(re.findall(r"(?<![\w-])--[a-z-]+", text))


def test_every_exit_status_is_shown() -> None:
    """The sessions end in every exit status that the README lists."""
    steps = [step for file in SESSIONS for step in parse(file.read_text("utf-8"))]
    seen = {int(line[2:]) for step in steps for line in step.said if re.fullmatch(r"\? \d+", line)}
    assert {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 129, 130, 143} <= seen


def test_sessions_say_whom_they_need() -> None:
    """A session that depends on the user or on a program says so: all others are played by anybody, anywhere."""
    needing = {file.name for file in SESSIONS if "+ needs" in file.read_text("utf-8")}
    assert needing == {"certificate.session", "port_low.session", "store_strangers.session"}
    assert os.name == "posix"
