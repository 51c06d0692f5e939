"""The journal of a spend: who may send, what is known of it by whoever comes next, and what is kept of the answer."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopback_auth.clock import Moment
from loopback_auth.errors import Overtaken, StoreBusy, StoreError, StoreNotWritable, StoreUnsafe
from loopback_auth.store import journal as journal_module
from loopback_auth.store import lock as lock_module
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import STAGE_LIMIT, Intent
from loopback_auth.store.file import FileStore
from loopback_auth.store.journal import FileJournal, login_journals

from .accounts import BOOT, account
from .planted import PLANTED, fifo, folder, mode, names

INTENT = Intent(generation=7, digest="ab" * 32, armed=Moment(1_700_000_000.25, BOOT, 4711.5))
ANSWER = b'{"access_token": "s3kr1t-new", "refresh_token": "s3kr1t-next"}'
LOGIN = "login-0123abcd-"

SENDING = """
import sys
from loopback_auth.clock import Moment
from loopback_auth.errors import Overtaken
from loopback_auth.store.base import Intent
from loopback_auth.store.journal import FileJournal

with FileJournal(sys.argv[1], sys.argv[2]) as journal:
    print(journal.try_open(), flush=True)
    sys.stdin.readline()
    try:
        journal.prove()
        journal.arm(Intent(generation=7, digest="ab" * 32, armed=Moment(1_700_000_000.25, sys.argv[3], 4711.5)))
    except Overtaken:
        print("overtaken", flush=True)
        sys.exit()
    for piece in sys.argv[4:]:
        journal.stage(piece.encode())
    print("armed", flush=True)
    sys.stdin.read()
"""
"""Another process: it opens, waits for a line, proves, arms, stages what it was given and waits to be killed."""


class Sender(subprocess.Popen[bytes]):
    def __init__(self, place: Path, prefix: str, *pieces: bytes) -> None:
        command = [sys.executable, "-c", SENDING, str(place), prefix, BOOT]
        super().__init__([*command, *map(os.fsdecode, pieces)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.stdin is not None
        assert self.stdout is not None
        self._line, self._go = self.stdout.readline, self.stdin

    def opened(self) -> bool:
        """Return whether it could open the journal."""
        return self._line() == b"True\n"

    def begin(self) -> None:
        self._go.write(b"\n")
        self._go.flush()

    def armed(self) -> bool:
        """Return whether it was first."""
        said = self._line()
        assert said in {b"armed\n", b"overtaken\n"}
        return said == b"armed\n"


@contextmanager
def sender(place: Path, *pieces: bytes, prefix: str = "") -> Iterator[Sender]:
    """Another process that has armed and got these pieces of an answer."""
    with Sender(place, prefix, *pieces) as process:
        try:
            assert process.opened()
            process.begin()
            assert process.armed()
            yield process
        finally:
            process.kill()


def killed(place: Path, *pieces: bytes, prefix: str = "") -> None:
    """Leave what a process leaves that is killed while it waits for the rest of the answer."""
    with sender(place, *pieces, prefix=prefix) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of an account."""
    path = tmp_path / "accounts" / "default"
    path.mkdir(0o700, parents=True)
    path.parent.chmod(0o700)
    return path


@pytest.fixture
def journal(place: Path) -> Iterator[FileJournal]:
    with FileJournal(str(place)) as journal:
        yield journal


def another(place: Path, prefix: str = "") -> FileJournal:
    return FileJournal(str(place), prefix)


def opened(journal: FileJournal) -> FileJournal:
    assert journal.try_open()
    return journal


def sendings(journal: FileJournal) -> int:
    return journal.intent.sendings if journal.intent is not None else 0


def arm(journal: FileJournal, answer: bytes = b"", intent: Intent = INTENT) -> None:
    journal.prove()
    journal.arm(intent)
    journal.stage(answer)


# --- one sends ---


