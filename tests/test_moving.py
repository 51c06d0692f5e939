"""Moving an account between two stores: what goes with it, what is left alone, and who goes on where a move ended."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopback_auth import clock, login, machine, moving
from loopback_auth.cli import store_copy
from loopback_auth.errors import (
    ConfigurationError,
    LoginRequired,
    LoopbackAuthError,
    OutcomeUnknown,
    StoreBusy,
    StoreUnsafe,
)
from loopback_auth.grant import Grant, intent_of
from loopback_auth.refresh import TokenSource
from loopback_auth.secret import Secret
from loopback_auth.standing import is_copy, standing_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, Intent, Lock, Trouble
from loopback_auth.store.file import FileStore
from loopback_auth.store.journal import FileJournal
from loopback_auth.store.record import parse, serialise
from loopback_auth.store.transit import Transit, transit_of
from loopback_auth.usable import usable_now

from .faults.commands import environment, run
from .store.accounts import REGISTRATION, account
from .terminal.ptys import CTRL_C, Pty

ANSWER = b'{"access_token": "s3kr1t-new", "refresh_token": "s3kr1t-next", "expires_in": 3600}'


class Places:
    """Three stores side by side."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.here, self.there, self.third = (Accounts(FileStore(str(home / name))) for name in ("a", "b", "c"))

    def folder(self, store: Accounts) -> Path:
        return Path(store.address.removeprefix("file:"))

    async def move(self, source: Accounts | None = None, target: Accounts | None = None, **how: Any) -> Account:
        return await moving.move(source or self.here, target or self.there, "default", **how)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def kept(store: Accounts, name: str = "default") -> Account:
    loaded = store.load(name)
    assert loaded is not None
    return loaded


def keep(store: Accounts, **changes: Any) -> Account:
    """Store an account with an access token that is good, and return it as it is loaded."""
    store.save(account(**{"received": clock.now(), "machine": machine.identity(), **changes}))
    return kept(store, changes.get("name", "default"))


class Killed(BaseException):
    """Stands for the end of the process."""


class Interrupted(Accounts):
    """Accounts whose user is killed at the N-th change, just before it."""

    def __init__(self, store: Accounts, after: int) -> None:
        super().__init__(store.store)
        self._left = after

    def save(self, account: Account, replaces: int | None = None) -> None:
        self._count()
        super().save(account, replaces)

    def remove(self, name: str) -> bool:
        self._count()
        return super().remove(name)

    def _count(self) -> None:
        if self._left == 0:
            raise Killed
        self._left -= 1


async def begin(places: Places, *, here: int = 9, there: int = 9) -> None:
    """Move until there have been so many changes in each store."""
    with pytest.raises(Killed):
        await places.move(Interrupted(places.here, here), Interrupted(places.there, there))


# --- what goes with it ---


async def test_an_account_is_moved_as_it_is(places: Places) -> None:
    """Tokens, ages, generation, registration, company, secret reference: all but where it is; nothing stays behind."""
    before = keep(places.here, generation=7, company={"id": "4711", "name": "Cafe Roma"}, received_by="refresh")
    moved = await places.move()
    assert moved == before == kept(places.there)
    assert serialise(moved) == serialise(before)
    assert places.here.load("default") is None
    assert {path.name for path in (places.folder(places.here) / "default").iterdir()} == {"lock"}
    assert {path.name for path in (places.folder(places.there) / "default").iterdir()} == {"lock", "tokens"}


async def test_the_access_token_is_handed_out_all_the_time(places: Places) -> None:
    """By the source until it is removed there, by the target from then on, and by both while it is on its way."""
    token = keep(places.here).tokens.access_token.reveal()
    folders = [str(places.folder(store)) for store in (places.here, places.there)]
    for here, there in ((1, 1), (0, 9)):
        await begin(places, here=here, there=there)
        assert [usable_now(folder, "default") for folder in folders] == [token, token]
        for store in (places.here, places.there):
            source = TokenSource("default", store, client_secret=lambda _account: None)
            assert (await source.token()).reveal() == token
    await places.move()
    assert [usable_now(folder, "default") for folder in folders] == [None, token]


