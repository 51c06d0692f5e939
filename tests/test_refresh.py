"""A usable access token: when the stored one will do, and spending a refresh token exactly once when it will not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth import background, clock
from loopback_auth.clock import Moment
from loopback_auth.errors import (
    ConfigurationError,
    LoginRequired,
    LoopbackAuthError,
    OutcomeUnknown,
    ServerUnavailable,
    StoreNotWritable,
    TokenEndpointUnreachable,
)
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.refresh import TokenSource
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Intent
from loopback_auth.store.file import FileStore
from loopback_auth.store.head import Head
from loopback_auth.usable import SPEND_INTERVAL, is_usable, seconds_left, usable, usable_now
from tests.endpoints.servers import TokenServer, http, listening, says, token_server
from tests.store.accounts import ACCESS, BOOT, REFRESH, REGISTRATION, account

RECEIVED = Moment(1_700_000_000.25, BOOT, 4711.5)
HOUR, YEAR = 3600.0, 365 * 86400.0


def after(seconds: float, wall_clock: float | None = None, boot: str = BOOT) -> Moment:
    """Return the moment so many seconds later, with the wall clock where somebody has put it."""
    return Moment(RECEIVED.unix + (seconds if wall_clock is None else wall_clock), boot, RECEIVED.uptime + seconds)


def good_at(now: Moment, lifetime: int | None, by: str = "login", min_validity: float = 60) -> bool:
    expires_at = None if lifetime is None else int(RECEIVED.unix) + lifetime
    return is_usable(Head(expires_at, RECEIVED, by, ACCESS), now, min_validity)


# --- usable now? ---


@pytest.mark.parametrize(
    ("lifetime", "age", "min_validity", "usable"),
    [
        (3600, 0, 60, True),
        (3600, 3540, 60, True),
        (3600, 3541, 60, False),
        (3600, 3600, 60, False),
        (3600, 5000, 60, False),
        (3600, 3000, 600, True),
        (3600, 3001, 600, False),
        (3600, 3599, 1, True),
        (None, 10 * YEAR, 60, True),
    ],
)
def test_a_token_is_used_until_a_minute_before_its_end(
    lifetime: int | None, age: float, min_validity: float, usable: bool
) -> None:
    """60 seconds, or what is asked for, must be left; where the server says no end, there is none."""
    assert good_at(after(age), lifetime, min_validity=min_validity) is usable


@pytest.mark.parametrize(
    ("lifetime", "by", "age", "usable"),
    [
        (45, "refresh", 0, True),
        (45, "refresh", 29.9, True),
        (45, "refresh", 30, False),
        (20, "refresh", 19.9, True),
        (20, "refresh", 20, False),
        (45, "login", 0, False),
        (0, "login", 0, True),
        (0, "login", 29.9, True),
        (0, "login", 30, False),
        (0, "refresh", 29.9, True),
        (0, "refresh", 30, False),
    ],
)
def test_a_short_lifetime_is_no_refresh_storm(lifetime: int, by: str, age: float, usable: bool) -> None:
    """A token shorter than a minute, or of no length at all, is used for 30 seconds after a refresh before another."""
    assert good_at(after(age), lifetime, by) is usable


@pytest.mark.parametrize("lifetime", [0, 1, 5, 29, 31, 59, 61, 3600])
def test_how_often_a_busy_caller_refreshes(lifetime: int) -> None:
    """A caller that asks once a second spends at most one refresh per 30 seconds, if lifetimes allow it at all."""
    spends, received = 0, 0
    for now in range(600):
        age = now - received
        head = Head(int(RECEIVED.unix) + lifetime, RECEIVED, "refresh", ACCESS)
        if not is_usable(head, after(age), 60):
            spends, received = spends + 1, now
    longest = max(SPEND_INTERVAL, lifetime - 60) if lifetime == 0 or lifetime > 30 else lifetime
    assert spends <= 600 / longest + 1


@pytest.mark.parametrize("jump", [-10 * YEAR, -HOUR, HOUR, 10 * YEAR])
@pytest.mark.parametrize(("age", "usable"), [(10, True), (3550, False)])
def test_the_wall_clock_may_jump_within_a_boot(jump: float, age: float, usable: bool) -> None:
    """An hour or ten years, forward or back: within one boot a token is as old as the uptime says."""
    assert good_at(after(age, wall_clock=age + jump), 3600) is usable


@pytest.mark.parametrize(
    ("elapsed", "usable"),
    [(0, True), (3540, True), (3541, False), (10 * YEAR, False), (-1, False), (-10 * YEAR, False)],
)
def test_across_boots_the_wall_clock_is_believed(elapsed: float, usable: bool) -> None:
    """After a reboot the wall clock counts; set back, nobody knows how old the token is, and it is not used."""
    assert good_at(after(5, wall_clock=elapsed, boot="another"), 3600) is usable


def test_a_token_without_an_end_from_the_future() -> None:
    """Received after now, across a boot: not used, end or no end."""
    assert not good_at(after(5, wall_clock=-1, boot="another"), None)


@given(
    st.none() | st.integers(0, 10**9), st.floats(-1e9, 1e9), st.floats(0, 1e9), st.sampled_from(["login", "refresh"])
)
def test_a_token_past_its_end_is_never_used(lifetime: int | None, age: float, min_validity: float, by: str) -> None:
    """Whatever the figures, a token is used past its end only where its lifetime was nonsense, and then briefly."""
    if good_at(after(age), lifetime, by, min_validity):
        assert age >= -0.5
        assert lifetime is None or age < lifetime + 1 or (lifetime == 0 and age <= SPEND_INTERVAL)


def test_an_account_is_judged_as_its_first_line() -> None:
    """The full path and the fast path agree."""
    for age in (0, 3500, 3539, 3541, 3600):
        assert usable(account(received=RECEIVED), after(age), 60) is good_at(after(age), 3600)
    assert seconds_left(account(received=RECEIVED), after(600)) == 3000
    assert seconds_left(account(received=RECEIVED), after(4000)) == 0
    assert seconds_left(account(received=RECEIVED, expires_in=None), after(600)) is None
    assert seconds_left(account(received=RECEIVED), after(5, wall_clock=-1, boot="another")) == 0


@pytest.fixture
def store(tmp_path: Path) -> Accounts:
    return Accounts(FileStore(str(tmp_path / "home" / "accounts")))


@pytest.fixture
def folder(store: Accounts) -> str:
    return store.address.removeprefix("file:")


def ago(seconds: float) -> Moment:
    """Return the moment so many seconds before now; negative: after it."""
    now = clock.now()
    return Moment(now.unix - seconds, now.boot_id, now.uptime - seconds)


def fresh(**changes: Any) -> Account:
    """Return an account whose access token was received just now."""
    return account(**{"received": clock.now(), **changes})


def expired(**changes: Any) -> Account:
    """Return an account whose access token was received two hours ago."""
    return account(**{"received": ago(7200), "refresh_token_at": ago(7200).unix, **changes})


def test_usable_now_reads_two_lines(store: Accounts, folder: str) -> None:
    """A good token is returned, an expired one is not."""
    store.save(fresh())
    assert usable_now(folder, "default") == ACCESS
    assert usable_now(folder, "default", min_validity=3700) is None
    store.save(expired())
    assert usable_now(folder, "default") is None


@pytest.mark.parametrize("what", ["absent", "no name", "damaged", "not a number", "unsafe", "folder", "odd", "mac"])
def test_usable_now_leaves_the_rest_to_the_full_path(store: Accounts, folder: str, what: str) -> None:
    """Absent, damaged, unsafe, not printable, not Bearer: no token and no exception."""
    store.save(fresh())
    tokens = Path(folder, "default", "tokens")
    match what:
        case "absent":
            tokens.unlink()
        case "damaged":
            tokens.write_bytes(b"\xff" * 10)
        case "not a number":
            lines = tokens.read_bytes().split(b"\n")
            words = lines[0].split(b" ")
            tokens.write_bytes(b"\n".join([b" ".join([*words[:3], b"nan", *words[4:]]), *lines[1:]]))
        case "unsafe":
            tokens.chmod(0o644)
        case "folder":
            tokens.unlink()
            tokens.mkdir()
        case "odd":
            store.save(fresh(access_token=Secret("s3kr1t-\nline")))
        case "mac":
            store.save(fresh(token_type="mac"))
    assert usable_now(folder, "../default" if what == "no name" else "default") is None


def test_usable_now_imports_nothing_heavy(store: Accounts, folder: str) -> None:
    """The way of most calls of `token` loads neither asyncio nor click, json, aiohttp, authlib nor dataclasses."""
    store.save(fresh())
    program = (
        "import sys; before = set(sys.modules)\n"
        "from loopback_auth.usable import usable_now\n"
        "assert usable_now(sys.argv[1], 'default')\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    shown = subprocess.run([sys.executable, "-S", "-c", program, folder], env=child_environment(), capture_output=True)
    assert shown.stderr == b""
    heavy = {"asyncio", "click", "json", "aiohttp", "authlib", "dataclasses", "logging", "ssl", "socket", "subprocess"}
    heavy |= {"tomllib", "inspect", "hashlib", "importlib", "pathlib", "cryptography", "urllib", "tempfile", "decimal"}
    assert heavy.isdisjoint(shown.stdout.decode().split())


def child_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a child that runs this very package, and knows nothing of the user's own."""
    import loopback_auth

    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPBACK_AUTH_")}
    path = [str(Path(loopback_auth.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), **variables}


# --- refreshing ---


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with token_server() as server:
        yield server


def at(url: str) -> ClientRegistration:
    return replace(REGISTRATION, server=replace(REGISTRATION.server, token_endpoint=url))


def stored_bytes(store: Accounts) -> bytes:
    return Path(store.address.removeprefix("file:"), "default", "tokens").read_bytes()


def source(store: Accounts, **settings: Any) -> TokenSource:
    return TokenSource("default", store, **{"client_secret": lambda _account: Secret("s3kr1t-client"), **settings})


def loaded(store: Accounts) -> Account:
    found = store.load("default")
    assert found is not None
    return found


async def test_a_good_token_needs_nobody(store: Accounts) -> None:
    """No lock, no network, no client secret: the stored token is the answer, and nothing is written."""

    def never(_account: Account) -> Secret:
        pytest.fail("nobody needs the client secret")

    store.save(fresh(registration=at("http://127.0.0.1:1/token")))
    with store.lock("default") as lock:
        assert lock.try_acquire()
        assert await source(store, client_secret=never).token() == Secret(ACCESS)
        assert (await source(store, client_secret=never).refresh()).generation == 1


async def test_an_expired_token_is_refreshed(store: Accounts, server: TokenServer) -> None:
    """One spend, and the whole new token set is durable: generation, age, who got it, and the rotated refresh token."""
    before = expired(registration=at(server.url), scope="a b", company={"id": "1", "name": "A"})
    store.save(before)
    assert await source(store).token() == Secret("s3kr1t-access-1")
    assert server.bodies == [{"grant_type": "refresh_token", "refresh_token": REFRESH}]
    assert server.authorizations[0] is not None
    assert server.authorizations[0].startswith("Basic ")
    after_ = loaded(store)
    assert (after_.generation, after_.received_by) == (2, "refresh")
    assert after_.tokens.refresh_token == Secret("s3kr1t-refresh-1")
    assert after_.refresh_token_at == pytest.approx(after_.received.unix)
    assert clock.seconds_between(after_.received, clock.now()) < 10
    assert after_.tokens.scope == "a b"
    assert (after_.registration, after_.company, after_.logged_in_at) == (
        before.registration,
        before.company,
        before.logged_in_at,
    )
    assert await source(store).token() == Secret("s3kr1t-access-1")
    assert server.presented == {REFRESH: 1}


async def test_without_a_new_refresh_token_the_old_one_stays(store: Accounts, server: TokenServer) -> None:
    """RFC 6749 §6: an answer without refresh_token leaves the old one, and its age."""
    server.rotates = False
    before = expired(registration=at(server.url))
    store.save(before)
    assert await source(store).token() == Secret("s3kr1t-access-1")
    assert loaded(store).tokens.refresh_token == Secret(REFRESH)
    assert loaded(store).refresh_token_at == before.refresh_token_at


async def test_a_forced_refresh_spends_although_the_token_is_good(store: Accounts, server: TokenServer) -> None:
    """With `force` each call spends once, without it none does."""
    store.save(fresh(registration=at(server.url)))
    assert (await source(store).refresh()).generation == 1
    assert (await source(store).refresh(force=True)).generation == 2
    assert (await source(store).refresh(force=True)).generation == 3
    assert server.presented == {REFRESH: 1, "s3kr1t-refresh-1": 1}


async def test_callers_of_one_process_share_a_refresh(store: Accounts, server: TokenServer) -> None:
    """Twenty tasks at once: one spend, one token."""
    server.delay = 0.05
    store.save(expired(registration=at(server.url)))
    one = source(store)
    tokens = await asyncio.gather(*(one.token() for _ in range(10)), *(source(store).token() for _ in range(10)))
    assert {token.reveal() for token in tokens} == {"s3kr1t-access-1"}
    assert server.presented == {REFRESH: 1}


async def test_ten_processes_spend_once(store: Accounts, server: TokenServer, tmp_path: Path) -> None:
    """Ten processes on an expired token: one spend at the server, and all print the same token."""
    server.delay = 0.3
    store.save(expired(registration=at(server.url)))
    environment = child_environment(LOOPBACK_AUTH_HOME=str(tmp_path / "home"), ACME_SECRET="s3kr1t-client")
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loopback_auth", "token"),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(10)
    ]
    outputs = await asyncio.gather(*(process.communicate() for process in started))
    assert {process.returncode for process in started} == {0}
    assert outputs == [(b"s3kr1t-access-1\n", b"")] * 10
    assert server.presented == {REFRESH: 1}
    assert server.authorizations == ["Basic czZCaGRSa3F0MzpzM2tyMXQtY2xpZW50"]
    assert loaded(store).generation == 2