def test_nothing_is_known_before_anything_is_sent(journal: FileJournal, place: Path) -> None:
    """An account that was never refreshed: open at once, nothing in doubt, no answer, and nothing made."""
    assert opened(journal).intent is None
    assert journal.answer == b""
    journal.tidy()
    assert names(place) == []


@pytest.mark.parametrize("armed", [False, True])
def test_one_of_two_proves(journal: FileJournal, place: Path, armed: bool) -> None:
    """Whoever has proven the store is the one to send; another is overtaken, and disturbs nothing of the first."""
    with another(place) as second:
        assert opened(second).intent is None
        journal.prove()
        if armed:
            journal.arm(INTENT)
            journal.stage(ANSWER)
        with pytest.raises(Overtaken) as caught:
            second.prove()
        assert str(caught.value) == f"another process is working on {place}"
        assert caught.value.hint == ("nothing was spent; try again",)
        assert caught.value.exit_status == StoreBusy.exit_status == 8
        assert second.intent is None
        assert not second.try_open()
    assert names(place) == ["answer", "intent"]
    if not armed:
        journal.arm(INTENT)
        journal.stage(ANSWER)
    assert (journal.intent, journal.answer) == (INTENT, ANSWER)
    journal.__exit__(None, None, None)
    assert opened(another(place)).intent == INTENT


def test_a_process_that_sends_meanwhile(journal: FileJournal, place: Path) -> None:
    """Nothing was in the way a moment ago, and now another process sends: this one may not, and the answer stays."""
    assert opened(journal).intent is None
    with sender(place, ANSWER) as other:
        with pytest.raises(Overtaken):
            journal.prove()
        journal.__exit__(None, None, None)
        assert names(place) == ["answer", "intent"]
        other.kill()
        other.wait()
        assert opened(journal).answer == ANSWER


def test_an_intent_that_is_no_process_s(journal: FileJournal, place: Path) -> None:
    """Whatever stands in the intent's place when the store is proven, a dangling link too: left alone, not followed."""
    for dangling in (False, True):
        if dangling:
            (place / "intent").symlink_to(place / "elsewhere")
        else:
            (place / "intent").touch()
        with another(place) as second, pytest.raises(Overtaken):
            second.prove()
        assert names(place) == ["intent"]
        (place / "intent").unlink()


def test_many_processes_arm_at_once(place: Path) -> None:
    """Six that have all found nothing in the way: one may send."""
    racing = [Sender(place, "") for _ in range(6)]
    try:
        assert [process.opened() for process in racing] == [True] * 6
        for process in racing:
            process.begin()
        assert sorted(process.armed() for process in racing) == [False] * 5 + [True]
        assert not another(place).try_open()
    finally:
        for process in racing:
            process.kill()
            process.communicate()


# --- who comes next ---


def test_nobody_takes_over_from_a_living_sender(journal: FileJournal, place: Path) -> None:
    """While the process lives that armed, waiting or stopped, however old its files: not opened, nothing seen of it."""
    with sender(place, ANSWER) as other:
        assert not journal.try_open()
        other.send_signal(signal.SIGSTOP)
        for name in names(place):
            os.utime(place / name, (0, 0))
        assert not journal.try_open()
        assert journal.intent is None
        other.send_signal(signal.SIGCONT)
        assert names(place) == ["answer", "intent"]


def test_a_killed_sender_is_taken_over_from(journal: FileJournal, place: Path) -> None:
    """After kill -9 the next process knows what was sent, when, that it was once, and every byte that came."""
    pieces = (ANSWER[:10], ANSWER[10:])
    killed(place, *pieces)
    assert opened(journal).intent == INTENT
    assert journal.answer == ANSWER
    journal.tidy()
    assert journal.intent == INTENT
    assert names(place) == ["answer", "intent"]