@pytest.mark.parametrize("refused", [False, True])
async def test_what_went_wrong_goes_along(places: Places, refused: bool) -> None:
    """A refresh token that was refused is known to be so in its new home, and a server's wish to wait holds there."""
    one = keep(places.here)
    noted = Trouble(generation=1, digest=one.digest, message="it is away", at=5.0, refused=refused, not_before=9.0)
    places.here.note("default", noted)
    before = standing_of(one, places.here, clock.now())
    moved = await places.move()
    assert places.there.trouble("default") == noted
    assert standing_of(moved, places.there, clock.now()) == before
    assert places.here.trouble("default") is None


async def test_what_a_killed_login_left_is_moved(places: Places) -> None:
    """Its tokens came and were not stored: they are the account, also where there was none before."""
    with places.here.login_journal("default") as journal:
        journal.prove()
        journal.arm(intent_of(Grant(account="default", registration=REGISTRATION, client_secret=None), clock.now()))
        journal.stage(ANSWER)
    moved = await places.move()
    assert moved.tokens.access_token.reveal() == "s3kr1t-new"
    assert kept(places.there) == moved
    assert places.here.login_journals("default") == []


async def test_an_answer_that_came_is_committed_first(places: Places) -> None:
    """A refresh that was killed with its answer staged: the next generation is moved."""
    one = keep(places.here)
    with places.here.journal("default") as journal:
        journal.prove()
        journal.arm(Intent(generation=1, digest=one.digest, armed=clock.now()))
        journal.stage(ANSWER)
    moved = await places.move()
    refresh_token = moved.tokens.refresh_token
    assert refresh_token is not None
    assert (moved.generation, refresh_token.reveal()) == (2, "s3kr1t-next")
    assert {path.name for path in (places.folder(places.here) / "default").iterdir()} == {"lock"}


# --- what is not moved ---


async def refused(places: Places, error: type[LoopbackAuthError], match: str, **how: Any) -> LoopbackAuthError:
    """Move, and return the error; both stores are as they were."""
    before = [store.store.read("default") for store in (places.here, places.there)]
    with pytest.raises(error, match=match) as caught:
        await places.move(**how)
    assert [store.store.read("default") for store in (places.here, places.there)] == before
    return caught.value


async def test_what_is_in_doubt_stays(places: Places) -> None:
    """Its refresh token was sent and no answer came: a plan says so too, and the way out is named."""
    one = keep(places.here)
    with places.here.journal("default") as journal:
        journal.prove()
        journal.arm(Intent(generation=1, digest=one.digest, armed=clock.now()))
    error = await refused(places, OutcomeUnknown, "the outcome of account default's last refresh is unknown")
    assert error.hint == (f"settle it first: LOOPBACK_AUTH_STORE={places.here.address} loopback-auth refresh default",)
    with pytest.raises(OutcomeUnknown):
        moving.plan(places.here, places.there, "default")


async def test_what_is_being_refreshed_stays(places: Places) -> None:
    """While its sender lives it is busy, and while another process has its lock."""
    one = keep(places.here)
    with places.here.journal("default") as journal:
        journal.prove()
        journal.arm(Intent(generation=1, digest=one.digest, armed=clock.now()))
        await refused(places, StoreBusy, "another process is working on account default", lock_timeout=0.1)
        journal.clear()
    for store in (places.here, places.there):
        with store.lock("default") as lock:
            assert lock.try_acquire()
            await refused(places, StoreBusy, "another process is working on account default", lock_timeout=0.1)
    await places.move()


async def test_what_came_to_be_in_doubt_stays(places: Places) -> None:
    """It waits for a refresh under way; if that ends without an answer, the account is left."""
    one = keep(places.here)
    with places.here.journal("default") as journal:
        journal.prove()
        journal.arm(Intent(generation=1, digest=one.digest, armed=clock.now()))
        moving_it = asyncio.create_task(refused(places, OutcomeUnknown, "is unknown"))
        await asyncio.sleep(0.1)
    await moving_it


