"""Why stored accounts are quick, pinned without a clock: what is imported and looked at; and what the benches do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore
from tests.faults.commands import environment
from tests.speed import stored, stored_growth, stored_token
from tests.speed.far import ROOT, far_process
from tests.speed.figures import times
from tests.speed.stored import ACCESS, Ran, RunFailedError, name

MAIN = "from loopback_auth.__main__ import main; main()"
LOOKING = f"""
import sys
home = sys.argv.pop(1)

def look(event, arguments):
    if arguments and isinstance(arguments[0], str) and arguments[0].startswith((home, "/proc/")):
        print(event, arguments[0].removeprefix(home), file=sys.stderr)

sys.addaudithook(look)
{MAIN}
"""
"""The command, telling on stderr what it does with files of the home folder and of /proc, but for their status."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three accounts with tokens that are good for a day."""
    stored.fill(tmp_path, 3)
    return tmp_path


def python(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment(home) | variables, capture_output=True, text=True, check=True)


def looked_at(home: Path, *arguments: str, **variables: str) -> list[str]:
    return python("-c", LOOKING, str(home), *arguments, home=home, **variables).stderr.splitlines()


# -- why it is quick ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "variables"), [((), {}), ((name(2),), {}), ((), {"LOOPBACK_AUTH_ACCOUNT": name(1)})]
)
def test_what_token_imports(home: Path, arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    """With a valid token `token` imports these modules and no other; what is built into Python costs nothing."""

    def imported(*words: str) -> set[str]:
        lines = python("-X", "importtime", "-c", *words, home=home, **variables).stderr.splitlines()
        return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}

    assert imported(MAIN, "token", *arguments) - imported("pass") - set(sys.builtin_module_names) == {
        "__future__",
        "loopback_auth",
        "loopback_auth.__main__",
        "loopback_auth.cli",
        "loopback_auth.cli.main",
        "loopback_auth.clock",
        "loopback_auth.files",
        "loopback_auth.folders",
        "loopback_auth.store",
        "loopback_auth.store.head",
        "loopback_auth.usable",
    }


@pytest.mark.parametrize(
    ("arguments", "variables", "account"),
    [((), {}, name(0)), ((name(2),), {}, name(2)), ((), {"LOOPBACK_AUTH_ACCOUNT": name(1)}, name(1))],
)
def test_what_token_looks_at(home: Path, arguments: tuple[str, ...], variables: dict[str, str], account: str) -> None:
    """With a valid token it opens the account's one file and which boot this is, and first what might name a store."""
    assert looked_at(home, "token", *arguments, **variables) == [
        "open /config.toml",
        f"open /accounts/{account}/tokens",
        "open /proc/sys/kernel/random/boot_id",
    ]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_what_status_looks_at(home: Path, form: tuple[str, ...]) -> None:
    """It lists the accounts once, and opens each file of each of them once: tokens, the last error, an intent."""
    assert [line for line in looked_at(home, "status", *form) if "/accounts" in line] == [
        "os.listdir /accounts",
        *(
            f"open /accounts/{account}/{file}"
            for account in sorted(name(number) for number in range(3))
            for file in ("tokens", "last-error", "intent")
        ),
    ]


# -- what the benches do -----------------------------------------------------------------------


def test_accounts_are_really_stored(home: Path) -> None:
    """Each account that a bench stores is one that the store lists and `token` prints."""
    assert Accounts(FileStore(str(home / "accounts"))).names() == sorted(name(number) for number in range(3))
    command = [sys.executable, "-m", "loopback_auth", "token", name(2)]
    ran = stored.run(command, stored.environment(home, PYTHONPATH=str(ROOT)))
    assert ran.stdout.decode() == f"{ACCESS}\n"


def test_the_first_account_may_be_another(home: Path) -> None:
    """An account that is there already, a server's, is not replaced by one of the bench's."""
    store = Accounts(FileStore(str(home / "accounts")))
    before = store.load(name(0))
    stored.fill(home, 4)
    assert store.load(name(0)) == before
    assert store.load(name(3)) is not None