def test_one_takes_over(journal: FileJournal, place: Path) -> None:
    """Of two who come next one gets it, and as often as it asks; the other when that one has ended."""
    killed(place)
    with another(place) as first:
        assert opened(first).try_open()
        assert not journal.try_open()
    assert opened(journal).intent == INTENT


def test_a_child_does_not_hold_the_journal(place: Path) -> None:
    """A process that the sender started, a browser for one, does not keep it shut."""
    program = "import sys; print('begun', flush=True); sys.stdin.read()"
    with another(place) as journal:
        arm(journal)
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
    with child, another(place) as next_one:
        assert next_one.try_open()
        child.kill()


def test_all_of_an_intent_is_kept(journal: FileJournal, place: Path) -> None:
    """Generation, digest, both clocks, a login's grant, and which process it was; on lines of their own."""
    intent = Intent(generation=0, digest="", armed=Moment(1.5, "-", 0.0), grant={"a": [1, None, "ü\n"]})
    arm(journal, intent=intent)
    (line,) = (place / "intent").read_bytes().splitlines()
    assert json.loads(line)["process"] == os.getpid()
    journal.__exit__(None, None, None)
    assert opened(another(place)).intent == intent


@given(
    st.binary(max_size=200) | st.lists(st.sampled_from([b"{}", b"[]", b"1", b"null", b"[" * 99_999])).map(b"\n".join)
)
@example(b'{"generation": "x", "digest": "", "armed": [1, "-", 0], "grant": null}\n')
@example(b'{"generation": 1, "digest": "", "armed": 1, "grant": null}\n')
def test_any_intent_can_be_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever bytes stand there: as many sendings as whole lines, or none; what is not ours is about nothing known."""
    place = tmp_path_factory.mktemp("account")
    (place / "intent").write_bytes(content)
    (place / "intent").chmod(0o600)
    with another(place) as journal:
        assert sendings(opened(journal)) == content.count(b"\n")


# --- counting ---


def test_each_sending_is_counted(journal: FileJournal, place: Path) -> None:
    """Armed again by the same process and by the next: one more each time, and the moment is that of the last."""
    arm(journal)
    later = Intent(generation=7, digest="ab" * 32, armed=Moment(1_700_000_002.25, BOOT, 4713.5))
    arm(journal, intent=later)
    assert journal.intent == Intent(generation=7, digest="ab" * 32, armed=later.armed, sendings=2)
    journal.__exit__(None, None, None)
    with another(place) as next_one:
        arm(opened(next_one))
        assert next_one.intent == Intent(generation=7, digest="ab" * 32, armed=INTENT.armed, sendings=3)
        assert len((place / "intent").read_bytes().splitlines()) == 3


@pytest.mark.parametrize(
    ("limit", "reason"),
    [(resource.RLIMIT_FSIZE, "file too large"), (resource.RLIMIT_NOFILE, "too many open files")],
)
def test_arming_that_fails_is_not_counted(journal: FileJournal, place: Path, limit: int, reason: str) -> None:
    """The line cannot be written, or its folder not be synced: not sent, and in doubt is what was before."""
    before = resource.getrlimit(limit)
    for counted in (0, 1, 2):
        journal.prove()
        resource.setrlimit(limit, (10 if limit == resource.RLIMIT_FSIZE else 0, before[1]))
        try:
            with pytest.raises(StoreNotWritable, match=f"cannot be written: {reason}") as caught:
                journal.arm(INTENT)
        finally:
            resource.setrlimit(limit, before)
        assert caught.value.exit_status == 8
        assert sendings(journal) == counted
        arm(journal)
        assert sendings(journal) == counted + 1
    journal.clear()
    journal.prove()
    journal.__exit__(None, None, None)
    assert names(place) == []


def test_a_line_that_broke_off_was_not_sent(place: Path) -> None:
    """Cut anywhere before its end, the line is none: nothing is in doubt, and tidying removes it."""
    with another(place) as journal:
        arm(journal)
    whole = (place / "intent").read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (place / "intent").write_bytes(whole[:length])
        with another(place) as journal:
            assert opened(journal).intent is None
            journal.tidy()
            assert names(place) == []
        killed(place)


def test_a_second_line_that_broke_off_was_not_sent(place: Path) -> None:
    """The first sending stays what is in doubt, and the next one is the second."""
    killed(place, ANSWER)
    with (place / "intent").open("ab") as file:
        file.write(b'{"generation": 7, "dig')
    with another(place) as journal:
        assert opened(journal).intent == INTENT
        journal.tidy()
        assert (journal.intent, journal.answer) == (INTENT, ANSWER)
        arm(journal)
        assert sendings(journal) == 2
    assert all(json.loads(line) for line in (place / "intent").read_bytes().splitlines())


def test_a_sending_is_taken_back(journal: FileJournal, place: Path) -> None:
    """What turned out not to be spent is not counted: the one before stays in doubt; without one, nothing is left."""
    arm(journal)
    arm(journal)
    journal.withdraw()
    assert journal.intent == INTENT
    journal.__exit__(None, None, None)
    assert opened(journal).intent == INTENT
    arm(journal)
    assert sendings(journal) == 2
    journal.withdraw()
    journal.withdraw()
    assert sendings(journal) == 0
    assert names(place) == []


def test_answers_of_earlier_sendings_are_kept(journal: FileJournal, place: Path) -> None:
    """Each by its number, the last as `answer`, where anything came at all; until the outcome is known."""
    for answer in (b"s3kr1t-1", b"", b"s3kr1t-3", b"s3kr1t-4"):
        arm(journal, answer)
        assert journal.answer == answer
    kept = {name: (place / name).read_bytes().rstrip(b"\0") for name in names(place) if name != "intent"}
    assert kept == {"answer.1": b"s3kr1t-1", "answer.3": b"s3kr1t-3", "answer": b"s3kr1t-4"}
    assert {mode(path) for path in place.iterdir()} == {"0600"}
    journal.clear()
    assert names(place) == []
    assert journal.intent is None
    assert journal.answer == b""


def test_clearing_what_is_not_there(tmp_path: Path) -> None:
    """Cleared twice, or before there is a folder: without effect."""
    with FileJournal(str(tmp_path / "accounts" / "absent")) as journal:
        journal.clear()
        journal.tidy()
        assert not journal.answer
        arm(journal, ANSWER)
        journal.clear()
        journal.clear()
        arm(journal)
        assert journal.intent == INTENT
    assert mode(tmp_path / "accounts" / "absent") == "0700"


# --- the answer ---


def test_an_answer_is_at_most_128_kib(journal: FileJournal, place: Path) -> None:
    """What comes behind that is not kept, in one piece or in many; the file has that length from the beginning."""
    arm(journal)
    assert (place / "answer").stat().st_size == STAGE_LIMIT == 128 * 1024
    for _ in range(200):
        journal.stage(b"x" * 1000)
    journal.stage(b"")
    journal.sync()
    assert journal.answer == b"x" * STAGE_LIMIT
    assert (place / "answer").stat().st_size == STAGE_LIMIT
    arm(journal, b"y" * (STAGE_LIMIT + 1))
    assert journal.answer == b"y" * STAGE_LIMIT
    journal.__exit__(None, None, None)
    assert opened(another(place)).answer == b"y" * STAGE_LIMIT


def test_each_answer_begins_anew(journal: FileJournal) -> None:
    """Nothing of an earlier, longer answer is behind a later one."""
    arm(journal, b"x" * 1000)
    journal.clear()
    arm(journal, b"y")
    assert journal.answer == b"y"
    arm(journal, b"z")
    assert journal.answer == b"z"


def test_staging_needs_no_system_call(place: Path) -> None:
    """Where no file may grow and no descriptor is to be had any more, an answer is kept all the same."""
    limits = """    import resource
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))
"""
    program = SENDING.replace("    for piece", f"{limits}    for piece")
    command = [sys.executable, "-c", program, str(place), "", BOOT, ANSWER.decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.communicate(b"\n")[0].splitlines()[-1] == b"armed"
    assert opened(another(place)).answer == ANSWER


def test_without_arming_nothing_is_staged(journal: FileJournal, place: Path) -> None:
    """An answer to nothing that was sent is kept nowhere."""
    journal.stage(ANSWER)
    journal.sync()
    assert names(place) == []
    assert journal.answer == b""


# --- files ---


def test_all_files_are_private(journal: FileJournal, place: Path) -> None:
    """Born 0600 whatever the umask: the intent, answers and the room reserved for one."""
    before = os.umask(0)
    try:
        arm(journal, ANSWER)
        arm(journal, ANSWER)
        journal.prove()
    finally:
        os.umask(before)
    assert names(place) == ["answer", "answer.1", "answer.2", "intent"]
    assert {mode(path) for path in place.iterdir()} == {"0600"}


def test_no_secret_is_in_the_intent(journal: FileJournal, place: Path) -> None:
    """A digest says which refresh token it was; the token is not in there."""
    of = account()
    arm(journal, ANSWER, Intent(generation=of.generation, digest=of.digest, armed=INTENT.armed))
    assert b"s3kr1t" not in (place / "intent").read_bytes()
    assert of.digest.encode() in (place / "intent").read_bytes()


def test_proving_leaves_room_for_an_answer_and_nothing_else(journal: FileJournal, place: Path) -> None:
    """As much as an answer may need is on the disk before anything is sent; who goes on to send nothing leaves none."""
    journal.prove()
    assert names(place) == ["answer", "intent"]
    assert (place / "intent").read_bytes() == b""
    status = (place / "answer").stat()
    assert (status.st_size, status.st_blocks * 512 >= STAGE_LIMIT) == (STAGE_LIMIT, True)
    journal.__exit__(None, None, None)
    assert names(place) == []


def test_leftovers_of_killed_processes_are_removed(place: Path) -> None:
    """What belongs to nothing that was sent goes; tokens, lock, a login under way and what is not ours stay."""
    stay = ["last-error", "lock", "login", f"{LOGIN}answer", f"{LOGIN}intent", "notes", "tokens", "tokens.old"]
    go = ["answer", "answer.1", "answer.4711.new", "probe.4711", "probe.4711.4711.new"]
    go += ["tokens.4711.new", "last-error.4711.new"]
    for name in stay + go:
        (place / name).write_bytes(b"s3kr1t-left")
    with another(place) as journal:
        opened(journal).tidy()
    assert names(place) == sorted(stay)


def test_nothing_is_removed_while_it_is_in_doubt(place: Path) -> None:
    """An intent that is whole keeps its answers, however often somebody tidies."""
    with another(place) as journal:
        arm(journal, ANSWER)
        arm(journal, ANSWER)
    before = names(place)
    with another(place) as journal:
        opened(journal).tidy()
    assert names(place) == before == ["answer", "answer.1", "intent"]


def test_leftovers_that_cannot_be_removed(journal: FileJournal, place: Path) -> None:
    """A folder in a leftover's place: said, before anything is sent."""
    (place / "answer").mkdir(0o700)
    with pytest.raises(StoreNotWritable, match="cannot be written: is a directory"):
        opened(journal).tidy()
    with pytest.raises(StoreUnsafe, match="/answer is not a regular file"):
        journal.prove()
    journal.__exit__(None, None, None)
    assert names(place) == ["answer"]