class Watched(Accounts):
    """Accounts that show at each change whether anybody else could begin to send from here, or from there."""

    def __init__(self, store: Accounts, watch: Accounts) -> None:
        super().__init__(store.store)
        self.open: list[bool] = []
        self._watch = watch

    def save(self, account: Account, replaces: int | None = None) -> None:
        with self._watch.journal("default") as journal:
            self.open.append(journal.try_open())
        super().save(account, replaces)


async def test_nobody_else_can_send_meanwhile(places: Places) -> None:
    """Not from the source, nor from what is replaced in the target, whatever becomes of the lock files."""
    for watch in (places.here, places.there):
        keep(places.here)
        keep(places.there, logged_in_at=5.0)
        target = Watched(places.there, watch)
        await places.move(places.here, target, replaces=True)
        assert target.open == [False, False]


class LateJournal(FileJournal):
    """A journal that another process is faster with: something happens just before, or just after, it is proven."""

    before: Callable[[], object]
    after: Callable[[], object]

    def prove(self) -> None:
        self.before()
        super().prove()
        self.after()


class Late(FileStore):
    """A store with such a journal."""

    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    def journal(self, name: str) -> LateJournal:
        journal = LateJournal(str(Path(self.address.removeprefix("file:")) / name))
        journal.before, journal.after = self.before, self.after
        return journal


async def test_it_is_refreshed_just_before(places: Places) -> None:
    """With locks that exclude nobody: what was loaded is old by then, and is not moved."""
    one = keep(places.here)
    late = Late(places.here.address.removeprefix("file:"))
    late.before = lambda: places.here.save(replace(one, generation=2))
    with pytest.raises(StoreBusy, match="account default was changed by another process"):
        await places.move(Accounts(late))
    assert places.there.load("default") is None
    assert kept(places.here).generation == 2


async def test_it_is_looked_again_before_it_leaves(places: Places) -> None:
    """The source is proven before anything is written, and again at the last moment: others may share the store."""
    keep(places.here)
    late = Late(places.here.address.removeprefix("file:"))
    written: list[bool] = []
    late.after = lambda: written.append(places.there.load("default") is not None)
    await places.move(Accounts(late))
    assert written == [False, True]


async def test_it_leaves_just_before_a_refresh(places: Places) -> None:
    """With locks that exclude nobody: a refresh looks again before it sends, and finds that it has left."""
    one = keep(places.here, received=clock.Moment(5.0, "-", 0.0))
    late = Late(places.here.address.removeprefix("file:"))
    leaving = replace(one, stored_as=str(Transit("leaving", "0" * 8, places.there.address)))
    late.after = lambda: places.here.save(leaving)
    with pytest.raises(LoginRequired, match="is being moved to"):
        await TokenSource("default", Accounts(late), client_secret=lambda _account: Secret("s3kr1t-client")).token()


async def test_where_nothing_could_be_sent_from(places: Places) -> None:
    """A target that could not refresh, on a network file system, is refused before anything is written there."""
    keep(places.here)
    mountinfo = places.home / "mountinfo"
    mountinfo.write_text("36 35 98:0 / / rw - nfs4 server:/home rw\n")
    target = Accounts(FileStore(str(places.folder(places.there)), mountinfo=str(mountinfo)))
    with pytest.raises(StoreUnsafe, match="is on a network file system"):
        await places.move(places.here, target)
    assert spendable(places) == [places.here]


async def test_what_somebody_logs_in_to_stays(places: Places) -> None:
    """The tokens of a login under way would come to where the account is no more."""
    keep(places.here)
    with places.here.login_lock("default") as lock:
        assert lock.try_acquire()
        await refused(places, StoreBusy, "a login of account default is under way already")


async def test_a_copy_stays(places: Places) -> None:
    """An account that was copied to the source is not the source's to give; one under another name neither."""
    keep(places.here, name="other")
    (places.folder(places.here) / "other").rename(places.folder(places.here) / "default")
    error = await refused(places, LoginRequired, "account default was copied to")
    assert error.hint[0].endswith("loopback-auth refresh default --moved")


async def test_there_is_nothing_to_move(places: Places) -> None:
    """Neither here nor there: an error, and no folder is made for it."""
    await refused(places, LoginRequired, "there is no account called default in")
    assert list(places.home.iterdir()) == []