async def test_a_waiter_takes_what_another_process_got(store: Accounts, server: TokenServer) -> None:
    """Who had to wait for the lock looks again, and finds a newer token instead of spending."""
    store.save(expired(registration=at(server.url)))
    with store.lock("default") as lock:
        assert lock.try_acquire()
        waiting = [asyncio.create_task(source(store).token()), asyncio.create_task(source(store).refresh(force=True))]
        await asyncio.sleep(0.05)
        store.save(fresh(registration=at(server.url), generation=2, access_token=Secret("s3kr1t-of-another")))
    token, refreshed = await asyncio.gather(*waiting)
    assert token == Secret("s3kr1t-of-another")
    assert isinstance(refreshed, Account)
    assert refreshed.generation == 2
    assert server.presented == {}


async def test_a_rejected_token_is_replaced(store: Accounts, server: TokenServer) -> None:
    """A caller that got a 401 for this very token gets another; who names an older one gets the one in hand."""
    store.save(fresh(registration=at(server.url)))
    assert await source(store).token(rejected=Secret("s3kr1t-older")) == Secret(ACCESS)
    callers = [source(store).token(rejected=Secret(ACCESS)) for _ in range(5)]
    assert {token.reveal() for token in await asyncio.gather(*callers)} == {"s3kr1t-access-1"}
    assert server.presented == {REFRESH: 1}