@pytest.mark.parametrize(("plant", "message", "hint"), PLANTED)
@pytest.mark.parametrize("name", ["intent", "answer"])
def test_planted_files_are_refused(
    place: Path, name: str, plant: Callable[[Path], None], message: str, hint: str
) -> None:
    """Links, FIFOs, files of others and files that others can read are not taken for ours, and hold nobody up."""
    killed(place, ANSWER)
    plant(place / name)
    if plant is folder and name == "intent":
        message = "{} cannot be opened: is a directory"
    with another(place) as journal, pytest.raises(StoreUnsafe) as caught:
        assert opened(journal).answer
    assert str(caught.value) == message.format(place / name)
    assert caught.value.hint == (hint.format(place / name),)


@pytest.mark.parametrize("name", ["answer", "answer.1", "probe.{}", "probe.{0}.{0}.new"])
@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo"])
def test_nothing_is_written_through_what_was_planted(
    journal: FileJournal, place: Path, tmp_path: Path, name: str, kind: str
) -> None:
    """A link or FIFO where a file of ours is about to be is replaced, and what it leads to is as it was."""
    elsewhere, planted = tmp_path / "elsewhere", place / name.format(os.getpid())
    elsewhere.write_bytes(b"precious")
    match kind:
        case "symlink":
            planted.symlink_to(elsewhere)
        case "hard link":
            planted.hardlink_to(elsewhere)
        case "fifo":
            planted.touch()
            fifo(planted)
    if name.startswith("answer"):
        opened(journal).tidy()
    arm(journal, ANSWER)
    journal.sync()
    assert (place / "answer").is_file()
    assert (place / "answer").read_bytes().rstrip(b"\0") == ANSWER
    assert elsewhere.read_bytes() == b"precious"
    assert names(place) == ["answer", "intent"]