async def test_it_is_there_already(places: Places) -> None:
    """Moved by an earlier run: nothing to do, and no error."""
    keep(places.here)
    moved = await places.move()
    assert await places.move() == moved
    assert moving.plan(places.here, places.there, "default").step == "none"


# --- another account in its place ---


async def test_another_account_is_left_alone(places: Places) -> None:
    """Without a person's word nothing is replaced, and the account stays where it was."""
    keep(places.here)
    other = keep(places.there, access_token=account().tokens.access_token, logged_in_at=5.0, generation=4)
    error = await refused(places, ConfigurationError, "holds another account default")
    assert error.hint == ("it was left as it is; replace it with --force",)
    assert moving.plan(places.here, places.there, "default").replaces == other


async def test_a_killed_login_there_is_another_account(places: Places) -> None:
    """Its tokens came and wait to be stored: the next command there would put them in the place of what was moved."""
    keep(places.here)
    with places.there.login_journal("default") as journal:
        journal.prove()
        journal.arm(intent_of(Grant(account="default", registration=REGISTRATION, client_secret=None), clock.now()))
        journal.stage(ANSWER)
    with pytest.raises(ConfigurationError, match="holds another account default"):
        await places.move()
    assert kept(places.there).tokens.access_token.reveal() == "s3kr1t-new"


@pytest.mark.parametrize("generation", [1, 4, 9])
async def test_another_account_is_replaced(places: Places, generation: int) -> None:
    """The count goes on from the higher one, so that nobody who holds the replaced one can put it back."""
    one = keep(places.here, generation=4)
    places.here.note("default", Trouble(generation=4, digest=one.digest, message="it is away", at=5.0, refused=True))
    keep(places.there, generation=generation, logged_in_at=5.0)
    moved = await places.move(replaces=True)
    assert moved == replace(one, generation=max(4, generation + 1))
    assert standing_of(moved, places.there, clock.now()).why == "it is away"


async def test_a_replaced_account_in_doubt(places: Places) -> None:
    """What is not known of it dies with it: the intent that it left is about nothing any more."""
    keep(places.here)
    other = keep(places.there, generation=2, logged_in_at=5.0)
    with places.there.journal("default") as journal:
        journal.prove()
        journal.arm(Intent(generation=2, digest=other.digest, armed=clock.now()))
    moved = await places.move(replaces=True)
    assert standing_of(moved, places.there, clock.now()).state == "ok"


# --- a move that was ended in the middle ---


def spendable(places: Places) -> list[Accounts]:
    stores = (places.here, places.there, places.third)
    return [store for store in stores if (one := store.load("default")) is not None and not is_copy(one)]


@pytest.mark.parametrize(
    ("here", "there", "homes"), [(9, 0, "here"), (0, 1, "here"), (1, 1, ""), (1, 9, "there")], ids=str
)
async def test_one_home_at_every_moment(places: Places, here: int, there: int, homes: str) -> None:
    """Whichever change comes not to pass, one store at most would send, and the same call goes on."""
    before = keep(places.here)
    await begin(places, here=here, there=there)
    assert spendable(places) == ([getattr(places, homes)] if homes else [])
    assert await places.move() == before
    assert spendable(places) == [places.there]
    assert places.here.load("default") is None


@pytest.mark.parametrize("side", ["here", "there"])
async def test_on_its_way_it_is_sent_from_nowhere(places: Places, side: str) -> None:
    """A refresh is refused before anything is sent, `status` says why, and both name the command that finishes it."""
    keep(places.here)
    await begin(places, here=1, there=1)
    store: Accounts = getattr(places, side)
    other = {"here": f"to {places.there.address}", "there": f"here from {places.here.address}"}[side]
    finish = f"loopback-auth store copy {places.here.address} {places.there.address} default"
    with pytest.raises(LoginRequired) as caught:
        await TokenSource("default", store, client_secret=lambda _account: None).refresh(force=True)
    assert str(caught.value) == f"account default is being moved {other}, and has not arrived yet"
    assert caught.value.hint[0] == f"finish it: {finish}"
    assert caught.value.hint[1].endswith("loopback-auth refresh default --moved")
    standing = standing_of(kept(store), store, clock.now())
    assert (standing.state, standing.why) == (
        "login required",
        f"it is being moved {other}, and has not arrived yet",
    )


