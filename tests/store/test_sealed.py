"""A sealed store: what is on the disk, what whoever can write there achieves with that, and what is without a key."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from loopback_auth import adoption, clock
from loopback_auth.beginning import begin
from loopback_auth.clock import Moment
from loopback_auth.errors import Overtaken, StoreError, Unopenable
from loopback_auth.grant import Grant, intent_of, to_adopt
from loopback_auth.oauth.token import ANSWER_LIMIT
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import STAGE_LIMIT, Intent, Trouble
from loopback_auth.store.file import FileStore
from loopback_auth.store.keys import Keys
from loopback_auth.store.record import generation_of, serialise
from loopback_auth.store.sealed import SealedStore
from loopback_auth.store.sealed_journal import SealedJournal

from .accounts import BOOT, REGISTRATION, account
from .planted import names

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
KEY_ID = hashlib.sha256(b"loopback-auth store key\0" + KEY).hexdigest()[:8]
OTHER_ID = Keys(OTHER).ids[0]
INTENT = Intent(generation=7, digest="ab" * 32, armed=Moment(1_700_000_000.25, BOOT, 4711.5))
ANSWER = b'{"access_token": "s3kr1t-new", "refresh_token": "s3kr1t-next"}'
TAMPERED = "was changed, or sealed under another name: it cannot be opened"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


def sealed(folder: Path, *keys: bytes, allow_plain: bool = True) -> SealedStore:
    return SealedStore(FileStore(str(folder)), lambda: Keys(*keys), allow_plain=allow_plain)


def unkeyed(folder: Path) -> SealedStore:
    return SealedStore(FileStore(str(folder)), None, allow_plain=True)


def tokens(folder: Path, name: str = "default") -> Path:
    return folder / name / "tokens"


def changed(folder: Path, change: Callable[[bytes], bytes], name: str = "default") -> None:
    """Do to a record what somebody can who writes the disk."""
    path = tokens(folder, name)
    content = change(path.read_bytes())
    path.write_bytes(content)


def refused(store: SealedStore, name: str = "default") -> Unopenable:
    with pytest.raises(Unopenable) as caught:
        Accounts(store).load(name)
    return caught.value


# --- records ---


def test_an_account_is_kept(folder: Path) -> None:
    """What was saved is loaded, by this store and the next process's, and nothing else of the store is different."""
    accounts = Accounts(sealed(folder, KEY))
    accounts.save(account("cafe-roma"))
    accounts.note("cafe-roma", Trouble(generation=1, digest="", message="m", at=1.0))
    for again in (accounts, Accounts(sealed(folder, KEY))):
        assert again.load("cafe-roma") == account("cafe-roma", sealed_with=KEY_ID)
        assert again.generation("cafe-roma") == 1
        assert again.names() == ["cafe-roma"]
        assert again.trouble("cafe-roma") == accounts.trouble("cafe-roma") != None  # noqa: E711 (both)
        assert (again.address, again.shared, again.seals) == (f"file:{folder}", False, True)
        assert again.load("other") is None
    with pytest.raises(Overtaken):
        accounts.save(account("cafe-roma", generation=9), replaces=8)
    assert accounts.remove("cafe-roma")
    assert accounts.names() == []


def test_two_lines_of_ascii(folder: Path) -> None:
    """Line 1 says with which key and which generation, line 2 is base64; nothing of the account can be read."""
    Accounts(sealed(folder, KEY)).save(account(generation=42))
    content = tokens(folder).read_bytes()
    first, second, nothing = content.split(b"\n")
    assert first == f"loopback-auth sealed 1 {KEY_ID} 42".encode()
    assert nothing == b""
    raw = base64.b64decode(second, validate=True)
    for secret in (b"s3kr1t", b"s6BhdRkqt3", b"server.example"):
        assert secret not in content + raw
    assert generation_of(content) == 42