def test_a_loose_folder_cannot_be_proven(journal: FileJournal, place: Path) -> None:
    """A folder that others can enter: refused before anything is written."""
    place.chmod(0o750)
    with pytest.raises(StoreError, match="can be entered by other users"):
        journal.prove()
    assert names(place) == []


# --- logins ---


def test_two_logins_do_not_disturb_each_other(place: Path) -> None:
    """Each has a journal of its own, apart from that of a refresh; clearing one leaves the others whole."""
    store = FileStore(str(place.parent))
    with (
        store.login_journal("default") as one,
        store.login_journal("default") as two,
        store.journal("default") as third,
    ):
        for journal, answer in ((one, b"s3kr1t-1"), (two, b"s3kr1t-2"), (third, b"s3kr1t-3")):
            arm(journal, answer)
        assert [journal.answer for journal in (one, two, third)] == [b"s3kr1t-1", b"s3kr1t-2", b"s3kr1t-3"]
        assert len(names(place)) == 6
        one.clear()
        assert len(names(place)) == 4
        assert (two.intent, two.answer) == (INTENT, b"s3kr1t-2")
        third.clear()
        assert len(names(place)) == 2
        assert (two.intent, two.answer) == (INTENT, b"s3kr1t-2")
        assert opened(third).intent is None