async def test_it_was_refreshed_before_it_left(places: Places) -> None:
    """What arrived first is old by then: the newer generation takes its place."""
    keep(places.here)
    await begin(places, here=0, there=1)
    keep(places.here, generation=2, refresh_token=None)
    assert (await places.move()).generation == 2
    assert kept(places.there).tokens.refresh_token is None


async def test_it_went_elsewhere_before_it_left(places: Places) -> None:
    """A copy that arrived is no account until it has left: what went to a third store gets no second home."""
    keep(places.here)
    await begin(places, here=0, there=1)
    await places.move(places.here, places.third)
    error = await refused(places, LoginRequired, "is not in .* any more, and has not wholly arrived in")
    assert error.hint[0].endswith("loopback-auth refresh default --moved")
    assert spendable(places) == [places.third]


async def test_another_move_of_the_same_account(places: Places) -> None:
    """What is on its way to one store is not moved to another, nor further from where it has not arrived yet."""
    keep(places.here)
    await begin(places, here=1, there=1)
    finish = f"loopback-auth store copy {places.here.address} {places.there.address} default"
    for source, target in ((places.here, places.third), (places.there, places.third), (places.there, places.here)):
        with pytest.raises(LoginRequired, match="and has not arrived yet") as caught:
            await places.move(source, target)
        assert caught.value.hint == (f"finish that first: {finish}",)
    assert spendable(places) == []
    await places.move()
    assert spendable(places) == [places.there]


async def test_a_copy_of_another_move(places: Places) -> None:
    """A copy that came from a third store is another account's: it is not replaced unasked."""
    keep(places.here)
    await begin(places, here=0, there=1)
    keep(places.third, logged_in_at=5.0)
    with pytest.raises(ConfigurationError, match="holds another account"):
        await places.move(places.third, places.there)


@pytest.mark.parametrize("numbered", [True, False])
async def test_the_copy_is_of_this_very_move(places: Places, numbered: bool) -> None:
    """Only what arrived on the move on which the source says that it left becomes the account."""
    one = keep(places.here)
    await begin(places, here=1, there=1)
    transit = transit_of(kept(places.there))
    assert transit is not None
    if not numbered:
        places.there.save(replace(kept(places.there), stored_as=str(replace(transit, number="0" * 8))))
        await refused(places, LoginRequired, "has left .*, and is not in")
    else:
        assert await places.move() == one


async def test_it_was_forgotten_where_it_was_going(places: Places) -> None:
    """It is not moved again: its tokens may be spent by then. The way back is named, and leads back."""
    one = keep(places.here)
    await begin(places, here=1, there=1)
    places.there.remove("default")
    error = await refused(places, LoginRequired, "has left .*, and is not in .* any more")
    assert error.hint[0] == (
        "bring it back, if nothing uses it elsewhere: "
        f"LOOPBACK_AUTH_STORE={places.here.address} loopback-auth refresh default --moved"
    )
    await TokenSource("default", places.here, client_secret=lambda _account: None).move_here()
    assert kept(places.here) == one
    assert await places.move() == one


async def test_it_was_used_where_it_went_before_it_was_removed(places: Places) -> None:
    """Refreshed there, it is what left: only the source's record is still to go. A new login there is not."""
    keep(places.here)
    await begin(places, here=1, there=9)
    arrived = keep(places.there, generation=2)
    assert moving.plan(places.here, places.there, "default").step == "leave"
    for another in (replace(arrived, logged_in_at=6.0), replace(arrived, generation=0)):
        places.there.save(another)
        await refused(places, LoginRequired, "has left .*, and is not in .* any more")
    places.there.save(arrived)
    assert await places.move() == arrived
    assert places.here.load("default") is None