def test_the_format_is_as_written_down(folder: Path) -> None:
    """AES-256-GCM, nonce in front, line 1, kind and name beside it: another program opens and makes the same."""
    store = sealed(folder, KEY)
    Accounts(store).save(account(generation=42))
    first, second, _ = tokens(folder).read_bytes().split(b"\n")
    raw = base64.b64decode(second)
    about = first + b"\0record\0default"
    assert AESGCM(KEY).decrypt(raw[:12], raw[12:], about) == serialise(account(generation=42))
    first = f"loopback-auth sealed 1 {KEY_ID} 43".encode()
    made = b"n" * 12 + AESGCM(KEY).encrypt(b"n" * 12, serialise(account(generation=43)), first + b"\0record\0default")
    tokens(folder).write_bytes(first + b"\n" + base64.b64encode(made) + b"\n")
    assert Accounts(store).load("default") == account(generation=43, sealed_with=KEY_ID)


def test_no_nonce_twice(folder: Path) -> None:
    """The same account saved again is sealed with another nonce; so is each answer."""
    accounts = Accounts(sealed(folder, KEY))
    nonces = set()
    for _ in range(20):
        accounts.save(account())
        nonces.add(base64.b64decode(tokens(folder).read_bytes().split(b"\n")[1])[:12])
    for _ in range(20):
        with accounts.journal("default") as journal:
            armed(journal, ANSWER)
            nonces.add(bytes.fromhex((folder / "default" / "answer").read_bytes().split()[5].decode()))
            journal.clear()
    assert len(nonces) == 40


@pytest.mark.parametrize("at", [0.3, 0.5, 0.9, 1.0])
def test_one_changed_bit(folder: Path, at: float) -> None:
    """A bit of what is sealed, the registration's, say, cannot be changed, nor can the tag."""
    store = sealed(folder, KEY)
    Accounts(store).save(account())

    def flip(content: bytes) -> bytes:
        first, second, _ = content.split(b"\n")
        raw = bytearray(base64.b64decode(second))
        raw[int((len(raw) - 1) * at)] ^= 1
        return first + b"\n" + base64.b64encode(raw) + b"\n"

    changed(folder, flip)
    error = refused(store)
    assert str(error) == f"account default in file:{folder} {TAMPERED}"
    assert error.hint == ("it is left as it is; log in again: loopback-auth login default --force",)
    assert error.exit_status == 8