def test_a_login_clears_its_own_files_alone(journal: FileJournal, place: Path) -> None:
    """It does not hold the account's lock: what another process is about to rename into place is not for it."""
    arm(journal)
    for name in ("tokens.4711.new", "last-error.4711.new", "probe.4711", "login-00000000-answer"):
        (place / name).touch(0o600)
    before = names(place)
    with another(place, LOGIN) as login:
        arm(login, ANSWER)
        arm(login, ANSWER)
        login.clear()
    assert names(place) == before


def test_a_login_under_way_is_seen_and_left_alone(place: Path) -> None:
    """Its journal is listed and cannot be opened; neither logging out nor tidying nor another login touches it."""
    store = FileStore(str(place.parent))
    Accounts(store).save(account())
    with sender(place, ANSWER, prefix=LOGIN):
        before = [name for name in names(place) if name.startswith("login-")]
        (listed,) = store.login_journals("default")
        assert not listed.try_open()
        with store.journal("default") as journal:
            opened(journal).tidy()
        with store.login_journal("default") as other:
            arm(other)
            other.clear()
        store.remove("default")
        assert names(place) == before == [f"{LOGIN}answer", f"{LOGIN}intent"]


def test_what_a_killed_login_left_is_found(place: Path) -> None:
    """All that have not ended as they should, in one order; a pending login and files of other names are none."""
    for prefix in (LOGIN, "login-00000000-"):
        killed(place, ANSWER, prefix=prefix)
    for name in ("login", "login-xyz-intent", "login-0123ABCD-intent", "intent", "notes"):
        (place / name).touch(0o600)
    found = login_journals(str(place))
    for journal in found:
        with journal:
            assert opened(journal).intent == INTENT
            assert journal.answer == ANSWER
            journal.clear()
    assert len(found) == 2
    assert login_journals(str(place)) == []
    assert names(place) == ["intent", "login", "login-0123ABCD-intent", "login-xyz-intent", "notes"]