async def test_a_person_says_that_it_has_arrived(places: Places) -> None:
    """`refresh --moved` in the target ends a move as well; then the source's record only goes."""
    one = keep(places.here)
    await begin(places, here=1, there=1)
    await TokenSource("default", places.there, client_secret=lambda _account: None).move_here()
    assert kept(places.there) == one
    assert await places.move() == one
    assert places.here.load("default") is None


async def test_a_copied_answer_is_adopted_nowhere(places: Places) -> None:
    """A copy finds the staged answer of the place it came from, which will use it: the copy does not."""
    one = keep(places.here, name="other", received=clock.Moment(5.0, "-", 0.0))
    with places.here.journal("other") as journal:
        journal.prove()
        journal.arm(Intent(generation=1, digest=one.digest, armed=clock.now()))
        journal.stage(ANSWER)
    (places.folder(places.here) / "other").rename(places.folder(places.here) / "default")
    with pytest.raises(LoginRequired, match="was copied here"):
        await TokenSource("default", places.here, client_secret=lambda _account: None).token()
    assert (kept(places.here).generation, kept(places.here).stored_as) == (1, "other")


class Listed(Accounts):
    """Accounts that list whose lock was asked for."""

    def __init__(self, store: Accounts, asked: list[str]) -> None:
        super().__init__(store.store)
        self._asked = asked

    def lock(self, name: str) -> AbstractContextManager[Lock]:
        self._asked.append(self.address)
        return super().lock(name)


async def test_moves_towards_each_other(places: Places) -> None:
    """Both take the two locks in one order, so that neither waits for what the other holds."""
    keep(places.here)
    asked: list[str] = []
    here, there = Listed(places.here, asked), Listed(places.there, asked)
    await places.move(here, there)
    await places.move(there, here)
    assert asked == [places.here.address, places.there.address] * 2


def test_words_in_the_place_of_a_name() -> None:
    """No account can be called so, whatever the address; and what is written is read."""
    transit = Transit("leaving", "0a1b2c3d", "postgresql://user@host/db name")
    one = replace(account(), stored_as=str(transit))
    again = parse(serialise(one), "default", "here")
    assert again == one
    assert transit_of(again) == transit
    assert transit_of(account()) is None
    assert transit_of(replace(account(), stored_as="other")) is None
    assert not re.fullmatch(r"[\w.-]+", str(transit))


# --- the command ---


def many(places: Places, number: int) -> list[str]:
    names = [f"cafe-{one:03}" for one in range(number)]
    for name in names:
        keep(places.here, name=name)
    return names


def copy(places: Places, *arguments: str) -> Any:
    return run(places.home, "store", "copy", places.here.address, places.there.address, *arguments)


def test_one_that_cannot_be_moved_keeps_no_other(places: Places) -> None:
    """The others go on, the exit status is the highest, and JSON says what became of each."""
    many(places, 3)
    (places.folder(places.here) / "cafe-001" / "tokens").chmod(0o644)
    ended = copy(places, "--json")
    assert ended.status == 8
    assert [(one["account"], one["state"], one["exit_status"]) for one in ended.json] == [
        ("cafe-000", "moved", 0),
        ("cafe-001", "left", 8),
        ("cafe-002", "moved", 0),
    ]
    assert "2 accounts were moved from" in ended.stderr
    assert "\r" not in ended.stderr
    assert places.here.names() == ["cafe-001"]
    assert places.there.names() == ["cafe-000", "cafe-002"]


def test_a_dry_run_changes_nothing(places: Places) -> None:
    """It names what would be moved and what would be left, and not even a folder is made."""
    many(places, 2)
    keep(places.there, name="cafe-001", logged_in_at=5.0)
    before = sorted(places.home.rglob("*"))
    ended = copy(places, "--dry-run")
    assert (ended.status, ended.stdout) == (3, "cafe-000  to move\ncafe-001  left\n")
    assert sorted(places.home.rglob("*")) == before
    forced = copy(places, "--dry-run", "--force")
    assert (forced.status, forced.stdout) == (0, "cafe-000  to move\ncafe-001  to move\n")