def test_another_accounts_record(folder: Path) -> None:
    """Two accounts of one store, swapped: neither opens."""
    store = sealed(folder, KEY)
    for name in ("a", "b"):
        Accounts(store).save(account(name))
    one, two = tokens(folder, "a").read_bytes(), tokens(folder, "b").read_bytes()
    tokens(folder, "a").write_bytes(two)
    tokens(folder, "b").write_bytes(one)
    assert TAMPERED in str(refused(store, "a"))
    assert TAMPERED in str(refused(store, "b"))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b" 42\n", b" 41\n"),
        lambda content: content.replace(b" 42\n", b" 43\n"),
        lambda content: content.replace(b" 42\n", b" 042\n"),
        lambda content: content.replace(b" 42\n", b" -42\n"),
        lambda content: content.replace(b" 42\n", b" 42 \n"),
        lambda content: content.replace(b"sealed 1 ", b"sealed 12 "),
        lambda content: content.replace(b"sealed 1 ", b"sealed 1  "),
        lambda content: content.replace(KEY_ID.encode(), KEY_ID.upper().encode() + b"0"),
        lambda content: content[:-1],
        lambda content: content + b"\n",
        lambda content: content + b"x",
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.split(b"\n")[0],
        lambda content: content.split(b"\n")[0] + b"\n",
        lambda content: content.split(b"\n")[0] + b"\n\n",
    ],
)
def test_line_1_cannot_be_changed(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """A generation rolled back in clear, another version, a line more or less: it does not open, and stays."""
    store = sealed(folder, KEY)
    Accounts(store).save(account(generation=42))
    changed(folder, change)
    after = tokens(folder).read_bytes()
    refused(store)
    assert tokens(folder).read_bytes() == after


def test_cut_off_anywhere(folder: Path) -> None:
    """However much of the end is missing, what is left is no account."""
    store = sealed(folder, KEY)
    Accounts(store).save(account())
    content = tokens(folder).read_bytes()
    for length in (*range(0, len(content), 7), len(content) - 1):
        tokens(folder).write_bytes(content[:length])
        with pytest.raises(StoreError):
            Accounts(store).load("default")


def test_a_generation_that_the_store_says_otherwise(folder: Path) -> None:
    """Where a store keeps the generation beside the record, both must say the same."""

    class Lying(FileStore):
        def read(self, name: str):  # type: ignore[no-untyped-def]
            record = super().read(name)
            return record and replace(record, generation=record.generation + 1)

    Accounts(sealed(folder, KEY)).save(account())
    store = SealedStore(Lying(str(folder)), lambda: Keys(KEY), allow_plain=True)
    assert refused(store).generation == 2


@pytest.mark.parametrize("generation", ["0" * 12, "9" * 12, "9" * 5000, "1e3", "+1", "1_0", "\xb2"])
def test_a_generation_that_is_none(folder: Path, generation: str) -> None:
    """What cannot be counted on from is damage: a login over it begins anew."""
    accounts = Accounts(sealed(folder, KEY))
    accounts.save(account())
    tokens(folder).write_bytes(f"loopback-auth sealed 1 {KEY_ID} {generation}\nAAAA\n".encode())
    assert accounts.generation("default") == 0
    refused(sealed(folder, KEY))
    assert adoption.save(account(), accounts).generation == 1
    assert accounts.load("default") == account(sealed_with=KEY_ID)


def test_a_key_that_is_not_given(folder: Path) -> None:
    """It is named, with those that are given; the account is left as it is, and a forced login replaces it."""
    Accounts(sealed(folder, OTHER)).save(account(generation=5))
    before = tokens(folder).read_bytes()
    store = sealed(folder, KEY)
    error = refused(store)
    assert str(error) == f"account default in file:{folder} is sealed with key {OTHER_ID}, which is not given"
    assert error.hint == (
        f"given: {KEY_ID}; the key that it was sealed with must be among them",
        "if that key is lost, log in with a new one, as at first: loopback-auth login default --force",
    )
    assert tokens(folder).read_bytes() == before
    assert Accounts(store).generation("default") == error.generation == 5
    assert adoption.save(account(), Accounts(store)).generation == 6
    assert Accounts(store).load("default") == account(generation=6, sealed_with=KEY_ID)


def test_a_login_with_the_key_of_another_store(folder: Path, tmp_path: Path) -> None:
    """It is refused before a browser opens, unless it is forced: whoever has the store's key could not read it."""
    for name in ("bistro", "cafe"):
        Accounts(sealed(folder, OTHER)).save(account(name))
    Accounts(unkeyed(folder)).save(account("in-clear"))
    tokens(folder, "damaged").parent.mkdir(mode=0o700)
    tokens(folder, "damaged").symlink_to("nowhere")
    opened: list[str] = []

    def log_in(*keys: bytes, force: bool = False) -> None:
        registration = replace(REGISTRATION, redirect_uri="http://127.0.0.1:0/")
        grant = Grant(account="new", registration=registration, client_secret=None, force=force)
        with begin(grant, Accounts(sealed(folder, *keys)), lambda url: opened.append(url)):
            pass

    with pytest.raises(Unopenable) as caught:
        log_in(KEY)
    words = f"are sealed with key {OTHER_ID}, and key {KEY_ID} was given"
    assert str(caught.value) == f"the accounts in file:{folder} {words}"
    assert (opened, (folder / "new").exists()) == ([], False)
    log_in(KEY, force=True)
    log_in(KEY, OTHER)
    log_in(OTHER)
    assert len(opened) == 3
    for name in ("bistro", "cafe"):
        Accounts(unkeyed(folder)).remove(name)
    log_in(KEY)


def test_several_keys(folder: Path) -> None:
    """All of them open, the first one seals."""
    for key in (KEY, OTHER):
        Accounts(sealed(folder, key)).save(account(key.hex()))
    both = Accounts(sealed(folder, OTHER, KEY))
    for key in (KEY, OTHER):
        assert both.load(key.hex()) == account(key.hex(), sealed_with=Keys(key).ids[0])
    both.save(account(KEY.hex(), generation=2))
    assert tokens(folder, KEY.hex()).read_bytes().startswith(f"loopback-auth sealed 1 {OTHER_ID} 2\n".encode())


def test_what_is_not_sealed_yet(folder: Path) -> None:
    """A file store on its way: it is read as it is, and sealed when it is next saved."""
    Accounts(FileStore(str(folder))).save(account())
    accounts = Accounts(sealed(folder, KEY))
    assert accounts.load("default") == account()
    accounts.save(account(generation=2))
    assert accounts.load("default") == account(generation=2, sealed_with=KEY_ID)
    assert b"s3kr1t" not in tokens(folder).read_bytes()


def test_what_is_not_sealed_where_all_is(folder: Path) -> None:
    """A record in clear was put there by somebody else: refused, left, and replaced by a forced login."""
    Accounts(FileStore(str(folder))).save(account(generation=3))
    store = sealed(folder, KEY, allow_plain=False)
    assert str(refused(store)).endswith("is not sealed, as all is in this store: somebody else has put it there")
    assert Accounts(store).generation("default") == 3
    Accounts(store).save(account(generation=4))
    assert Accounts(store).load("default") == account(generation=4, sealed_with=KEY_ID)


def test_without_a_key(folder: Path) -> None:
    """What is in clear is as it always was; what is sealed says that a key is missing, and is not unsealed unasked."""
    plain = Accounts(unkeyed(folder))
    plain.save(account("plain"))
    assert (plain.load("plain"), plain.seals) == (account("plain"), False)
    assert b"s3kr1t" in tokens(folder, "plain").read_bytes()
    Accounts(sealed(folder, KEY)).save(account(generation=3))
    error = refused(unkeyed(folder))
    assert str(error) == f"account default in file:{folder} is sealed with key {KEY_ID}, and no key was given"
    assert plain.generation("default") == error.generation == 3
    with pytest.raises(Unopenable, match="is sealed, and the new tokens would not be"):
        plain.login_journal("default")
    with plain.login_journal("plain") as journal:
        armed(journal, ANSWER)
        assert journal.answer == ANSWER


def test_a_login_over_what_is_unsafe(folder: Path) -> None:
    """Whether it is sealed cannot be seen then; it is replaced, as without sealing."""
    Accounts(FileStore(str(folder))).save(account())
    tokens(folder).chmod(0o644)
    with unkeyed(folder).login_journal("default") as journal:
        journal.prove()


def test_keys_are_fetched_when_they_are_needed(folder: Path) -> None:
    """Once, and not for names, locks, troubles, or what is in clear; where that fails nothing is written in clear."""
    fetched = []

    def fetch() -> Keys:
        fetched.append(1)
        return Keys(KEY)

    Accounts(FileStore(str(folder))).save(account())
    store = SealedStore(FileStore(str(folder)), fetch, allow_plain=True)
    accounts = Accounts(store)
    accounts.load("default")
    accounts.names()
    accounts.trouble("default")
    accounts.generation("default")
    with accounts.lock("default") as lock, accounts.journal("default") as journal:
        assert lock.try_acquire()
        assert journal.try_open()
        assert journal.answer == b""
    assert fetched == []
    accounts.save(account(generation=2))
    accounts.load("default")
    assert fetched == [1]

    def failing() -> Keys:
        raise StoreError("no key to be had")

    accounts = Accounts(SealedStore(FileStore(str(folder)), failing, allow_plain=True))
    before = tokens(folder).read_bytes()
    with pytest.raises(StoreError, match="no key to be had"):
        accounts.save(account(generation=3))
    with accounts.login_journal("default") as journal, pytest.raises(StoreError, match="no key to be had"):
        journal.prove()
    assert tokens(folder).read_bytes() == before
    assert names(folder / "default") == ["lock", "tokens"]


# --- keys ---


def test_keys_show_nothing() -> None:
    """Neither text nor pickle tells a key."""
    keys = Keys(KEY, OTHER)
    assert repr(keys) == str(keys) == f"{keys}" == "Keys(not shown)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(keys)
    assert keys.ids == (KEY_ID, OTHER_ID)


@pytest.mark.parametrize("keys", [(), (b"",), (KEY[:16],), (KEY + b"x",), (KEY, KEY)])
def test_keys_that_are_none(keys: tuple[bytes, ...]) -> None:
    """No key, a short one, which AES would take, a long one, the same twice."""
    with pytest.raises(ValueError, match="32 bytes each"):
        Keys(*keys)


# --- journals ---


def armed(journal: object, *pieces: bytes, intent: Intent = INTENT) -> SealedJournal:
    assert isinstance(journal, SealedJournal)
    assert journal.try_open()
    journal.prove()
    journal.arm(intent)
    for piece in pieces:
        journal.stage(piece)
    return journal


def left(folder: Path, *pieces: bytes, intent: Intent = INTENT, key: bytes = KEY, login: bool = False) -> Path:
    """Leave what a process leaves that was killed when these pieces had come; return the file of the answer."""
    store = sealed(folder, key)
    with store.login_journal("default") if login else store.journal("default") as journal:
        armed(journal, *pieces, intent=intent)
    (path,) = (folder / "default").glob("*answer")
    path.write_bytes(path.read_bytes().rstrip(b"\0"))
    return path


def found(folder: Path, *keys: bytes, allow_plain: bool = True) -> bytes:
    with sealed(folder, *(keys or (KEY,)), allow_plain=allow_plain).journal("default") as journal:
        assert journal.try_open()
        return journal.answer


def test_an_answer_is_never_in_clear(folder: Path) -> None:
    """Piece for piece it is sealed before the disk sees it, and opened by whoever comes next."""
    with sealed(folder, KEY).journal("default") as journal:
        armed(journal)
        for piece in (ANSWER[:20], ANSWER[20:25], ANSWER[25:]):
            journal.stage(piece)
            for file in (folder / "default").iterdir():
                assert b"s3kr1t" not in file.read_bytes()
                assert b"access_token" not in file.read_bytes()
        assert journal.answer == ANSWER
        journal.sync()
        content = (folder / "default" / "answer").read_bytes().rstrip(b"\0")
    assert content.isascii()
    assert content.count(b"\n") == 4
    assert found(folder) == ANSWER
    with sealed(folder, KEY).journal("default") as journal:
        assert journal.try_open()
        assert journal.intent == INTENT
        journal.clear()
    assert names(folder / "default") == []


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=3000).map(lambda piece: piece.replace(b"\0", b"x")), max_size=60))
def test_any_pieces(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    """However an answer arrives, it is found as it came, up to its limit."""
    folder = tmp_path_factory.mktemp("any")
    whole = b"".join(pieces)
    with sealed(folder, KEY).journal("default") as journal:
        armed(journal, *pieces).sync()
    assert found(folder) == whole[:ANSWER_LIMIT]


@pytest.mark.parametrize("size", [1, 2, 3, 64, 255, 1023, 1024, 1025, 8192, STAGE_LIMIT])
def test_an_answer_that_drips(folder: Path, size: int) -> None:
    """All that may come has its room, in single bytes as well; what comes beyond it is left out."""
    piece = b"x" * size
    with sealed(folder, KEY).journal("default") as journal:
        armed(journal)
        for _ in range(STAGE_LIMIT // size):
            journal.stage(piece)
        journal.sync()
        assert len(journal._inner.answer) < STAGE_LIMIT * 3 // 4
    assert found(folder) == b"x" * ANSWER_LIMIT


def test_nothing_is_asked_of_the_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the store is proven, keeping an answer needs neither randomness nor a file."""

    def refuse(*_arguments: object) -> object:
        raise OSError(5, "no")

    with sealed(folder, KEY).journal("default") as journal:
        armed(journal)
        with monkeypatch.context() as patch:
            for name in ("urandom", "open", "write", "read", "fsync", "getpid"):
                patch.setattr(os, name, refuse)
            journal.stage(ANSWER)
    assert found(folder) == ANSWER


def test_nothing_is_kept_of_what_was_not_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the store is proven, and once the journal is cleared, nothing is kept: in clear least of all."""
    staged: list[bytes] = []
    with sealed(folder, KEY).journal("default") as journal:
        monkeypatch.setattr(journal._inner, "stage", staged.append)
        journal.stage(ANSWER)
        armed(journal, ANSWER)
        assert len(staged) == 1
        journal.clear()
        journal.stage(ANSWER)
    assert len(staged) == 1
    assert b"s3kr1t" not in staged[0]


def test_a_line_that_broke_off(folder: Path) -> None:
    """Wherever the writer was killed, the pieces before are found, and never half a one."""
    path = left(folder, b"first,", b"second,", b"third")
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = max(content[:length].count(b"\n") - 1, 0)
        assert found(folder) == b"".join([b"first,", b"second,", b"third"][:whole])


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], b""),
        (lambda lines: [lines[0], lines[1], lines[3]], b"first,"),
        (lambda lines: [lines[0], lines[1], lines[1], lines[2]], b"first,"),
        (lambda lines: [lines[0], lines[1], lines[2][:-5] + b"AAAA\n", lines[3]], b"first,"),
        (lambda lines: [lines[0], lines[1], b"\n", lines[3]], b"first,"),
        (lambda lines: [lines[0], lines[1], b"not base64\n", lines[3]], b"first,"),
        (lambda lines: [lines[0].replace(b"answer ", b"answer f"), *lines[1:]], b""),
        (lambda lines: [lines[0].replace(b" answer ", b" 42 "), *lines[1:]], b""),
        (lambda lines: [lines[0][:-2] + (b"0\n" if lines[0][-2:] != b"0\n" else b"1\n"), *lines[1:]], b""),
    ],
)
def test_a_line_that_was_changed(folder: Path, change: Callable[[list[bytes]], list[bytes]], kept: bytes) -> None:
    """Lines left out, swapped, repeated or changed: the answer ends before the first of them."""
    path = left(folder, b"first,", b"second,", b"third")
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    assert found(folder) == kept


