"""A login spends its code by the same steps: what has come is never lost, and what has not leaves nothing behind."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from loopback_auth import folders, two_step
from loopback_auth.clock import Moment
from loopback_auth.grant import Grant, intent_of
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.servers import sandbox_at
from tests.faults.aftermath import nothing_in_clear
from tests.faults.commands import run
from tests.faults.injector import Fault
from tests.faults.machine import Far, made_home, store_of
from tests.faults.worker import Outcome, Worker
from tests.walker import Walker


def allowed(far: Far, home: Path) -> str:
    """Start a login, click Allow, and return the redirect URL: the code is as good as spent."""
    accounts = folders.accounts({"LOOPBACK_AUTH_HOME": str(home)})
    server = sandbox_at(far.sandbox.port)
    url, _ = two_step.start(
        "default",
        ClientRegistration(
            server=server,
            client_id="sandbox",
            redirect_uri="http://127.0.0.1:1/",
            token_endpoint_auth_method="client_secret_basic",
        ),
        accounts_folder=accounts,
        store=store_of(home),
        secret_reference={"preset": True},
        timeout=60,
    )
    walker = Walker()
    walker.stop_before = lambda url: url.startswith("http://127.0.0.1:1/")
    walker.open(url.reveal()).log_in("cafe-roma", "espresso").decide("allow")
    assert walker.redirected_to is not None
    return walker.redirected_to


def finish(far: Far, homes: Path, number: int, worker: Worker, fault: Fault | None) -> tuple[Path, Outcome]:
    home = made_home(homes / f"login-{number}", sealed=far.seals)
    redirect = allowed(far, home)
    survivors = home / "survivors"
    outcome = worker.run(home, "finish", fault, survivors=survivors, pasted=redirect)
    if survivors.exists():
        for file in (home / "accounts" / "default").iterdir():
            file.unlink()
        for file in (survivors / "default").iterdir():
            file.rename(home / "accounts" / "default" / file.name)
    return home, outcome


def test_a_login_that_ends_anywhere(either: Far, worker: Worker, homes: Path) -> None:
    """Killed, or cut off from power, at each call from sending on: the next command has a token, or nothing is left.

    Nothing of it is in clear in a sealed store, where a kill at every second call must do: a power cut leaves no more.
    """
    far = either
    home, calm = finish(far, homes, 0, worker, None)
    assert calm.error is None, calm
    sent = calm.calls.index("send socket")
    kept = next(n for n, call in enumerate(calm.calls) if n > sent and call.startswith("fsync default/login-"))
    lost = 0
    for what in ("kill",) if far.seals else ("kill", "cut", "cut-names"):
        for number in range(sent, len(calm.calls), 2 if far.seals else 1):
            home, outcome = finish(far, homes, len(calm.calls) * len(what) + number, worker, Fault(what, number))
            assert outcome.signal == signal.SIGKILL
            if far.seals:
                nothing_in_clear(home)
            after = worker.run(home)
            where = (what, number, calm.calls[number - 1], after)
            folder = home / "accounts" / "default"
            if after.error is None:
                assert after.value is not None
                assert far.takes(after.value), where
                if {path.name for path in folder.iterdir()} - {"tokens", "lock"}:
                    assert worker.run(home, "force").error is None
                assert {path.name for path in folder.iterdir()} - {"lock"} == {"tokens"}, where
            else:
                assert after.message == "there is no account called default", where
                assert number <= kept + 1, where
                lost += number > sent + 1
    assert lost <= 3 * 3


def test_a_killed_login_is_finished_by_the_next(far: Far, worker: Worker, homes: Path) -> None:
    """The tokens had come when it was killed: `login` again finds them, opens no browser, and is done."""
    home, calm = finish(far, homes, 1, worker, None)
    after_answer = next(
        number
        for number, call in enumerate(calm.calls)
        if call.startswith("fsync default/login-") and number > calm.calls.index("send socket")
    )
    home, outcome = finish(far, homes, 2, worker, Fault("kill", after_answer + 2))
    assert outcome.signal == signal.SIGKILL
    flags = ("--authorization-endpoint", "http://127.0.0.1:1/a", "--token-endpoint")
    endpoint = sandbox_at(far.sandbox.port).token_endpoint
    ended = run(home, "login", *flags, endpoint, "--client-id", "sandbox")
    assert ended.status == 0, ended
    assert "is logged in already" in ended.stderr


def test_a_login_on_a_failing_disk(either: Far, worker: Worker, homes: Path) -> None:
    """The store fails just when the tokens came: 8, it says that nothing is lost, and the next command has a token."""
    far = either
    home, calm = finish(far, homes, 3, worker, None)
    before = calm.calls[: calm.calls.index("send socket")]
    first_after = 1 + len([call for call in before if call.startswith("rename ")])
    home, outcome = finish(far, homes, 4, worker, Fault("ENOSPC", first_after, "rename", for_ever=True))
    assert (outcome.error, outcome.exit_status) == ("TokensNotStored", 8), outcome
    assert "the tokens came" in outcome.message
    assert run(home, "refresh").status == 0  # as its hint says
    after = worker.run(home)
    assert after.value is not None
    assert far.takes(after.value)


def test_a_login_is_not_adopted_twice(far: Far, worker: Worker, homes: Path) -> None:
    """What a login left that was stored, and has been refreshed since, never comes back."""
    home, calm = finish(far, homes, 5, worker, None)
    assert calm.error is None
    store = store_of(home)
    stored = store.load("default")
    assert stored is not None
    assert stored.tokens.refresh_token is not None
    grant = Grant(account="default", registration=stored.registration, client_secret=stored.client_secret)
    body = {"access_token": "s3kr1t-old", "refresh_token": stored.tokens.refresh_token.reveal(), "expires_in": 3600}
    before = Moment(stored.logged_in_at - 1, stored.received.boot_id, stored.received.uptime - 1)
    with store.login_journal("default") as journal:
        journal.prove()
        journal.arm(intent_of(grant, before))
        journal.stage(json.dumps(body).encode())
        journal.sync()
    for _ in range(2):
        assert worker.run(home, "force").error is None
        now = store.load("default")
        assert now is not None
        assert now.tokens.refresh_token != stored.tokens.refresh_token
    assert {path.name for path in (home / "accounts" / "default").iterdir()} == {"tokens", "lock"}