def test_young_files_without_an_intent_are_left_alone(place: Path) -> None:
    """A probe, and no intent yet: a login that is about to begin; a minute later, one that was killed."""
    probes = [place / f"{LOGIN}probe.4711", place / f"{LOGIN}probe.4711.4711.new"]
    now = time.time()
    for probe, age in zip(probes, (50, 3600), strict=True):
        probe.touch(0o600)
        os.utime(probe, (now - age, now - age))
    assert login_journals(str(place)) == []
    os.utime(probes[0], (now - 70, now - 70))
    (found,) = login_journals(str(place))
    with found:
        assert opened(found).intent is None
        found.clear()
    assert names(place) == []


@pytest.mark.parametrize("left", ["intent", "answer"])
def test_what_a_login_left_that_was_killed_between(place: Path, left: str) -> None:
    """An intent without a line, an answer whose intent is gone already: found at once, and nothing is known of it."""
    (place / f"{LOGIN}{left}").touch(0o600)
    (found,) = login_journals(str(place))
    with found:
        assert opened(found).intent is None
        found.clear()
    assert names(place) == []


def test_no_logins_where_there_is_no_folder(place: Path) -> None:
    """No folder, or a file in its place: no login was begun."""
    (place / "file").touch()
    assert login_journals(str(place / "absent")) == login_journals(str(place / "file")) == []


def test_logging_out_forgets_what_logins_left(place: Path) -> None:
    """Tokens of a login that was killed are not kept when the account is removed."""
    store = Accounts(FileStore(str(place.parent)))
    store.save(account())
    killed(place, ANSWER, prefix=LOGIN)
    assert store.remove("default")
    assert names(place) == []


def test_who_only_looks_removes_nothing(place: Path) -> None:
    """An intent that another process has just made, and not yet locked, outlives everybody who looks at it."""
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    (place / "intent").touch(0o600)
    with FileJournal(str(place)) as looker:
        assert looker.try_open()
        assert looker.intent is None
    assert (place / "intent").exists()


def test_a_withdrawal_is_durable(journal: FileJournal, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent is synced after a line was taken back: a power cut does not bring it back."""
    arm(journal)
    arm(journal)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    journal.withdraw()
    assert synced == [(place / "intent").stat().st_ino]


def test_an_intent_that_is_replaced_meanwhile(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced or removed between opening and locking: it is neither taken over nor sent under."""
    really = lock_module.take
    place.mkdir(parents=True, exist_ok=True, mode=0o700)

    def replaced(descriptor: int, path: str) -> bool:
        os.unlink(path)
        Path(path).touch(0o600)
        return really(descriptor, path)

    def removed(descriptor: int, path: str) -> bool:
        os.unlink(path)
        return really(descriptor, path)

    with FileJournal(str(place)) as first:
        monkeypatch.setattr(journal_module, "take", removed)
        with pytest.raises(Overtaken):
            first.prove()
    (place / "intent").touch(0o600)
    with FileJournal(str(place)) as second:
        monkeypatch.setattr(journal_module, "take", replaced)
        assert not second.try_open()