def test_the_format_of_an_answer_is_as_written_down(folder: Path) -> None:
    """A nonce that counts, and beside each piece line 1, kind, name, what it answers, and its number."""
    path = left(folder, b"first,", b"second,")
    head, *lines = path.read_bytes().splitlines()
    nonce = int(head.removeprefix(f"loopback-auth sealed 1 {KEY_ID} answer ".encode()), 16)
    answers = hashlib.sha256(json.dumps([7, "ab" * 32, None]).encode()).hexdigest().encode()
    pieces = [
        AESGCM(KEY).decrypt(
            ((nonce + number) % 2**96).to_bytes(12, "big"),
            base64.b64decode(line, validate=True),
            b"\0".join((head, b"piece", b"default", answers, str(number).encode())),
        )
        for number, line in enumerate(lines)
    ]
    assert pieces == [b"first,", b"second,"]


def test_an_answer_of_another_account(folder: Path) -> None:
    """Intent and answer of one account, put into another's folder, hold nothing for that."""
    path = left(folder, ANSWER)
    path.parent.rename(folder / "other")
    with sealed(folder, KEY).journal("other") as journal:
        assert journal.try_open()
        assert journal.intent == INTENT
        assert journal.answer == b""


@pytest.mark.parametrize("change", [{"generation": 8}, {"digest": "cd" * 32}, {"grant": {"x": 1}}])
def test_an_answer_to_something_else(folder: Path, change: dict[str, object]) -> None:
    """An answer belongs to what was sent: to another generation, refresh token or grant it is none."""
    content = left(folder, ANSWER).read_bytes()
    with sealed(folder, KEY).journal("default") as journal:
        assert journal.try_open()
        journal.clear()
    left(folder, ANSWER, intent=replace(INTENT, **change)).write_bytes(content)  # type: ignore[arg-type]
    assert found(folder) == b""