async def test_a_rejected_token_is_not_handed_out_again(store: Accounts) -> None:
    """A rejected token is no better than none: a server that cannot be reached is an error then."""
    store.save(fresh(registration=at(f"http://127.0.0.1:{free_port()}/token")))
    with pytest.raises(TokenEndpointUnreachable):
        await source(store).token(rejected=Secret(ACCESS))


async def test_a_lifetime_of_0_is_one_refresh_per_30_seconds(store: Accounts, server: TokenServer) -> None:
    """A server that says expires_in 0: asked five times in a row, one spend; and half a minute later, another."""
    server.lifetime = 0
    store.save(expired(registration=at(server.url)))
    for _ in range(5):
        assert await source(store).token() == Secret("s3kr1t-access-1")
    assert sum(server.presented.values()) == 1
    assert await source(store, now=lambda: ago(-31)).token() == Secret("s3kr1t-access-2")
    assert sum(server.presented.values()) == 2


@pytest.mark.parametrize("lifetime", [None, "soon", -5, 1e300])
async def test_an_odd_lifetime_is_no_storm_either(store: Accounts, server: TokenServer, lifetime: object) -> None:
    """Whatever the server says of its token's life, three calls are one spend."""
    server.lifetime = lifetime
    store.save(expired(registration=at(server.url)))
    for _ in range(3):
        await source(store).token()
    assert sum(server.presented.values()) == 1