def test_a_run_is_timed_to_its_end() -> None:
    """A run ends when the process has ended, not when its stdout has; all of a long stdout is read."""
    program = "import os, time; os.write(1, b'x' * 300_000); os.close(1); time.sleep(0.2)"
    ran = stored.run([sys.executable, "-c", program], dict(os.environ))
    assert ran.stdout == b"x" * 300_000
    assert ran.seconds > 0.2


def test_a_run_that_fails_is_no_figure() -> None:
    """A command that ends with another status than 0, or prints something else than it should, is not counted."""
    failing = [sys.executable, "-c", "print('s'); raise SystemExit(3)"]
    with pytest.raises(RunFailedError, match="exit status 3"):
        stored.run(failing, dict(os.environ))
    row = stored_token.Row("odd", [sys.executable, "-c", "print('other')"], dict(os.environ), "", "expected")
    with pytest.raises(RunFailedError, match="odd: another stdout"):
        row.run()


def test_turns_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything runs once per round, each round begins with another, and the first round is not counted."""
    ran: list[str] = []

    def once(key: str) -> Ran:
        ran.append(key)
        return Ran(float(len(ran)), 0.0, b"")

    seconds = stored.in_turns({key: lambda key=key: once(key) for key in "abc"}, 3)  # type: ignore[misc]
    assert "".join(ran) == "abc" + "bca" + "cab" + "abc"
    assert seconds == {"a": [6.0, 8.0, 10.0], "b": [4.0, 9.0, 11.0], "c": [5.0, 7.0, 12.0]}
    assert "round 3 of 3 done" in capsys.readouterr().err


def test_peak_memory_is_the_commands_own() -> None:
    """What the bench itself has resident is not counted; what the command has, is."""
    ours = bytearray(64 << 20)
    small, large = (stored.peak([sys.executable, "-c", f"b'x' * {size << 20}"], dict(os.environ)) for size in (0, 48))
    assert len(ours) == 64 << 20
    assert small < 40
    assert 44 < large - small < 56


def test_no_ratio_of_few_runs() -> None:
    """With ten runs there is a ratio, of medians; with nine there is none."""
    assert times([2.0] * 10, [3.0] * 10) == "1.50"
    assert times([2.0] * 9, [3.0] * 10) == ""


def test_callers_are_timed_one_by_one() -> None:
    """Of callers at once it is known when each had its token, counted from a moment that is known afterwards."""
    program = "import os, time; time.sleep(0.1); os.write(1, b'token')"
    begun = time.monotonic()
    race = stored_growth._race([sys.executable, "-c", program], dict(os.environ), 3, lambda: begun)
    assert len(race.served) == len(race.processor) == 3
    assert all(0.1 < one < 60 for one in race.served)
    assert race.processor == sorted(race.processor)


@pytest.mark.parametrize("program", ["print(__import__('os').getpid())", "", "print('token'); raise SystemExit(4)"])
def test_callers_that_are_not_all_served(program: str) -> None:
    """Where callers print different tokens, none, or fail, there is no figure."""
    with pytest.raises(RunFailedError, match="2 callers: not all got the same token"):
        stored_growth._race([sys.executable, "-c", program], dict(os.environ), 2, lambda: 0.0)


def test_a_refresh_in_its_parts(tmp_path: Path) -> None:
    """The parts of a refresh make the whole of it, every home is refreshed, and the server says when it answered."""
    with far_process("stored_server", "0") as server:
        server.heard()
        homes = [server.ask(f"account {tmp_path}") for _ in range(2)]
        command = [sys.executable, "-m", "tests.speed.stored_refresh", "2", *homes]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        answers = json.loads(server.ask("answered"))
    assert list(found) == homes
    for rounds in found.values():
        assert len(rounds) == 2
        for one in rounds:
            parts = [one[key] for key in ("connecting", "exchange", "synced", "store")]
            assert all(part > 0 for part in parts)
            assert sum(parts) == pytest.approx(one["whole"])
    assert len(answers) == 6
    assert answers == sorted(answers)