def test_a_grant_with_another_token_endpoint(folder: Path) -> None:
    """Who changes where a killed login's tokens would be sent gets none of them."""
    grant = Grant(account="default", registration=REGISTRATION, client_secret={"env": "ACME"})
    answer = left(folder, ANSWER, intent=intent_of(grant, clock.now()), login=True)
    accounts = Accounts(sealed(folder, KEY))
    assert to_adopt(accounts, "default")
    intent = answer.with_name(answer.name.replace("answer", "intent"))
    content = intent.read_bytes()
    assert b"https://server.example/token" in content
    intent.write_bytes(content.replace(b"https://server.example/token", b"https://mallory.example/token"))
    assert not to_adopt(accounts, "default")
    intent.write_bytes(content)
    assert to_adopt(accounts, "default")


def test_a_record_is_no_answer(folder: Path) -> None:
    """Neither can stand in the other's place."""
    store = sealed(folder, KEY)
    Accounts(store).save(account())
    record = tokens(folder).read_bytes()
    path = left(folder, ANSWER)
    answer = path.read_bytes()
    path.write_bytes(record)
    assert found(folder) == b""
    tokens(folder).write_bytes(answer)
    assert TAMPERED in str(refused(store))


def test_an_answer_in_clear(folder: Path) -> None:
    """It is adopted where accounts are on their way to be sealed; elsewhere somebody else has put it there."""
    with FileStore(str(folder)).journal("default") as journal:
        journal.prove()
        journal.arm(INTENT)
        journal.stage(ANSWER)
    assert found(folder) == ANSWER
    with pytest.raises(Unopenable, match=r"the last answer for account default .* is not sealed"):
        found(folder, allow_plain=False)