def test_the_same_store_by_another_name(places: Places) -> None:
    """A link to its folder is no second store."""
    many(places, 1)
    (places.home / "link").symlink_to(places.folder(places.here))
    ended = run(places.home, "store", "copy", places.here.address, f"file:{places.home / 'link'}")
    assert (ended.status, ended.errors) == (2, ["both addresses are of the same store"])


@pytest.fixture
def terminal(places: Places) -> Any:
    opened: list[Pty] = []

    def open_terminal(*arguments: str) -> Pty:
        words = [sys.executable, "-m", "loopback_auth", "store", "copy", places.here.address, places.there.address]
        opened.append(Pty([*words, *arguments], environment(places.home) | {"TERM": "xterm"}, places.home))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_person_is_asked(places: Places, terminal: Callable[..., Pty], answer: str) -> None:
    """On a terminal, whether the account in the way is to be replaced; after a no it is left, and the others go on."""
    many(places, 2)
    keep(places.there, name="cafe-000", logged_in_at=5.0)
    one = terminal()
    one.answer(r"holds another account cafe-000\. Replace it\?", answer)
    assert one.end() == (0 if answer == "y" else 3)
    assert kept(places.there, "cafe-001")
    assert (kept(places.there, "cafe-000").logged_in_at == 5.0) == (answer == "n")
    assert places.here.names() == ([] if answer == "y" else ["cafe-000"])


def test_ctrl_c_between_two(places: Places, terminal: Callable[..., Pty]) -> None:
    """Progress is shown on one line; Ctrl-C leaves each account in one home, and says how many were moved."""
    names = many(places, 200)
    one = terminal()
    one.says("9 of 200: cafe-008")
    one.send(CTRL_C)
    assert one.end() == 130
    match = re.search(r"error: interrupted: (\d+) of 200 accounts were moved", one.text)
    assert match is not None
    assert "hint: the same command goes on" in one.text
    moved = places.there.names()
    assert int(match[1]) == len(moved) < 200
    assert sorted(moved + places.here.names()) == names
    assert not any(is_copy(kept(store, name)) for store in (places.here, places.there) for name in store.names())


class Shared(FileStore):
    """A store that many machines use."""

    @property
    def shared(self) -> bool:
        return True


def test_what_secrets_need(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """In a store for many machines each secret's place is named once; where one machine uses it nothing is said."""
    references: list[Any] = [{"file": "/a"}, {"env": "B"}, {"file": "/a"}, {"preset": True}, None]
    rows = [
        store_copy.Row(f"cafe-{number}", account=account(f"cafe-{number}", client_secret=reference))
        for number, reference in enumerate(references)
    ]
    store_copy.say_what_secrets_need(rows, places.there)
    assert capsys.readouterr().err == ""
    store_copy.say_what_secrets_need(rows, Accounts(Shared(str(places.home / "shared"))))
    said = "is not moved: every machine that refreshes needs it in"
    assert capsys.readouterr().err == (
        f"loopback-auth: warning: the client secret of 2 accounts {said} file /a\n"
        f"loopback-auth: warning: the client secret of account cafe-1 {said} variable B\n"
    )


async def test_a_shared_store_knows_no_machine(places: Places) -> None:
    """There an account belongs to none of the machines; back in a file store it is this one's."""
    keep(places.here)
    shared = Accounts(Shared(str(places.home / "shared")))
    await places.move(places.here, shared)
    assert kept(shared).machine is None
    await places.move(shared, places.there)
    assert kept(places.there).machine == machine.identity()


async def test_a_company_that_is_named_late(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that left while its company was asked for has left: a name brings no token back, nor an old one."""
    company = {"id": "4711", "name": "Cafe Roma"}

    async def named(account: Account, _tell: object) -> Account:
        return replace(account, company=company)

    monkeypatch.setattr(login, "with_company", named)
    before = account()
    for stands, is_named in (
        (before, True),
        (replace(before, stored_as="leaving 1 file:/elsewhere"), True),
        (account(refresh_token=Secret("s3kr1t-of-another-login")), False),
    ):
        places.here.save(stands)
        await login.name_company(before, places.here, lambda _progress: None)
        assert places.here.load("default") == replace(stands, company=company if is_named else None)