# --- what goes wrong ---


async def test_no_account(store: Accounts) -> None:
    """Nothing stored: a person must log in, and is told how."""
    for call in (source(store).token, source(store).refresh):
        with pytest.raises(LoginRequired) as caught:
            await call()
        assert str(caught.value) == "there is no account called default"
        assert caught.value.hint == ("log in first: loopback-auth login default",)
        assert caught.value.exit_status == 4


async def test_no_refresh_token(store: Accounts, server: TokenServer) -> None:
    """Expired, and the server never gave a refresh token: a person must log in."""
    store.save(expired(registration=at(server.url), refresh_token=None))
    with pytest.raises(LoginRequired, match="has expired, and the server gave no refresh token"):
        await source(store).token()
    assert server.presented == {}


async def test_a_refused_refresh_token_stays_on_disk(store: Accounts, server: TokenServer) -> None:
    """invalid_grant: a person must log in, and the account is byte for byte as it was."""
    server.refuses = "invalid_grant"
    store.save(expired(registration=at(server.url)))
    before = stored_bytes(store)
    with pytest.raises(LoginRequired) as caught:
        await source(store).token()
    assert str(caught.value) == "the token endpoint refused (invalid_grant)"
    assert caught.value.hint == ("log in again: loopback-auth login default --force",)
    assert stored_bytes(store) == before
    assert server.presented == {REFRESH: 1}