def test_an_answer_whose_key_is_missing(folder: Path) -> None:
    """Nobody may take it for no answer: with another key or none it raises, with its own among them it is there."""
    left(folder, ANSWER)
    with pytest.raises(Unopenable, match=rf"the last answer for .* is sealed with key {KEY_ID}, which is not given"):
        found(folder, OTHER)
    with unkeyed(folder).journal("default") as journal:
        assert journal.try_open()
        with pytest.raises(Unopenable, match=r"the last answer for .* is sealed with key .*, and no key was given"):
            _ = journal.answer
    assert found(folder, OTHER, KEY) == ANSWER


async def test_a_login_whose_key_is_missing(folder: Path) -> None:
    """What a killed login left stays for whoever has the key, and is in nobody's way."""
    grant = Grant(account="default", registration=REGISTRATION, client_secret={"env": "ACME"})
    path = left(folder, ANSWER, intent=intent_of(grant, clock.now()), login=True)
    content = path.read_bytes()
    other = Accounts(sealed(folder, OTHER))
    assert not to_adopt(other, "default")
    await adoption.adopt(other, "default")
    assert path.read_bytes() == content
    await adoption.adopt_left(Accounts(sealed(folder, OTHER, KEY)), "default")
    adopted = other.load("default")
    assert adopted is not None
    assert adopted.tokens.refresh_token == Secret("s3kr1t-next")
    assert names(folder / "default") == ["lock", "tokens"]


def test_a_former_answer_is_kept(folder: Path) -> None:
    """What an earlier sending brought stays sealed under another name, and the next answer has a nonce of its own."""
    left(folder, b"garbage")
    store = sealed(folder, KEY)
    with store.journal("default") as journal:
        armed(journal, ANSWER)
        assert journal.answer == ANSWER
        assert journal.intent is not None
        assert journal.intent.sendings == 2
    former = (folder / "default" / "answer.1").read_bytes()
    assert former.split()[5] != (folder / "default" / "answer").read_bytes().split()[5]
    assert b"garbage" not in former
    with store.journal("default") as journal:
        assert journal.try_open()
        journal.withdraw()
        assert journal.intent == INTENT
        assert journal.news is None
        journal.tidy()
        assert journal.intent == INTENT
