"""Every answer that a token endpoint can give, and every one it can fail to give: what is spent, and what follows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from loopback_auth import machine
from loopback_auth.sandbox.faults import FAULTS
from tests.faults.aftermath import LOST
from tests.faults.commands import end, run, start
from tests.faults.machine import Far, far_side
from tests.faults.worker import Worker


class Follows(NamedTuple):
    """What a command says that meets a fault once, how often the token was presented by then, and what comes next."""

    error: str | None
    presented: int
    then: str | None = None
    """The error of the next command, which meets no fault; None: it has a token."""


ARRIVES = Follows(None, 1)
LOST_AND_SAID = Follows("LoginRequired", 2, "LoginRequired")
HEALED = Follows(None, 1)  # what was presented first was not processed, so it is not counted
CONFIGURATION = Follows("TokenEndpointError", 0)
TABLE = {
    "slow": ARRIVES,
    "gzip": ARRIVES,
    "cut": ARRIVES,
    "no-refresh-token": ARRIVES,
    **dict.fromkeys((name for name in FAULTS if name.startswith("expires-")), ARRIVES),
    **dict.fromkeys(
        ("drop", "reset", "truncate", "html", "empty", "garbage", "late-500", "late-502", "late-503", "late-504"),
        LOST_AND_SAID,
    ),
    **dict.fromkeys(("500", "502", "503", "504", "refuse-drop", "endless", "big"), HEALED),
    **dict.fromkeys(("429-retry-after", "503-retry-after", "503-retry-date"), HEALED),
    "429": Follows("ServerUnavailable", 0),
    **dict.fromkeys(
        (
            "redirect", "404", "408", "invalid-client", "unauthorized-client", "invalid-request",
            "unsupported-grant-type", "invalid-scope",
        ),
        CONFIGURATION,
    ),
    "invalid-grant": Follows("LoginRequired", 0, "LoginRequired"),
}  # fmt: skip
TOO_SLOW = {"hang", "trickle"}  # they have a test of their own


@contextmanager
def hurting(folder: Path, fault: str, count: int = 1, **also: object) -> Iterator[Far]:
    """A sandbox whose first `count` token answers are hurt."""
    settings = {"faults": fault, "fault_count": count, "slow_seconds": 0.1, "retry_after": 1, **also}
    with far_side(folder / "sandbox", **settings) as far:
        yield far


def test_the_table_is_whole() -> None:
    """Each fault that the sandbox knows has its row."""
    assert set(TABLE) | TOO_SLOW == set(FAULTS)


@pytest.mark.parametrize("fault", sorted(TABLE))
def test_what_follows(fault: str, worker: Worker, homes: Path) -> None:
    """Spent or not, in doubt or settled: each answer has the consequence that the table says, for `token` and after."""
    follows = TABLE[fault]
    with hurting(homes, fault) as far:
        trial = far.account(homes)
        first = worker.run(trial.home)
        assert first.error == follows.error, first
        assert far.presented(trial.refresh_token) == follows.presented
        if follows == LOST_AND_SAID:
            assert first.message.startswith(LOST)
        if first.value is not None:
            assert far.takes(first.value)
        after = worker.run(trial.home)
        assert after.error == follows.then, after
        assert far.presented(trial.refresh_token) == max(follows.presented, follows.then is None)
        if follows.then is None:
            stored = trial.stored
            assert after.value is not None
            assert far.takes(after.value)
            assert stored.tokens.refresh_token is not None
            assert far.would_refresh(stored.tokens.refresh_token.reveal())
            assert trial.files() == set()
        else:
            assert trial.stored.tokens.refresh_token is not None
            assert trial.stored.tokens.refresh_token.reveal() == trial.refresh_token


@pytest.mark.parametrize("fault", ["500", "endless", "refuse-drop"])
def test_in_doubt_twice(fault: str, worker: Worker, homes: Path) -> None:
    """Sent twice without an answer: exit status 10, and nothing is sent any more until a person asks for it."""
    with hurting(homes, fault, 2) as far:
        trial = far.account(homes)
        for _ in range(3):
            outcome = worker.run(trial.home)
            assert (outcome.error, outcome.exit_status) == ("OutcomeUnknown", 10)
        assert far.sandbox.token_requests["refresh_token"] == 2
        shown = run(trial.home, "status", "--check", "--json")
        assert shown.status == 4
        assert shown.json[0]["state"] == "outcome unknown"
        assert shown.json[0]["last_error"]["message"] == outcome.message
        assert {"intent", "answer"} <= trial.files()
        if fault == "endless":  # nothing is thrown away
            assert len((trial.folder / "answer").read_bytes().rstrip(b"\0")) == 64 * 1024
            assert len((trial.folder / "answer.1").read_bytes().rstrip(b"\0")) == 64 * 1024
        healed = run(trial.home, "refresh", "--resend")
        assert healed.status == 0, healed
        assert far.presented(trial.refresh_token) == 1
        assert trial.files() == set()
        assert run(trial.home, "status", "--check").status == 0


def test_not_before_the_server_wants(worker: Worker, homes: Path) -> None:
    """After a Retry-After that is too long to sit out nothing is sent before it is over, and then it is."""
    with hurting(homes, "429-retry-after", 1, retry_after=600) as far:
        trial = far.account(homes)
        assert worker.run(trial.home).error == "ServerUnavailable"
        for jump in (0, 590):
            assert worker.run(trial.home, jump=jump).error == "ServerUnavailable"
        assert far.sandbox.token_requests["refresh_token"] == 1
        assert worker.run(trial.home, jump=601).error is None


def test_a_person_may_insist(worker: Worker, homes: Path) -> None:
    """`refresh --force` asks a server that wanted to be left alone; one account's trouble is not another's."""
    with hurting(homes, "429-retry-after", 1, retry_after=600) as far:
        trial = far.account(homes)
        assert worker.run(trial.home).error == "ServerUnavailable"
        assert worker.run(trial.home, "force").error is None
        other = far.account(homes)
        assert far.sandbox.token_requests["refresh_token"] == 2
        assert worker.run(other.home).error is None


@pytest.mark.parametrize("jump", [-10 * 365 * 86400, -3600, 3600, 10 * 365 * 86400])
def test_clocks_that_jump(jump: float, far: Far, worker: Worker, homes: Path) -> None:
    """An hour or ten years, forward or back: a good token is good, an expired one is refreshed, once."""
    good, expired = far.account(homes, age=0), far.account(homes)
    for _ in range(2):
        outcome = worker.run(good.home, jump=jump)
        assert outcome.value == good.stored.tokens.access_token.reveal()
    assert far.presented(good.refresh_token) == 0
    first = worker.run(expired.home, jump=jump)
    assert first.value is not None
    assert worker.run(expired.home, jump=jump).value == first.value
    assert worker.run(expired.home).value == first.value
    assert far.presented(expired.refresh_token) == 1


@pytest.mark.parametrize("fault", sorted(name for name in FAULTS if name.startswith("expires-")))
def test_odd_lifetimes_are_no_storm(fault: str, worker: Worker, homes: Path) -> None:
    """Whatever `expires_in` says, five calls in a row spend once."""
    with far_side(homes / "sandbox", faults=fault) as far:
        trial = far.account(homes)
        tokens = {worker.run(trial.home).value for _ in range(5)}
        assert len(tokens) == 1
        assert far.sandbox.token_requests["refresh_token"] == 1


def test_bodies_without_end(homes: Path) -> None:
    """200 MB, no end at all, a byte per second, no answer: below 120 MB of memory and 20 seconds, and in doubt."""
    mib = 1024 * 1024
    cases = ["big", "endless", "trickle", "hang"]
    with ExitStack() as stack:
        servers = [stack.enter_context(far_side(homes / f"sandbox-{fault}", faults=fault)) for fault in cases]
        trials = [far.account(homes / fault) for far, fault in zip(servers, cases, strict=True)]
        begun = time.monotonic()
        running = [start(trial.home, "token") for trial in trials]
        most = dict.fromkeys(cases, 0)
        while any(process.poll() is None for process in running):
            for fault, process in zip(cases, running, strict=True):
                most[fault] = max(most[fault], peak(process.pid))
            time.sleep(0.02)
        assert time.monotonic() - begun < 20
        for fault, process, trial in zip(cases, running, trials, strict=True):
            said = end(process).stderr
            assert process.returncode == 10, (fault, said)
            assert 10 * mib < most[fault] < 120 * mib
            assert "the next command" in said or "--resend" in said
            if fault == "trickle":
                assert (trial.folder / "answer").read_bytes().startswith(b'{"access_token"')


def peak(process: int) -> int:
    """Return the most memory that a process has had resident so far, in bytes; 0 where it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def test_tokens_go_where_they_came_from(far: Far, homes: Path) -> None:
    """Whatever config says of the server by now, a refresh token goes to the token endpoint that it came from."""
    trial = far.account(homes)
    elsewhere = 'authorization_endpoint = "http://127.0.0.1:1/a"\ntoken_endpoint = "http://127.0.0.1:1/t"\n'
    (trial.home / "config.toml").write_text(f"[servers.sandbox]\n{elsewhere}")
    refreshed = run(trial.home, "refresh", "--force")
    assert (refreshed.status, refreshed.errors) == (0, [])
    assert far.presented(trial.refresh_token) == 1


def test_an_account_of_another_machine(far: Far, homes: Path) -> None:
    """It is refused before anything is sent, though its access token is good for use; `--moved` makes it this one's."""
    if machine.identity() is None:
        pytest.skip("this machine has no name")
    trial = far.account(homes, machine="0" * 32)
    refused = run(trial.home, "token")
    assert refused.status == 4
    assert refused.hints[1].endswith(": loopback-auth refresh default --moved")
    assert run(trial.home, "status", "--check").status == 4
    assert far.presented(trial.refresh_token) == 0
    good = far.account(homes, age=0, machine="0" * 32)
    assert run(good.home, "token").status == 0
    assert run(trial.home, "refresh", "--moved").status == 0
    assert far.presented(trial.refresh_token) == 1
    assert trial.stored.machine == machine.identity()


def test_an_account_without_a_machine(far: Far, homes: Path) -> None:
    """None, no check: and from the next refresh on it has one."""
    trial = far.account(homes, machine=None)
    assert run(trial.home, "token").status == 0
    assert trial.stored.machine == machine.identity()