async def test_a_refused_client_spends_nothing(store: Accounts, server: TokenServer) -> None:
    """invalid_client: exit status 3, the account as it was, and the next call may send again."""
    server.refuses = "invalid_client"
    store.save(expired(registration=at(server.url)))
    with pytest.raises(LoopbackAuthError) as caught:
        await source(store).token()
    assert caught.value.exit_status == 3
    server.refuses = None
    assert await source(store).token() == Secret("s3kr1t-access-2")


async def test_a_missing_client_secret_is_told_before_anything_is_sent(store: Accounts, server: TokenServer) -> None:
    """A secret that cannot be fetched is a configuration error; the refresh token stays unspent."""

    def gone(_account: Account) -> Secret:
        raise ConfigurationError("the client_secret is missing")

    store.save(expired(registration=at(server.url)))
    with pytest.raises(ConfigurationError):
        await source(store, client_secret=gone).token()
    assert server.presented == {}


def nearly_expired(**changes: Any) -> Account:
    """Return an account whose access token is good for another 30 seconds."""
    return account(received=ago(3570), **changes)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("response", ["refused", "429", "503", "500", "html", "invalid_grant"])
async def test_a_failed_refresh_with_a_token_in_hand_is_a_warning(store: Accounts, response: str) -> None:
    """While the access token is good, a refresh that fails for any reason costs a warning, nothing more."""
    answers = {
        "429": (http(b"", "429 Slow down"), ServerUnavailable),
        "503": (http(b"", "503 Away", "Retry-After: 5"), ServerUnavailable),
        "500": (http(b"", "500 Error"), OutcomeUnknown),
        "html": (http(b"<html>"), OutcomeUnknown),
        "refused": (b"", TokenEndpointUnreachable),
        "invalid_grant": (http(b'{"error": "invalid_grant"}', "400 Bad Request"), LoginRequired),
    }
    said, kind = answers[response]
    warnings: list[LoopbackAuthError] = []
    async with listening(says(said)) as server:
        url = f"http://127.0.0.1:{free_port()}/token" if response == "refused" else server.url
        before = nearly_expired(registration=at(url))
        store.save(before)
        assert await source(store, warn=warnings.append).token() == Secret(ACCESS)
        assert [type(warning) for warning in warnings] == [kind]
        assert loaded(store).generation == 1
        with pytest.raises(kind):
            await source(store, warn=warnings.append).refresh(force=True)
        store.save(expired(registration=at(url)))
        with pytest.raises(kind):
            await source(store, warn=warnings.append).token()
        assert len(warnings) == 1


async def test_a_busy_account_sends_nothing(store: Accounts, server: TokenServer) -> None:
    """While another process holds the lock nothing is sent, and who stops waiting has spent nothing."""
    store.save(expired(registration=at(server.url)))
    with store.lock("default") as lock:
        assert lock.try_acquire()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source(store).token(), 0.2)
    assert server.presented == {}
    assert await source(store).token() == Secret("s3kr1t-access-1")


async def test_a_store_that_cannot_be_proven_spends_nothing(store: Accounts, folder: str, server: TokenServer) -> None:
    """The store is proven before the refresh token leaves."""
    store.save(expired(registration=at(server.url)))
    os.mkdir(os.path.join(folder, "default", f"probe.{os.getpid()}.{os.getpid()}.new"))
    with pytest.raises(StoreNotWritable):
        await source(store).token()
    assert server.presented == {}


async def test_a_cancelled_caller_still_commits(store: Accounts, server: TokenServer) -> None:
    """Cancelled in mid-answer: the caller is free at once, others go on waiting, and the tokens are stored."""
    server.delay = 0.2
    store.save(expired(registration=at(server.url)))
    waiting, another = (asyncio.create_task(source(store).token()) for _ in range(2))
    await server.arrived.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not another.done()
    another.cancel()
    await background.settled()
    assert loaded(store).tokens.refresh_token == Secret("s3kr1t-refresh-1")
    assert await source(store).token() == Secret("s3kr1t-access-1")
    assert server.presented == {REFRESH: 1}


async def test_a_deadline_of_the_caller_still_commits(store: Accounts, server: TokenServer) -> None:
    """A caller's deadline that is over while the answer is under way is a time-out, and the tokens are durable."""
    server.delay = 0.2
    store.save(expired(registration=at(server.url)))

    async def expire(deadline: asyncio.Timeout) -> None:
        await server.arrived.wait()
        deadline.reschedule(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as deadline:
            expiring = asyncio.create_task(expire(deadline))
            await source(store).token()
    await expiring
    await background.settled()
    assert server.presented == {REFRESH: 1}
    assert loaded(store).generation == 2


@pytest.mark.parametrize("token_type", ["mac", "DPoP"])
async def test_a_token_that_is_not_bearer_is_kept_and_not_handed_out(store: Accounts, token_type: str) -> None:
    """A rotated refresh token is committed although the access token cannot be used."""
    body = json.dumps(
        {"access_token": "s3kr1t-new", "refresh_token": "s3kr1t-next", "token_type": token_type, "expires_in": 60}
    )
    async with listening(says(http(body.encode()))) as server:
        store.save(expired(registration=at(server.url)))
        with pytest.raises(ConfigurationError, match=f"is of type {token_type}, which cannot be used as Bearer"):
            await source(store).token()
    assert loaded(store).tokens.refresh_token == Secret("s3kr1t-next")


async def test_what_an_older_generation_left_is_removed(store: Accounts, server: TokenServer) -> None:
    """An intent about another token set, and its answer, have no say any more: they are removed, nothing is adopted."""
    store.save(expired(registration=at(server.url), generation=3))
    with store.journal("default") as journal:
        journal.prove()
        journal.arm(Intent(generation=2, digest="0" * 64, armed=clock.now()))
        journal.stage(b'{"access_token": "s3kr1t-stale", "refresh_token": "s3kr1t-stale", "expires_in": 3600}')
    assert await source(store).token() == Secret("s3kr1t-access-1")
    assert server.presented == {REFRESH: 1}
    assert loaded(store).generation == 4
    assert set(os.listdir(os.path.join(store.address.removeprefix("file:"), "default"))) == {"tokens", "lock"}
